"""The k-NN refinement against its formula, and the FAISS files it reads."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from benchmarks.parity_families.imagebind_llm import broadcast_refine
from cache_index.index import FaissIndex, read_index
from cache_index.visual_cache import RefineSettings, VisualCache, blend, normalize, softmax
from core.errors import ConfigError, IndexMismatch, InvalidRequest
from core.types import FloatArray

E = 8


def rows(count: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, E)).astype(np.float32)


def flat_index(stored: FloatArray) -> FaissIndex:
    index = faiss.IndexFlatIP(E)
    index.add(stored)
    return FaissIndex(index)


def test_normalize_gives_unit_rows_and_leaves_zeros_alone() -> None:
    unit = normalize(np.stack([rows(1)[0], np.zeros(E, np.float32)]))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), [1, 0], atol=1e-6)


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0, -1000.0]], np.float32)), [[0.5, 0.5, 0]])


def test_blend_follows_the_formula_row_by_row() -> None:
    queries, neighbours = rows(2), normalize(rows(6, 1)).reshape(2, 3, E)
    similarities = np.einsum("be,bke->bk", queries, neighbours)
    produced = blend(queries, neighbours, similarities, RefineSettings(inverse_temperature=5, weight=0.3))
    for query, stored, similar, row in zip(queries, neighbours, similarities, produced, strict=True):
        attention = np.exp(5 * similar) / np.exp(5 * similar).sum()
        prototype = attention @ stored
        mixed = 0.7 * query + 0.3 * prototype / np.linalg.norm(prototype)
        np.testing.assert_allclose(row, mixed / np.linalg.norm(mixed), atol=1e-6)


def test_a_row_does_not_depend_on_its_batch() -> None:
    cache, queries = VisualCache(flat_index(normalize(rows(20, 1)))), rows(3)
    together = cache.refine(queries)
    np.testing.assert_allclose(cache.refine(queries[1:2])[0], together[1], atol=1e-6)


def test_the_reference_form_agrees_for_one_row_and_mixes_rows_of_a_batch() -> None:
    index, queries, settings = flat_index(normalize(rows(20, 1))), rows(2), RefineSettings(top_k=4)
    fixed = VisualCache(index).refine(queries, settings)
    np.testing.assert_allclose(broadcast_refine(queries[:1], index, settings)[0, 0], fixed[0], atol=1e-6)
    mixed = broadcast_refine(queries, index, settings)
    assert mixed.shape == (2, 2, E)
    assert not np.allclose(mixed[0, 1], fixed[1], atol=1e-3)


def test_more_neighbours_than_stored_are_clamped() -> None:
    cache = VisualCache(flat_index(normalize(rows(3, 1))), RefineSettings(top_k=50))
    assert cache.refine(rows(2)).shape == (2, E)


def test_an_empty_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match="the visual cache is empty"):
        VisualCache(flat_index(rows(0))).refine(rows(1))


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"weight": 1.1}, {"inverse_temperature": -1.0}])
def test_settings_outside_their_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match="cache"):
        RefineSettings(**settings)  # type: ignore[arg-type]


def test_an_inverted_file_gives_its_vectors_back(tmp_path: Path) -> None:
    stored = normalize(rows(200, 1))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(E), E, 4, faiss.METRIC_INNER_PRODUCT)
    index.train(stored)
    index.add(stored)
    faiss.write_index(index, str(tmp_path / "knn.index"))
    read = read_index(tmp_path / "knn.index")
    assert (len(read), read.dimension) == (200, E)
    np.testing.assert_allclose(read.vectors(np.array([7, 3])), stored[[7, 3]])


def test_an_index_of_distances_or_another_width_is_refused() -> None:
    with pytest.raises(IndexMismatch, match="inner product"):
        FaissIndex(faiss.IndexFlatL2(E))
    with pytest.raises(IndexMismatch, match=r"takes \(rows, 8\)"):
        flat_index(rows(2)).search(np.zeros((1, E + 1), np.float32), 1)


def test_a_missing_or_foreign_index_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no index at .*missing\.index"):
        read_index(tmp_path / "missing.index")
    (tmp_path / "text.index").write_text("not an index")
    with pytest.raises(ConfigError, match=r"text\.index is not a readable FAISS index"):
        read_index(tmp_path / "text.index")
