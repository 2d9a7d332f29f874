"""The benchmark of the vector index, on a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.vector_index import ClusteredVectors, bytes_per_query, main, recall


def test_blocks_are_seeded_and_queries_are_not_stored() -> None:
    first, second = ClusteredVectors(100, 32, 0), ClusteredVectors(100, 32, 0)
    np.testing.assert_array_equal(first.rows(0, 100), second.rows(0, 100))
    assert not np.array_equal(first.rows(0, 100), ClusteredVectors(100, 32, 1).rows(0, 100))
    assert (first.queries(5) @ first.rows(0, 100).T).max() < 0.999


def test_recall_counts_shared_neighbours() -> None:
    assert recall([[1, 2], [3, -1]], np.array([[2, 1], [3, 4]])) == pytest.approx(0.75)


def test_the_byte_limit_counts_centroids_and_visited_codes() -> None:
    assert bytes_per_query("flat", 1000, 16, 1) == 64_000
    assert bytes_per_query("ivf_sq8", 40_960, 16, 256) == 4 * 16 * 512 + 40_960 * 16 / 2


def test_a_small_run_prints_a_table_and_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--width", "16", "--kind", "ivf_sq8", "--queries", "20", "--threads", "1", "--probes", "4", "50"]
    main(["--sizes", "2000", *options, "--result", str(tmp_path / "rows.json"), "--work", str(tmp_path)])
    few, all_lists = json.loads((tmp_path / "rows.json").read_text())
    assert few["recall_at_10"] <= all_lists["recall_at_10"]
    assert all_lists["recall_at_10"] > 0.8
    assert few["times_exact"] > 0
    assert "| vectors | kind | probes |" in capsys.readouterr().out
