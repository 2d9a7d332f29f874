"""The training-free visual cache of ImageBind-LLM (section 3.3): pull an embedding toward its nearest stored ones.

B rows, k neighbours, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from core.errors import ConfigError, IndexMismatch, InvalidRequest
from core.types import FloatArray, VectorIndex

_TINY_NORM = 1e-12


def normalize(rows: FloatArray) -> FloatArray:
    """Return rows `(..., E)` of unit L2 norm; a row of zeros stays zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return cast(FloatArray, (rows / np.maximum(norms, _TINY_NORM)).astype(np.float32))


def softmax(logits: FloatArray) -> FloatArray:
    """Return the softmax over the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return cast(FloatArray, exponents / exponents.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSettings:
    """How strongly the cache pulls; the defaults are those of ImageBind-LLM."""

    top_k: int = 10
    inverse_temperature: float = 20.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InvalidRequest(f"cache k must be at least 1, got {self.top_k}", param="bind.cache.k")
        if not 0 <= self.weight <= 1:
            raise InvalidRequest(f"cache blend must be in [0, 1], got {self.weight}", param="bind.cache.blend")
        if not 0 <= self.inverse_temperature <= 1000:
            raise InvalidRequest(
                f"cache inverse_temperature must be in [0, 1000], got {self.inverse_temperature}",
                param="bind.cache.inverse_temperature",
            )


def blend(
    queries: FloatArray, neighbours: FloatArray, similarities: FloatArray, settings: RefineSettings
) -> FloatArray:
    """Return unit rows `(B, E)` between each query `(B, E)` and the softmax mean of its neighbours `(B, k, E)`.

    `similarities` are `(B, k)`. The queries are used as they come, not normalised: ImageBind-LLM, equations 5 and 6.
    """
    attention = softmax(similarities * np.float32(settings.inverse_temperature))  # (B, k)
    prototypes = normalize(np.einsum("bk,bke->be", attention, neighbours))  # (B, E)
    return normalize((1 - settings.weight) * queries + settings.weight * prototypes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """Refined unit `rows` `(B, E)`, and the neighbours they were pulled to: `similarities` and `ids` `(B, k)`."""

    rows: FloatArray
    similarities: FloatArray
    ids: npt.NDArray[np.int64]


class VisualCache:
    """A vector index of image embeddings that refines what was seen, heard or scanned."""

    def __init__(self, index: VectorIndex, settings: RefineSettings | None = None) -> None:
        self.index = index
        self.settings = settings or RefineSettings()

    def refine(self, queries: FloatArray, settings: RefineSettings | None = None) -> FloatArray:
        """Pull each query `(B, E)` toward its nearest stored embeddings and return unit rows `(B, E)`.

        `top_k` beyond the size of the index is clamped. `IndexMismatch` comes from an index of another dimension.
        """
        return self.refine_traced(queries, settings).rows

    def refine_traced(self, queries: FloatArray, settings: RefineSettings | None = None) -> Refined:
        """Do what `refine` does, and tell the neighbours.

        An approximate index may find fewer than k: the rest have id -1 and no part in the result.
        """
        settings = settings or self.settings
        similarities, ids = self.index.search(queries, settings.top_k)  # (B, k)
        if ids.size == 0:
            raise ConfigError("the visual cache is empty; build it with at least one embedding or switch it off")
        if (ids[:, 0] < 0).any():
            raise IndexMismatch("the index found no neighbour although it holds some; raise its nprobe")
        is_found = ids >= 0  # (B, k)
        neighbours = np.zeros((*ids.shape, queries.shape[1]), np.float32)  # (B, k, E)
        neighbours[is_found] = self.index.vectors(ids[is_found])
        rows = blend(queries, neighbours, np.where(is_found, similarities, -np.inf), settings)
        return Refined(rows=rows, similarities=similarities, ids=ids)
