"""Reading an index folder: one opened generation, and a shelf of several named indexes that follows their writers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_index.index import IdArray, read_index
from cache_index.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_files
from core.errors import ConfigError, UnknownName
from core.types import FloatArray


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
    """The metadata of a segment: one JSON object per line, parsed when asked for."""

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
        self._segments = manifest.segments
        self._indexes = [read_index(folder / part.index.name, memory_map=memory_map) for part in self._segments]
        self._metadata = [MetadataFile(folder / part.metadata.name, part.count) for part in self._segments]
        for part, index in zip(self._segments, self._indexes, strict=True):
            if (len(index), index.dimension) != (part.count, manifest.dimension):
                raise ConfigError(f"{folder / part.index.name} is not what its manifest says; build the index again")
        self._removed = np.array(manifest.removed, np.int64)

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    def __len__(self) -> int:
        return self.manifest.count

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Return `(B, k)` inner products in falling order and ids of rows that were not removed; k is clamped."""
        self.manifest.check(dimension=queries.shape[-1])
        wanted, k = k + len(self._removed), min(k, len(self))  # the removed may be the nearest
        scores, ids = [], []
        for part, index in zip(self._segments, self._indexes, strict=True):
            found_scores, positions = index.search(queries, wanted)
            found = np.where(positions < 0, -1, positions + part.first_id)
            found[np.isin(found, self._removed)] = -1
            scores.append(np.where(found < 0, -np.inf, found_scores).astype(np.float32))
            ids.append(found)
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
        for number, part in enumerate(self._segments):
            if part.first_id <= item < part.first_id + part.count and item not in self._removed:
                return number
        raise UnknownName(f"the index holds no item {item}; a search shows the ids there are", param="ids")


def open_index(folder: Path, *, memory_map: bool = False, verify: bool = True) -> IndexReader:
    """Open the current generation of a folder; `verify` checks every byte, without it only sizes.

    Raises `ConfigError` naming a missing or damaged file.
    """
    missing: OSError | None = None
    for _ in range(5):
        manifest = read_manifest(folder)
        try:
            verify_files(folder, manifest, digests=verify)
            return IndexReader(folder, manifest, memory_map=memory_map)
        except FileNotFoundError as error:  # a commit in between has removed it; the new manifest names others
            missing = error
    raise ConfigError(f"{missing}; restore it or build the index again")


class IndexShelf:
    """Several named indexes, each opened anew when its folder has a new generation.

    `get` never waits for a reload: while one thread opens the new generation, the others go on with the old one.
    Raises `IndexMismatch` when an index is of another encoder or width; None accepts any.
    """

    def __init__(
        self, folders: Mapping[str, Path], *, encoder_id: str | None, dimension: int | None, memory_map: bool = False
    ) -> None:
        self._folders = dict(folders)
        self._expected = (encoder_id, dimension)
        self._memory_map = memory_map
        self._locks = {name: threading.Lock() for name in folders}
        self._readers: dict[str, tuple[tuple[int, int], IndexReader]] = {}
        for name in folders:
            self._reload(name)

    def names(self) -> tuple[str, ...]:
        """Return the names in the order they were given."""
        return tuple(self._folders)

    def folder(self, name: str) -> Path:
        """Return where an index lives, for its writer. Raises `UnknownName` that lists the known ones."""
        if name not in self._folders:
            raise UnknownName(f"unknown index {name!r}; known: {', '.join(self._folders) or 'none'}", param="index")
        return self._folders[name]

    def get(self, name: str) -> IndexReader:
        """Return the newest generation of an index. Keep it for a whole request: the next call may give another."""
        current = self._stamp(name)
        stamp, reader = self._readers[name]
        if stamp == current or not self._locks[name].acquire(blocking=False):
            return reader
        try:
            return self._reload(name)
        finally:
            self._locks[name].release()

    def _reload(self, name: str) -> IndexReader:
        stamp = self._stamp(name)
        reader = open_index(self._folders[name], memory_map=self._memory_map)
        reader.manifest.check(*self._expected)
        self._readers[name] = (stamp, reader)
        return reader

    def _stamp(self, name: str) -> tuple[int, int]:
        """Return what changes with each commit: a rename gives the manifest another inode."""
        path = self.folder(name) / MANIFEST_NAME
        try:
            status = path.stat()
        except FileNotFoundError:
            raise ConfigError(f"no index at {path.parent}; build one or take its name off the list") from None
        return status.st_ino, status.st_mtime_ns
