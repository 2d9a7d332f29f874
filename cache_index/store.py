"""One named index on disk: written atomically, read while it is written, and the shelf of several of them.

A folder holds a manifest and immutable segments. A change writes new segments beside the old, flushes them to the disk,
and replaces the manifest: that rename is the commit. A kill before it leaves the old generation, after it the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cache_index.index import FaissIndex, IdArray, choose_kind, read_index, train_index
from cache_index.manifest import MANIFEST_NAME, FileRecord, Manifest, Segment, read_manifest, verify_files
from cache_index.visual_cache import normalize
from core.errors import ConfigError, InvalidRequest, StorageFull, UnknownName
from core.types import FloatArray

_MAX_SMALL_SEGMENTS = 8
_OPEN_ATTEMPTS = 5
_LOCK_NAME = ".lock"

Fault = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemMetadata:
    """What is known of one stored row, besides its vector."""

    file: str | None = None
    caption: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One stored row near a query; `score` is the inner product."""

    id: int
    score: float
    metadata: ItemMetadata


class MetadataFile:
    """The metadata of a segment: one JSON object per line, read when asked for."""

    def __init__(self, path: Path, count: int) -> None:
        self._bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
        self._ends = np.flatnonzero(self._bytes == ord("\n"))  # (N,)
        if len(self._ends) != count:
            raise ConfigError(f"{path} has {len(self._ends)} lines for {count} vectors; build the index again")

    def row(self, position: int) -> ItemMetadata:
        start = int(self._ends[position - 1]) + 1 if position else 0
        return ItemMetadata(**json.loads(self._bytes[start : int(self._ends[position])].tobytes()))


