"""An exact store of embeddings already made: it saves work and never changes a result."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from core.types import Embedding, FloatArray

_ENTRY_BYTES = 1024  # key strings, objects and table slots of one entry


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoKey:
    """All that an embedding depends on, and whose it is.

    `content_sha256` is the full digest of the bytes as sent; `decode_options` is any text that differs when the same
    bytes are decoded otherwise; `tenant` keeps one client from learning by timing what another has sent.
    """

    encoder_id: str
    content_sha256: str
    decode_options: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedMedium:
    """An embedding, with the shape and rates of the array that it was made from."""

    embedding: Embedding
    shape: tuple[int, ...] = ()
    sample_rate_hz: float | None = None
    frames_per_s: float | None = None
    frame_times_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoStats:
    """Counters since the start, and what is held now."""

    hits: int
    misses: int
    entries: int
    size_bytes: int


class EmbeddingMemo:
    """Encoded media by `MemoKey`, the least recently used dropped beyond `max_bytes`. Safe in several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[MemoKey, EncodedMedium] = OrderedDict()
        self._size_bytes = self._hits = self._misses = 0

    def get(self, key: MemoKey) -> EncodedMedium | None:
        """Return what was kept, or None for a miss; both are counted."""
        with self._lock:
            medium = self._entries.get(key)
            if medium is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(key)
            return medium

    def put(self, key: MemoKey, medium: EncodedMedium) -> None:
        """Keep a medium with read-only copies of its arrays. One larger than the whole memo is not kept."""
        if _entry_bytes(medium) > self._max_bytes:
            return
        embedding = medium.embedding
        features = tuple(map(_read_only, embedding.features))
        kept = replace(embedding, vector=_read_only(embedding.vector), features=features)
        copy = replace(medium, embedding=kept)
        with self._lock:
            self._drop(key)
            self._entries[key] = copy
            self._size_bytes += _entry_bytes(copy)
            while self._size_bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def stats(self) -> MemoStats:
        """Return the counters."""
        with self._lock:
            return MemoStats(self._hits, self._misses, len(self._entries), self._size_bytes)

    def _drop(self, key: MemoKey) -> None:
        if (dropped := self._entries.pop(key, None)) is not None:
            self._size_bytes -= _entry_bytes(dropped)


def _read_only(array: FloatArray) -> FloatArray:
    copy = array.copy()  # a row's view would keep its whole batch alive
    copy.flags.writeable = False
    return copy


def _entry_bytes(medium: EncodedMedium) -> int:
    embedding, scenes = medium.embedding, medium.embedding.scenes
    arrays = [embedding.vector, *embedding.features, *(scene.vector for scene in scenes if scene.vector is not None)]
    arrays_bytes = sum(array.nbytes for array in arrays)
    return _ENTRY_BYTES + 64 * len(medium.frame_times_s) + 512 * len(scenes) + int(arrays_bytes)
