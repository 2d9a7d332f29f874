"""Every FAISS type behind one seam: the rule that chooses, search, hidden rows, vectors, memory mapping."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from cache_index.index import KINDS, FaissIndex, IndexKind, choose_kind, num_lists, read_index, train_index
from cache_index.visual_cache import normalize
from core.errors import ConfigError, IndexMismatch, InvalidRequest
from core.types import FloatArray

E = 16
GIB = 1 << 30
# Types that an official knn.index may have; the share of a vector's direction that must survive its compression.
FACTORIES = {
    "Flat": 0.999,
    "HNSW8": 0.999,
    "IVF4,Flat": 0.999,
    "IVF4,SQ8": 0.99,
    "IVF4,PQ4x4np": 0.5,
    "IVF4,PQ4x4np,Refine(SQ8)": 0.99,
    "IVF4_HNSW4,Flat": 0.999,
    "OPQ4,IVF4,PQ4x4np": 0.5,
    "PCAR8,IVF4,SQ8": 0.5,
    "PCA8,Flat": 0.5,
    "PQ4x4np": 0.5,
    "SQ8": 0.99,
    "IDMap,Flat": 0.999,
    "IDMap2,IVF4,Flat": 0.999,
}


def rows(count: int, seed: int = 0) -> FloatArray:
    return normalize(np.random.default_rng(seed).normal(size=(count, E)).astype(np.float32))


def written(folder: Path, factory: str, stored: FloatArray) -> Path:
    index = faiss.index_factory(E, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(stored)
    if factory.startswith("IDMap"):
        index.add_with_ids(stored, np.arange(len(stored)) + 500)
    else:
        index.add(stored)
    path = folder / "knn.index"
    faiss.write_index(index, str(path))
    return path


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize(("factory", "kept"), FACTORIES.items())
def test_any_official_type_finds_rows_and_gives_them_back(
    factory: str, kept: float, memory_map: bool, tmp_path: Path
) -> None:
    stored = rows(400)
    index = read_index(written(tmp_path, factory, stored), memory_map=memory_map)
    index.set_num_probes(4)
    scores, ids = index.search(stored[:20], 5)
    assert ids.shape == (20, 5)
    assert (np.diff(scores, axis=1) <= 0).all()
    if kept > 0.9:
        assert (ids == np.arange(20)[:, None]).any(axis=1).mean() >= 0.9
    returned = normalize(index.vectors(np.arange(20)))
    assert (returned * stored[:20]).sum(axis=1).mean() > kept


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_we_build_agrees_with_exact_search(kind: IndexKind, tmp_path: Path) -> None:
    stored, queries = rows(2000), rows(20, seed=1)
    index = train_index(kind, len(stored), E, stored)
    index.add(stored)
    index.set_num_probes(1000)
    pieces: list[bytes] = []
    index.write(pieces.append)
    (tmp_path / "knn.index").write_bytes(b"".join(pieces))
    exact = np.argsort(-queries @ stored.T, axis=1)[:, :10]
    _, ids = read_index(tmp_path / "knn.index").search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids.tolist(), exact.tolist(), strict=True)])
    assert recall > (0.6 if kind == "ivf_pq" else 0.9)  # vectors without structure are the worst case of PQ


def test_codes_that_make_faiss_crash_are_refused_before_they_can(tmp_path: Path) -> None:
    with pytest.raises(IndexMismatch, match="fast scan"):
        read_index(written(tmp_path, "IVF4,PQ4x4fs", rows(400)))
    refined = read_index(written(tmp_path, "IVF4,PQ4x4fs,RFlat", rows(400)))
    np.testing.assert_allclose(refined.vectors(np.arange(3)), rows(400)[:3], atol=1e-5)


def test_the_cpu_build_of_faiss_refuses_the_gpu_in_one_sentence() -> None:
    assert not hasattr(faiss, "StandardGpuResources"), "this test is for the CPU build; tests/gpu has the others"
    with pytest.raises(ConfigError, match="this FAISS is the CPU build; install the extra faiss-gpu"):
        FaissIndex(faiss.IndexFlatIP(E)).move_to_gpu()


def test_the_rule_goes_from_exact_to_graph_to_lists_to_codes() -> None:
    assert choose_kind(2_000, 1024, 4 * GIB) == "flat"
    assert choose_kind(30_000, 1024, 4 * GIB) == "hnsw"
    assert choose_kind(300_000, 1024, 4 * GIB) == "ivf_flat"
    assert choose_kind(3_000_000, 1024, 4 * GIB) == "ivf_sq8"
    assert choose_kind(30_000_000, 1024, 4 * GIB) == "ivf_pq"
    assert choose_kind(30_000, 1024, 64 << 20) == "ivf_sq8"


def test_lists_never_outnumber_what_training_can_fill() -> None:
    assert [num_lists(count) for count in (0, 50, 400, 3_000_000)] == [1, 1, 10, 4096]


def test_unknown_rows_and_queries_that_are_not_finite_are_refused() -> None:
    index = FaissIndex(faiss.IndexFlatIP(E))
    index.add(rows(3))
    with pytest.raises(InvalidRequest, match="holds no row 3"):
        index.vectors(np.array([0, 3]))
    with pytest.raises(InvalidRequest, match="not finite"):
        index.search(np.full((1, E), np.nan, np.float32), 1)


def test_a_truncated_index_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "IVF4,Flat", rows(400))
    path.write_bytes(path.read_bytes()[:-1000])
    for memory_map in (False, True):
        with pytest.raises(ConfigError, match=r"knn\.index is not a readable FAISS index"):
            read_index(path, memory_map=memory_map)
