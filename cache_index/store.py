"""Writing an index folder, atomically.

A folder holds a manifest and immutable segments. A change writes new segments beside the old, flushes them to the disk
and replaces the manifest: that rename is the commit. A kill before it leaves the old generation, after it the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np

from cache_index.index import FLAT_ROWS, FaissIndex, IndexKind, train_index
from cache_index.manifest import MANIFEST_NAME, FileRecord, Manifest, Segment, read_manifest
from cache_index.reader import IndexReader, ItemMetadata, open_segments
from cache_index.visual_cache import normalize
from core.errors import ConfigError, InvalidRequest, StorageFull
from core.types import FloatArray

_NEW_MANIFEST = MANIFEST_NAME + ".new"

Write = Callable[[bytes], object]


class IndexStore:
    """The writer of one index folder; one writer at a time, any number of readers.

    `on_step` hears the name of each step before it happens; an `OSError` it raises counts as the disk's.
    Every change raises `StorageFull` when the disk refuses, and has then changed nothing.
    """

    def __init__(self, folder: Path, *, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.folder = folder
        self._on_step = on_step

    def replace(
        self, encoder_id: str, kind: IndexKind, index: FaissIndex, metadata: Iterable[ItemMetadata]
    ) -> Manifest:
        """Make an index and its metadata the whole content, in a new generation; it may replace a damaged one."""
        with self._writing(even_damaged=True) as old:
            first_id = old.next_id if old else 0
            manifest = Manifest(encoder_id=encoder_id, dimension=index.dimension, next_id=first_id + len(index))
            numbers = [int(path.stem[-6:]) for path in self.folder.glob("segment-*.index")]
            generation = old.generation if old else max(numbers, default=0)
            segment = self._write_segment(generation + 1, kind, first_id, index, metadata)
            return self._commit(replace(manifest, generation=generation, segments=(segment,)))

    def add(self, rows: FloatArray, metadata: Sequence[ItemMetadata], *, encoder_id: str) -> list[int]:
        """Add rows `(n, E)`, stored with unit norm, and return their ids.

        Raises `IndexMismatch` for another encoder or width, and `InvalidRequest` for rows that are zero or not finite.
        """
        with self._writing() as old:
            manifest = old or read_manifest(self.folder)
            manifest.check(encoder_id, rows.shape[-1])
            if len(rows) == 0 or len(rows) != len(metadata):
                raise InvalidRequest(f"{len(rows)} vectors with {len(metadata)} metadata; give one of each per item")
            index = train_index("flat", 0, manifest.dimension, rows[:0])
            kept, first_id = manifest.segments, manifest.next_id
            earlier: Iterable[ItemMetadata] = ()
            if kept and kept[-1].kind == "flat" and kept[-1].count + len(rows) <= FLAT_ROWS:
                kept, tail = kept[:-1], kept[-1]  # grow the last exact segment, so that a search visits few
                reader = _reader(self.folder, replace(manifest, segments=(tail,), removed=()))
                first_id, ids = tail.first_id, range(tail.first_id, tail.first_id + tail.count)
                index.add(reader.vectors(np.array(ids)))
                earlier = map(reader.metadata, ids)
            index.add(unit_rows(rows))
            segment = self._write_segment(manifest.generation + 1, "flat", first_id, index, chain(earlier, metadata))
            next_id = manifest.next_id + len(rows)
            self._commit(replace(manifest, segments=(*kept, segment), next_id=next_id))
            return list(range(manifest.next_id, next_id))

    def remove(self, ids: Iterable[int]) -> int:
        """Hide rows from every search and return their number; their bytes go when the index is built again.

        Raises `UnknownName`, and removes none, when one of the ids is not there.
        """
        with self._writing() as old:
            manifest, wanted = old or read_manifest(self.folder), set(ids)
            reader = _reader(self.folder, manifest)
            for item in wanted:
                reader.metadata(item)
            self._commit(replace(manifest, removed=tuple(sorted({*manifest.removed, *wanted}))))
            return len(wanted)

    def _write_segment(
        self, generation: int, kind: IndexKind, first_id: int, index: FaissIndex, metadata: Iterable[ItemMetadata]
    ) -> Segment:
        lines = ((item.to_json() + "\n").encode() for item in metadata)
        vectors = self._write_file(f"segment-{generation:06d}.index", index.write)
        described = self._write_file(f"segment-{generation:06d}.jsonl", lambda write: [write(line) for line in lines])
        return Segment(kind=kind, first_id=first_id, count=len(index), index=vectors, metadata=described)

    def _write_file(self, name: str, fill: Callable[[Write], object]) -> FileRecord:
        """Write a file, flush it to the disk, and return its record."""
        digest = hashlib.sha256()
        with (self.folder / name).open("wb") as file:

            def write(piece: bytes) -> None:
                self._on_step(f"write {name}")
                file.write(piece)
                digest.update(piece)

            fill(write)
            file.flush()
            os.fsync(file.fileno())
            return FileRecord(name=name, size_bytes=file.tell(), sha256=digest.hexdigest())

    def _commit(self, manifest: Manifest) -> Manifest:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = replace(manifest, generation=manifest.generation + 1, created=created)
        self._write_file(_NEW_MANIFEST, lambda write: write(manifest.to_json().encode()))
        self._flush_folder()
        self._on_step("rename")
        os.replace(self.folder / _NEW_MANIFEST, self.folder / MANIFEST_NAME)
        self._on_step("delete old")
        self._flush_folder()
        self._delete_strangers(manifest)
        return manifest

    @contextmanager
    def _writing(self, *, even_damaged: bool = False) -> Iterator[Manifest | None]:
        """Hold the folder's lock, clear away what a killed writer left, and yield the current generation."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._clear_away(even_damaged)
                try:
                    yield None if even_damaged and self._is_damaged() else self._existing()
                finally:
                    self._clear_away(even_damaged)
        except OSError as error:
            raise StorageFull(
                f"the index could not be written: {error.strerror}; it is as it was; free space on its disk or check "
                "its permissions, and try again"
            ) from error

    def _existing(self) -> Manifest | None:
        return read_manifest(self.folder) if (self.folder / MANIFEST_NAME).exists() else None

    def _is_damaged(self) -> bool:
        try:
            self._existing()
        except ConfigError:
            return True
        return False

    def _clear_away(self, even_damaged: bool) -> None:
        if not (even_damaged and self._is_damaged()):  # until a new generation is whole, the old one may be mended
            self._delete_strangers(self._existing())

    def _delete_strangers(self, manifest: Manifest | None) -> None:
        known = {record.name for record in manifest.files} if manifest else set()
        for path in [*self.folder.glob("segment-*"), self.folder / _NEW_MANIFEST]:
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _flush_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _reader(folder: Path, manifest: Manifest) -> IndexReader:
    return IndexReader(manifest, open_segments(folder, manifest, memory_map=True).values())


def unit_rows(rows: FloatArray, first: int = 0) -> FloatArray:
    """Return rows `(n, E)` of unit norm. Raises `InvalidRequest` naming the first that is zero or not finite."""
    rows = rows.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms < 1e-12))
    if len(bad):
        raise InvalidRequest(f"vector {first + bad[0]} is zero or not finite; embed that item again or leave it out")
    return normalize(rows)
