from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from core.types import AnyArray
from engine.backends.native import vnni
from engine.backends.native.cpu_kernels import raw
from engine.backends.native.crew import Crew, new_counters
from engine.backends.native.crowd import packed_output
from engine.backends.native.crowd_stages import run_output
from engine.backends.native.linears import ByRows

pytestmark = pytest.mark.skipif(not vnni.is_supported(), reason="this processor has no AVX-512 VNNI")


def linear_of(num_outputs: int, width: int) -> nn.Linear:
    return nn.Linear(width, num_outputs, bias=False).to(torch.bfloat16).requires_grad_(False)


def unpacked(weights: vnni.Weights8) -> AnyArray:
    """Return the levels of the weights by output, `(48 B, K)`."""
    return weights.levels.transpose(0, 2, 1, 3).reshape(len(weights.starts), -1).astype(np.int64)


@pytest.mark.parametrize("shape", [(48, 64), (100, 4), (96, 1536), (7, 20)])
@pytest.mark.parametrize("num_rows", [1, 4, 7, 8, 33])
def test_products_are_those_of_whole_numbers(shape: tuple[int, int], num_rows: int) -> None:
    linear = vnni.VnniLinear(linear_of(*shape))
    levels = np.random.default_rng(0).integers(0, 256, (num_rows, shape[1]), dtype=np.uint8)
    sums = (levels.astype(np.int64) - 128) @ unpacked(linear.weights).T
    expected = sums.astype(np.float32) * linear.weights.scales
    assert np.array_equal(linear.multiply(torch.from_numpy(levels)), expected[:, : shape[0]])


def test_a_row_that_is_not_finite_shows_it() -> None:
    x = torch.randn(2, 64, dtype=torch.bfloat16)
    x[1, 3] = torch.nan
    products = vnni.VnniLinear(linear_of(60, 64))(x)
    assert products[0].isfinite().all() and products[1].isnan().all()


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("num_outputs", [40, 1000])
def test_an_output_layer_gives_every_row_its_logits_on_any_number_of_threads(
    num_outputs: int, num_threads: int
) -> None:
    way = vnni.VnniLinear(linear_of(num_outputs, 64))
    output = packed_output(ByRows(way, way, max_few=0))
    assert output is not None
    crew = Crew(num_threads, seconds_a_thread=1e-12)
    for num_rows in (9, 2):
        hidden = torch.randn(num_rows, 64, dtype=torch.bfloat16)
        assert torch.equal(output(hidden, crew), way(hidden))


def test_a_thread_that_comes_late_finds_nothing_to_do() -> None:
    way = vnni.VnniLinear(linear_of(2000, 64))
    hidden = torch.randn(5, 64, dtype=torch.bfloat16)
    rows = vnni.Rows8.empty(8, 64)
    out = torch.empty(5, 2000, dtype=torch.bfloat16)
    counters, matrix = new_counters(2), vnni.addresses_of(way.weights)
    run_output(counters, raw(hidden), rows, matrix, raw(out))
    done = out.clone()
    out.zero_()
    run_output(counters, raw(hidden), rows, matrix, raw(out))
    assert torch.equal(done, way(hidden)) and not out.any()
