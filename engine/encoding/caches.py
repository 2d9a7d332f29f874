"""The visual caches of one served model: named indexes that refine embeddings, are searched, and are changed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache_index.manifest import MANIFEST_NAME
from cache_index.reader import IndexReader, ItemMetadata, Neighbour
from cache_index.shelf import IndexShelf, Reload, ShelfSpec
from cache_index.store import IndexStore
from cache_index.visual_cache import RefineSettings, VisualCache, normalize
from core.errors import AppError, InvalidRequest, StorageFull
from core.telemetry import EventLog
from core.types import CacheChoice, FloatArray, Modality
from models.bundle import CacheOptions, ModelBundle

__all__ = ["CacheReport", "ItemMetadata", "Neighbour", "Reload", "VisualCaches", "WhereIndexes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReport:
    """What the visual cache did to one embedding: from which index, how strongly, and the neighbours, best first."""

    index: str
    settings: RefineSettings
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereIndexes:
    """The operator's indexes by name, and the folder that takes a copy of the model's own one when it is changed."""

    named: Mapping[str, Path]
    copies: Path
    on_gpu: bool = False


class VisualCaches:
    """Every index of one model: its own first, if it has one, then the operator's. Blocks: call it from threads.

    The model's own index refines by default, as its `CacheOptions` say; the others only when a request asks for them.
    """

    def __init__(self, bundle: ModelBundle, where: WhereIndexes) -> None:
        self._log = EventLog("visual_cache")
        self._options = bundle.cache_options
        self._space_id = bundle.joint_space_id
        self._copies = where.copies
        self._copying = threading.Lock()
        own = bundle.cache_index
        self._own = {} if own is None or own.stem in where.named else {own.stem: own}
        paths = {name: self._copy_or(name, path) for name, path in self._own.items()} | dict(where.named)
        spec = ShelfSpec(encoder_id=self._space_id, dimension=bundle.embedding_width, on_gpu=where.on_gpu)
        self._shelf = IndexShelf(paths, spec, self._note_failure)

    @property
    def names(self) -> tuple[str, ...]:
        return self._shelf.names()

    @property
    def own_name(self) -> str | None:
        """The name of the model's own index, None without one or when the operator's has taken its name."""
        return next(iter(self._own), None)

    @property
    def default_modalities(self) -> tuple[Modality, ...]:
        """What the model's own index refines unasked."""
        return tuple(Modality) if self._options.modalities is None else self._options.modalities

    @property
    def width(self) -> int:
        """The width E of every index."""
        return self.reader(None)[1].dimension

    @property
    def options(self) -> CacheOptions:
        """How the model's own index refines by default."""
        return self._options

    def reader(self, name: str | None) -> tuple[str, IndexReader]:
        """Return an index by name, the first one when none is named. Raises `UnknownName`."""
        if name is None:
            name = next(iter(self.names), "")
        return name, self._shelf.get(name)

    def choose(
        self, choice: CacheChoice | None, modalities: Collection[Modality]
    ) -> tuple[str | None, RefineSettings] | None:
        """Return the index and the strength for one request, None when its embedding stays as it is.

        Raises `InvalidRequest` for a value out of range.
        """
        options = self._options
        if choice is None:
            is_meant = options.modalities is None or set(modalities) <= set(options.modalities)
            if not (self._own and is_meant):
                return None
            choice = CacheChoice()
        if not choice.enabled:
            return None
        settings = RefineSettings(
            top_k=options.top_k if choice.top_k is None else choice.top_k,
            inverse_temperature=(
                options.inverse_temperature if choice.inverse_temperature is None else choice.inverse_temperature
            ),
            weight=options.blend if choice.blend is None else choice.blend,
        )
        return choice.index, settings

    def refine(
        self, vector: FloatArray, index: str | None, settings: RefineSettings
    ) -> tuple[FloatArray, CacheReport | None]:
        """Return the refined vector `(E,)` and what it was refined with; an empty index leaves it as it is.

        Raises `UnknownName` for an index that is not there.
        """
        name, reader = self.reader(index)
        if len(reader) == 0:
            return vector, CacheReport(index=name, settings=settings, neighbours=())
        refined = VisualCache(reader).refine_traced(vector[None], settings)
        pairs = zip(refined.ids[0].tolist(), refined.similarities[0].tolist(), strict=True)
        found = tuple(Neighbour(id=i, score=score, metadata=reader.metadata(i)) for i, score in pairs if i >= 0)
        return refined.rows[0], CacheReport(index=name, settings=settings, neighbours=found)

    def search(self, index: str | None, vector: FloatArray, k: int) -> tuple[str, list[Neighbour]]:
        """Return the name of the index searched, and the k items nearest to `(E,)`, best first."""
        name, reader = self.reader(index)
        return name, reader.neighbours(normalize(vector), k)

    def add(self, index: str | None, rows: FloatArray, items: Sequence[ItemMetadata]) -> tuple[str, list[int]]:
        """Add rows `(n, E)` and return the index's name and their ids. Raises `StorageFull`, and nothing is added."""
        name, store = self._store(index)
        ids = store.add(rows, items, encoder_id=self._space_id)
        self._shelf.reload(name)
        return name, ids

    def remove(self, index: str | None, ids: Collection[int]) -> tuple[str, int]:
        """Remove items and return the index's name and their number. Raises `UnknownName`, and none is removed."""
        name, reader = self.reader(index)
        for item in ids:  # before the model's own index is copied
            reader.metadata(item)
        name, store = self._store(name)
        removed = store.remove(ids)
        self._shelf.reload(name)
        return name, removed

    def reload(self, index: str | None = None) -> list[Reload]:
        """Look at one index again, or at all; a bad new generation leaves the old one in use."""
        return [self._shelf.reload(name) for name in (self.names if index is None else (index,))]

    def _store(self, index: str | None) -> tuple[str, IndexStore]:
        """Return the writer of an index; the model's own one is copied first, for it belongs to the program."""
        name, reader = self.reader(index)
        path = self._shelf.path(name)
        if path.is_file():
            raise InvalidRequest(
                f"index {name} is a FAISS file without a manifest and is only read; build a folder of its vectors with "
                "bindchat cache build and name it in cache_indexes",
                param="index",
            )
        with self._copying:
            if path == self._own.get(name):
                path = _copy_index(path, self._copies / name)
                self._shelf.move(name, path)
                self._log.event("index_copied", index=name, generation=reader.manifest.generation)
        return name, IndexStore(path)

    def _copy_or(self, name: str, path: Path) -> Path:
        copy = self._copies / name
        return copy if path.is_dir() and (copy / MANIFEST_NAME).exists() else path

    def _note_failure(self, name: str, error: AppError) -> None:
        self._log.fault("index_not_reloaded", error, index=name)


def _copy_index(source: Path, target: Path) -> Path:
    """Copy a folder whole or not at all. Raises `StorageFull`."""
    if (target / MANIFEST_NAME).exists():
        return target  # another process of this server was first
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.copying")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, unfinished)
        unfinished.replace(target)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if (target / MANIFEST_NAME).exists():
            return target
        raise StorageFull(
            f"the index could not be copied to {target}: {error.strerror}; free space or set cache_dir"
        ) from error
    return target
