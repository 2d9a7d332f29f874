"""Reading an index folder: one opened generation, and a shelf of several named indexes that follows their writers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cache_index.index import FaissIndex, IdArray, read_index
from cache_index.manifest import FileRecord, Manifest, read_manifest, verify_files
from core.errors import ConfigError, UnknownName
from core.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemMetadata:
    """What is known of one stored row, besides its vector; `extra` is whatever its owner keeps there."""

    file: str | None = None
    caption: str | None = None
    label: str | None = None
    extra: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one line of JSON without what is not known."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=False)


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenSegment:
    """A segment in use; row i has the id `first_id + i`. An official `knn.index` comes without metadata."""

    first_id: int
    index: FaissIndex
    metadata: MetadataFile | None = None


def open_segments(
    folder: Path, manifest: Manifest, *, memory_map: bool = False, reuse: Mapping[FileRecord, OpenSegment] | None = None
) -> dict[FileRecord, OpenSegment]:
    """Open the segments of a generation by their vector file's record; those in `reuse` are open already.

    Raises `ConfigError` when a file is not what the manifest says.
    """
    opened: dict[FileRecord, OpenSegment] = {}
    for part in manifest.segments:
        path = folder / part.index.name
        if reuse and part.index in reuse:  # a name and digest never stand for other bytes
            opened[part.index] = reuse[part.index]
            continue
        index = read_index(path, memory_map=memory_map)
        if (len(index), index.dimension) != (part.count, manifest.dimension):
            raise ConfigError(f"{path} is not what its manifest says; build the index again")
        metadata = MetadataFile(folder / part.metadata.name, part.count)
        opened[part.index] = OpenSegment(first_id=part.first_id, index=index, metadata=metadata)
    return opened


class IndexReader:
    """One generation, opened: a `VectorIndex` over its segments, with metadata. Safe in several threads."""

    def __init__(self, manifest: Manifest, segments: Iterable[OpenSegment]) -> None:
        self.manifest = manifest
        self._segments = tuple(segments)  # in the order of the manifest's
        self._removed = np.array(manifest.removed, np.int64)
        self._removed_set = frozenset(manifest.removed)

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    @property
    def open_segments(self) -> dict[FileRecord, OpenSegment]:
        """The segments by their vector file's record, for the reader of the next generation."""
        return dict(zip((part.index for part in self.manifest.segments), self._segments, strict=False))

    @property
    def types(self) -> tuple[str, ...]:
        """The FAISS class of each segment."""
        return tuple(segment.index.type_name for segment in self._segments)

    def __len__(self) -> int:
        return sum(len(segment.index) for segment in self._segments) - len(self._removed)

    def move_to_gpu(self) -> bool:
        """Search every segment that can on the first GPU; False when none can."""
        moved = [segment.index.move_to_gpu() for segment in self._segments]
        return any(moved)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Return `(B, k)` inner products in falling order and ids of rows that were not removed; k is clamped."""
        self.manifest.check(dimension=queries.shape[-1])
        wanted, k = k + len(self._removed), min(k, len(self))  # the removed may be the nearest
        scores, ids = [], []
        for part in self._segments:
            found_scores, positions = part.index.search(queries, wanted)
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
            mine, owner = owners == number, self._segments[number]
            rows[mine] = owner.index.vectors(ids[mine] - owner.first_id)
        return rows

    def metadata(self, item: int) -> ItemMetadata:
        """Return what is known of a row. Raises `UnknownName` for an id that is not there."""
        owner = self._segments[self._owner(item)]
        return ItemMetadata() if owner.metadata is None else owner.metadata.row(item - owner.first_id)

    def neighbours(self, query: FloatArray, k: int) -> list[Neighbour]:
        """Return the nearest rows of one query `(E,)` with their metadata, best first."""
        scores, ids = self.search(query[None], k)
        pairs = [(int(item), float(score)) for item, score in zip(ids[0], scores[0], strict=True) if item >= 0]
        return [Neighbour(id=item, score=score, metadata=self.metadata(item)) for item, score in pairs]

    def page(self, *, after: int, limit: int) -> list[tuple[int, ItemMetadata]]:
        """Return up to `limit` rows with ids above `after`, in rising order."""
        page: list[tuple[int, ItemMetadata]] = []
        for part in self._segments:
            for item in range(max(part.first_id, after + 1), part.first_id + len(part.index)):
                if len(page) == limit:
                    return page
                if item not in self._removed_set:
                    page.append((item, self.metadata(item)))
        return page

    def _owner(self, item: int) -> int:
        for number, part in enumerate(self._segments):
            if part.first_id <= item < part.first_id + len(part.index) and item not in self._removed_set:
                return number
        raise UnknownName(f"the index holds no item {item}; a search shows the ids there are", param="ids")


def open_index(
    folder: Path,
    *,
    memory_map: bool = False,
    verify: bool = True,
    reuse: Mapping[FileRecord, OpenSegment] | None = None,
) -> IndexReader:
    """Open the current generation of a folder, or an official FAISS file without a manifest.

    `verify` checks every byte of what is not in `reuse`, without it only sizes. Raises `ConfigError` naming a missing
    or damaged file.
    """
    if folder.is_file():
        index = read_index(folder, memory_map=memory_map)
        return IndexReader(Manifest(encoder_id="", dimension=index.dimension), [OpenSegment(first_id=0, index=index)])
    missing: OSError | None = None
    for _ in range(5):
        manifest = read_manifest(folder)
        try:
            verify_files(folder, manifest, digests=verify, known=reuse or {})
            opened = open_segments(folder, manifest, memory_map=memory_map, reuse=reuse)
            return IndexReader(manifest, opened.values())
        except FileNotFoundError as error:  # a commit in between has removed it; the new manifest names others
            missing = error
    raise ConfigError(f"{missing}; restore it or build the index again")
