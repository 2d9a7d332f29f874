"""The same index on a GPU: run with the extra faiss-gpu on a machine that has one, `pytest -m gpu tests/gpu`."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from cache_index.index import IndexKind, read_index, train_index
from cache_index.visual_cache import normalize
from core.types import FloatArray

E = 64
has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu, reason="needs a CUDA device and the extra faiss-gpu")]


def rows(count: int, seed: int = 0) -> FloatArray:
    return normalize(np.random.default_rng(seed).normal(size=(count, E)).astype(np.float32))


@pytest.mark.parametrize(("kind", "moves"), [("flat", True), ("ivf_flat", True), ("ivf_sq8", True), ("hnsw", False)])
def test_a_memory_mapped_index_finds_the_same_on_the_gpu(kind: IndexKind, moves: bool, tmp_path: Path) -> None:
    stored, queries = rows(20_000), rows(50, seed=1)
    built = train_index(kind, len(stored), E, stored)
    built.add(stored)
    pieces: list[bytes] = []
    built.write(pieces.append)
    (tmp_path / "knn.index").write_bytes(b"".join(pieces))
    index = read_index(tmp_path / "knn.index", memory_map=True)
    scores, ids = index.search(queries, 10)
    assert index.move_to_gpu() is moves
    gpu_scores, gpu_ids = index.search(queries, 10)
    np.testing.assert_allclose(gpu_scores, scores, atol=2e-2)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, gpu_ids, strict=True)]) > 0.95
    np.testing.assert_allclose(index.vectors(ids[0]), index.vectors(gpu_ids[0]), atol=0.2)
