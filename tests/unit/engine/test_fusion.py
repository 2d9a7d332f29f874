from __future__ import annotations

import numpy as np
import pytest

from core.errors import InvalidRequest
from engine.encoding.fusion import fuse

VECTORS = list(np.random.default_rng(3).normal(size=(3, 12)).astype(np.float32))


def test_the_blend_is_the_weighted_sum_of_unit_vectors_without_renormalising() -> None:
    units = [vector / np.linalg.norm(vector) for vector in VECTORS]
    expected = sum(w / (3.5 + 1e-6) * unit for w, unit in zip((1, 2, 0.5), units, strict=True))
    np.testing.assert_allclose(fuse(VECTORS, (1, 2, 0.5)), expected, atol=1e-6)


def test_a_negative_weight_subtracts() -> None:
    units = [vector / np.linalg.norm(vector) for vector in VECTORS[:2]]
    np.testing.assert_allclose(fuse(VECTORS[:2], (2, -1)), 2 * units[0] - units[1], atol=1e-5)


def test_the_size_of_a_vector_does_not_matter() -> None:
    np.testing.assert_allclose(fuse([VECTORS[0] * 50, VECTORS[1]], (1, 1)), fuse(VECTORS[:2], (1, 1)), atol=1e-6)


@pytest.mark.parametrize("weights", [(1, -1), (1, -2), (1, -0.9999), (float("nan"), 1), (float("inf"), 1)])
def test_weights_without_a_positive_finite_sum_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(InvalidRequest, match="weights sum to"):
        fuse(VECTORS[:2], weights)
