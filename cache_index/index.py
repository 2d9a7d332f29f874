"""FAISS behind the `VectorIndex` seam; the only module that imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from core.errors import ConfigError, IndexMismatch
from core.types import FloatArray


class FaissIndex:
    """Any FAISS inner-product index that can give its vectors back."""

    def __init__(self, index: Any) -> None:
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise IndexMismatch("the index ranks by distance; the cache needs one built for inner product")
        if (inverted_file := faiss.try_extract_index_ivf(index)) is not None:
            inverted_file.make_direct_map()  # without it an inverted file cannot give a vector back by its id
        self._index = index

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Return `(B, k)` inner products in falling order and ids; k is clamped to the size of the index.

        Raises `IndexMismatch` when the queries `(B, E)` are not of the index's dimension.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise IndexMismatch(f"queries have shape {queries.shape}; the index takes (rows, {self.dimension})")
        k = min(k, len(self))
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, ids = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return scores, ids

    def vectors(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """Return the stored vectors `(n, E)` of ids `(n,)`; compressed indexes give their approximations."""
        found: FloatArray = self._index.reconstruct_batch(np.ascontiguousarray(ids, dtype=np.int64))
        return found


def read_index(path: Path) -> FaissIndex:
    """Read a `knn.index` file of any FAISS type. Raises `ConfigError` naming the file when it is not one."""
    if not path.is_file():
        raise ConfigError(f"no index at {path}; build one or switch the cache off")
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ConfigError(f"{path} is not a readable FAISS index: {error}") from error
    return FaissIndex(index)
