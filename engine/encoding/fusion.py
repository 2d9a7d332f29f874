"""Blend several embeddings into one by weights (ImageBind-LLM, section 3.3; the reference implementation's rule)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.errors import InvalidRequest
from core.types import FloatArray

_EPSILON = 1e-6
_SMALLEST_TOTAL = 1e-3


def fuse(vectors: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    """Return `sum_i w_i / (sum w + 1e-6) * v_i / |v_i|` as `(E,)` float32, not renormalised.

    Takes one `(E,)` vector per weight. A negative weight subtracts. Raises `InvalidRequest` unless the weights are
    finite and sum to more than 0.001: at zero the blend has no size, and below it every sign would flip.
    """
    total = float(sum(weights))
    if not total > _SMALLEST_TOTAL or total == float("inf"):
        raise InvalidRequest(
            f"the media weights sum to {total:g}; they must be finite and sum to more than {_SMALLEST_TOTAL:g}, "
            "so give the media you add more weight than those you subtract",
            param="messages",
        )
    rows = np.stack(vectors).astype(np.float64)  # (M, E)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    shares = np.asarray(weights, dtype=np.float64) / (total + _EPSILON)  # (M,)
    return (shares @ rows).astype(np.float32)


def only_medium(vectors: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    """Return the one vector as it is, for image tokens that have no joint space.

    Raises `InvalidRequest` for several media or a weight other than 1.
    """
    if len(vectors) != 1 or weights[0] != 1:
        raise InvalidRequest(
            f"this model takes one image of weight 1 per reply, got {len(vectors)} with weights {list(weights)}",
            param="messages",
        )
    return vectors[0]