class IndexReader:
    """One generation, opened: a `VectorIndex` over its segments, with metadata. Safe in several threads."""

    def __init__(self, folder: Path, manifest: Manifest, *, memory_map: bool = False) -> None:
        self.manifest = manifest
        self._removed = np.array(sorted(manifest.removed), np.int64)
        self._segments = manifest.segments
        self._indexes = [read_index(folder / part.index.name, memory_map=memory_map) for part in manifest.segments]
        self._metadata = [MetadataFile(folder / part.metadata.name, part.count) for part in manifest.segments]
        for part, index in zip(self._segments, self._indexes, strict=True):
            if (len(index), index.dimension) != (part.count, manifest.dimension):
                raise ConfigError(f"{folder / part.index.name} is not what its manifest says; build the index again")

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    def __len__(self) -> int:
        return self.manifest.count

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Return `(B, k)` inner products in falling order and ids of rows that were not removed; k is clamped."""
        self.manifest.check(dimension=queries.shape[-1])
        scores, ids = [np.empty((len(queries), 0), np.float32)], [np.empty((len(queries), 0), np.int64)]
        for part, index in zip(self._segments, self._indexes, strict=True):
            here = self._removed[(self._removed >= part.first_id) & (self._removed < part.first_id + part.count)]
            found_scores, found = index.search(queries, k, removed=here - part.first_id)
            scores.append(np.where(found < 0, -np.inf, found_scores).astype(np.float32))
            ids.append(np.where(found < 0, -1, found + part.first_id))
        all_scores, all_ids = np.concatenate(scores, axis=1), np.concatenate(ids, axis=1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]  # (B, k)
        return np.take_along_axis(all_scores, order, 1), np.take_along_axis(all_ids, order, 1)

    def vectors(self, ids: IdArray) -> FloatArray:
        """Return the stored vectors `(n, E)` of ids `(n,)`. Raises `UnknownName` for an id that is not there."""
        rows = np.empty((len(ids), self.dimension), np.float32)
        owners = np.array([self._owner(int(item)) for item in ids], np.int64)
        for number in np.unique(owners):
            mine = owners == number
            rows[mine] = self._indexes[number].vectors(ids[mine] - self._segments[number].first_id)
        return rows

    def metadata(self, item: int) -> ItemMetadata:
        """Return what is known of a row. Raises `UnknownName` for an id that is not there."""
        number = self._owner(item)
        return self._metadata[number].row(item - self._segments[number].first_id)

    def neighbours(self, query: FloatArray, k: int) -> list[Neighbour]:
        """Return the nearest rows of one query `(E,)` with their metadata, best first."""
        scores, ids = self.search(query[None], k)
        pairs = [(int(item), float(score)) for item, score in zip(ids[0], scores[0], strict=True) if item >= 0]
        return [Neighbour(id=item, score=score, metadata=self.metadata(item)) for item, score in pairs]

    def _owner(self, item: int) -> int:
        slot = int(np.searchsorted(self._removed, item))
        if slot == len(self._removed) or self._removed[slot] != item:
            for number, part in enumerate(self._segments):
                if part.first_id <= item < part.first_id + part.count:
                    return number
        raise UnknownName(f"the index holds no item {item}; search it to see ids", param="ids")


class IndexStore:
    """The writer of one index folder; one writer at a time, any number of readers.

    `fault` is called with the name of each step of a commit, for tests that stop or fail there.
    """

    def __init__(self, folder: Path, *, fault: Fault = lambda step: None) -> None:
        self.folder = folder
        self._fault = fault

    def manifest(self) -> Manifest:
        """Return the current generation's manifest. Raises `ConfigError` when there is none."""
        return read_manifest(self.folder)

    def open(self, *, memory_map: bool = False, verify: bool = True) -> IndexReader:
        """Open the current generation; `verify` compares every byte with its checksum, without it only sizes.

        Raises `ConfigError` naming a missing or damaged file.
        """
        missing: OSError | None = None
        for _ in range(_OPEN_ATTEMPTS):
            manifest = self.manifest()
            try:
                verify_files(self.folder, manifest, digests=verify)
                return IndexReader(self.folder, manifest, memory_map=memory_map)
            except FileNotFoundError as error:  # a commit in between has removed it; the new manifest names others
                missing = error
        raise ConfigError(f"{missing}; restore it or build the index again")

    def replace(self, manifest: Manifest, index: FaissIndex, metadata: Iterable[ItemMetadata]) -> Manifest:
        """Make an index and the metadata of its rows the whole content, as a new generation; the kind is the segment's.

        `manifest` gives encoder and width, and in its one segment the kind. Raises `StorageFull`, the old one intact.
        """
        with self._writing():
            old = self._existing()
            first_id, generation = (old.next_id, old.generation + 1) if old else (0, 1)
            kind = manifest.segments[0].kind if manifest.segments else "flat"
            segment = self._write_segment(replace(_EMPTY, kind=kind, first_id=first_id), generation, index, metadata)
            changed = replace(
                manifest, generation=generation, segments=(segment,), next_id=first_id + len(index), removed=()
            )
            return self._commit(changed)

    def add(self, rows: FloatArray, metadata: Sequence[ItemMetadata], *, encoder_id: str) -> list[int]:
        """Add rows `(n, E)`, stored with unit norm, and return their ids.

        Raises `IndexMismatch` for another encoder or width, `InvalidRequest` for rows that are zero or not finite, and
        `StorageFull` when the disk is full; then nothing has changed.
        """
        with self._writing():
            manifest = self.manifest()
            manifest.check(encoder_id, rows.shape[-1])
            if len(rows) == 0 or len(rows) != len(metadata):
                raise InvalidRequest(f"{len(rows)} vectors with {len(metadata)} metadata; give at least one of each")
            kind = choose_kind(len(rows), manifest.dimension, _available_bytes(rows))
            index = train_index(kind, len(rows), manifest.dimension, rows)
            index.add(unit_rows(rows))
            empty = replace(_EMPTY, kind=kind, first_id=manifest.next_id)
            segment = self._write_segment(empty, manifest.generation + 1, index, metadata)
            segments = self._merged((*manifest.segments, segment), manifest)
            self._commit(replace(manifest, segments=segments, next_id=segment.first_id + len(rows)))
            return list(range(segment.first_id, segment.first_id + len(rows)))

    def remove(self, ids: Sequence[int]) -> int:
        """Hide rows from every search and return their number; their bytes go when the index is built again.

        Raises `UnknownName`, and removes none, when one of the ids is not there.
        """
        with self._writing():
            manifest = self.manifest()
            reader = IndexReader(self.folder, manifest, memory_map=True)
            for item in ids:
                reader.metadata(item)
            removed = tuple(sorted({*manifest.removed, *ids}))
            self._commit(replace(manifest, removed=removed))
            return len(removed) - len(manifest.removed)

    def _merged(self, segments: tuple[Segment, ...], manifest: Manifest) -> tuple[Segment, ...]:
        """Join the exact segments after the first once there are many, so that a search visits few."""
        small = segments[1:]
        if len(small) <= _MAX_SMALL_SEGMENTS or any(part.kind != "flat" for part in small):
            return segments
        readers = [IndexReader(self.folder, replace(manifest, segments=(part,), removed=())) for part in small]
        ids = [np.arange(part.first_id, part.first_id + part.count) for part in small]
        joined = train_index("flat", 0, manifest.dimension, np.empty((0, manifest.dimension), np.float32))
        for reader, rows in zip(readers, ids, strict=True):
            joined.add(reader.vectors(rows))
        metadata = [reader.metadata(int(row)) for reader, rows in zip(readers, ids, strict=True) for row in rows]
        empty = replace(_EMPTY, first_id=small[0].first_id)
        return (segments[0], self._write_segment(empty, manifest.generation + 1, joined, metadata, suffix="-joined"))

    def _write_segment(
        self, segment: Segment, generation: int, index: FaissIndex, metadata: Iterable[ItemMetadata], suffix: str = ""
    ) -> Segment:
        name = f"segment-{generation:06d}{suffix}"
        lines = ((json.dumps(asdict(item)) + "\n").encode() for item in metadata)
        return replace(
            segment,
            count=len(index),
            index=self._write_file(f"{name}.index", index.write),
            metadata=self._write_file(f"{name}.jsonl", lambda write: [write(line) for line in lines]),
        )

    def _write_file(self, name: str, fill: Callable[[Callable[[bytes], object]], object]) -> FileRecord:
        """Write a file, flush it to the disk, and return its record."""
        digest, errors = hashlib.sha256(), []
        with (self.folder / name).open("wb") as file:

            def write(piece: bytes) -> None:
                try:
                    self._fault(f"write {name}")
                    file.write(piece)
                    digest.update(piece)
                except OSError as error:
                    errors.append(error)
                    raise

            try:
                fill(write)
            except RuntimeError as error:  # FAISS wraps the error of its writer in its own
                raise (errors[0] if errors else error) from None
            _flush(file.fileno(), file.flush)
        return FileRecord(name=name, size_bytes=(self.folder / name).stat().st_size, sha256=digest.hexdigest())

    def _commit(self, manifest: Manifest) -> Manifest:
        changed = replace(manifest, generation=self._next_generation(), created=now())
        self._write_file(MANIFEST_NAME + ".new", lambda write: write(changed.to_json().encode()))
        self._fault("flush folder")
        self._flush_folder()
        self._fault("rename")
        os.replace(self.folder / (MANIFEST_NAME + ".new"), self.folder / MANIFEST_NAME)
        self._fault("renamed")
        self._flush_folder()
        self._delete_strangers(changed)
        return changed

    def _existing(self) -> Manifest | None:
        return self.manifest() if (self.folder / MANIFEST_NAME).exists() else None

    def _next_generation(self) -> int:
        existing = self._existing()
        return existing.generation + 1 if existing else 1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the folder's lock; clear away what a killed or failed writer left; name a full disk."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / _LOCK_NAME).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._delete_strangers(self._existing())
                try:
                    yield
                except OSError:
                    self._delete_strangers(self._existing())
                    raise
        except OSError as error:
            raise StorageFull(
                f"the index at {self.folder} could not be written: {error.strerror}; it is as it was; free space or "
                "check its permissions, and try again"
            ) from error

    def _delete_strangers(self, manifest: Manifest | None) -> None:
        known = manifest.file_names() if manifest else {MANIFEST_NAME}
        for path in [*self.folder.glob("segment-*"), self.folder / (MANIFEST_NAME + ".new")]:
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _flush_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class IndexShelf:
    """Several named indexes, each opened once and opened anew when its folder has a new generation.

    `get` never waits for a reload: while one thread opens the new generation, the others go on with the old one.
    `encoder_id` and `dimension` are checked at every opening.
    """

    def __init__(
        self, folders: Mapping[str, Path], *, encoder_id: str | None, dimension: int | None, memory_map: bool = False
    ) -> None:
        self._stores = {name: IndexStore(folder) for name, folder in folders.items()}
        self._expected = (encoder_id, dimension)
        self._memory_map = memory_map
        self._readers: dict[str, tuple[int, IndexReader]] = {}
        self._locks = {name: threading.Lock() for name in folders}
        for name in folders:
            self._reload(name)

    def names(self) -> tuple[str, ...]:
        """Return the names in the order they were given."""
        return tuple(self._stores)

    def store(self, name: str) -> IndexStore:
        """Return the writer of an index. Raises `UnknownName` that lists the known ones."""
        if name not in self._stores:
            known = ", ".join(self._stores) or "none"
            raise UnknownName(f"unknown index {name!r}; known: {known}", param="index")
        return self._stores[name]

    def get(self, name: str) -> IndexReader:
        """Return the newest generation of an index. Keep it for the whole request: the next may be another."""
        stamp, reader = self._readers[self.store(name).folder.name] if False else self._current(name)
        if stamp == self._stamp(name) or not self._locks[name].acquire(blocking=False):
            return reader
        try:
            return self._reload(name)
        finally:
            self._locks[name].release()

    def _current(self, name: str) -> tuple[int, IndexReader]:
        self.store(name)
        return self._readers[name]

    def _reload(self, name: str) -> IndexReader:
        stamp = self._stamp(name)
        reader = self._stores[name].open(memory_map=self._memory_map)
        reader.manifest.check(*self._expected)
        self._readers[name] = (stamp, reader)
        return reader

    def _stamp(self, name: str) -> int:
        """Return a number that changes with each commit: a rename gives the manifest another inode or time."""
        status = (self._stores[name].folder / MANIFEST_NAME).stat()
        return hash((status.st_ino, status.st_mtime_ns, status.st_size))


def unit_rows(rows: FloatArray) -> FloatArray:
    """Return rows `(n, E)` of unit norm. Raises `InvalidRequest` naming the first that is zero or not finite."""
    norms = np.linalg.norm(rows.astype(np.float32), axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms < 1e-12))
    if len(bad):
        raise InvalidRequest(f"vector {bad[0]} is zero or not finite; the index takes embeddings of some length")
    return normalize(rows.astype(np.float32))


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
