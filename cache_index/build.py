"""Make an index of many embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from cache_index.index import FaissIndex, IndexKind, choose_kind, num_training_rows, train_index
from cache_index.manifest import Manifest
from cache_index.reader import ItemMetadata, MetadataFile
from cache_index.store import IndexStore, unit_rows
from core.errors import ConfigError
from core.types import FloatArray

BLOCK_ROWS = 16_384

Progress = Callable[[str, int, int], None]
"""Hears the stage, how much of it is done, and of how much."""


class VectorSource(Protocol):
    """N rows of embeddings, read in blocks of `BLOCK_ROWS` from the first on, maybe more than once."""

    count: int
    dimension: int

    def rows(self, start: int, stop: int) -> FloatArray: ...

    def metadata(self, start: int, stop: int) -> Iterable[ItemMetadata]: ...


class EmbeddingFile:
    """A `.npy` or `.safetensors` array `(N, E)`; a `.jsonl` beside it gives file, caption and label of each row."""

    def __init__(self, path: Path) -> None:
        try:
            if path.suffix == ".safetensors":
                tensors: Any = safe_open(path, framework="numpy")
                (name,) = tensors.keys()
                self._array = tensors.get_slice(name)
                shape = self._array.get_shape()
            else:
                self._array = np.lib.format.open_memmap(path, mode="r")
                shape = self._array.shape
            self.count, self.dimension = shape
        except (OSError, ValueError, SafetensorError) as error:
            raise ConfigError(f"{path} is not one array of shape (rows, width) in .npy or .safetensors") from error
        beside = path.with_suffix(".jsonl")
        self._metadata = MetadataFile(beside, self.count) if beside.is_file() else None

    def rows(self, start: int, stop: int) -> FloatArray:
        return np.asarray(self._array[start:stop], dtype=np.float32)

    def metadata(self, start: int, stop: int) -> Iterable[ItemMetadata]:
        return (self._metadata.row(row) if self._metadata else ItemMetadata() for row in range(start, stop))


def build_index(
    source: VectorSource,
    out: Path,
    *,
    encoder_id: str,
    progress: Progress,
    kind: IndexKind | None = None,
    memory_budget_bytes: int = 4 << 30,
) -> Manifest:
    """Index every row of a source and make it the content of the folder `out`, atomically.

    `kind` None is chosen by `choose_kind` for the memory that a reader may take. Raises `InvalidRequest` naming a row
    that is zero or not finite, and `StorageFull`; an index at `out` then stays.
    """
    if source.count == 0:
        raise ConfigError("there is nothing to index; give at least one embedding")
    kind = kind or choose_kind(source.count, source.dimension, memory_budget_bytes)
    index, blocks = _trained(source, kind, progress), range(0, source.count, BLOCK_ROWS)
    for start in blocks:
        stop = min(start + BLOCK_ROWS, source.count)
        index.add(unit_rows(source.rows(start, stop), first=start))
        progress("adding", stop, source.count)
    progress("writing", 0, 1)
    metadata = chain.from_iterable(source.metadata(start, min(start + BLOCK_ROWS, source.count)) for start in blocks)
    return IndexStore(out).replace(encoder_id, kind, index, metadata)


def _trained(source: VectorSource, kind: IndexKind, progress: Progress) -> FaissIndex:
    """Train on rows drawn at random from every block, so that the order of a source does not matter."""
    wanted, rng = num_training_rows(kind, source.count), np.random.default_rng(0)
    chosen = np.sort(rng.choice(source.count, wanted, replace=False))
    sample = np.empty((wanted, source.dimension), np.float32)
    for start in range(0, source.count if wanted else 0, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, source.count)
        first, last = np.searchsorted(chosen, [start, stop])
        sample[first:last] = unit_rows(source.rows(start, stop), first=start)[chosen[first:last] - start]
        progress("sampling", stop, source.count)
    progress("training", 0, 1)
    return train_index(kind, source.count, source.dimension, sample)
