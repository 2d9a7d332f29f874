"""The compiled sampler draws what the tensors draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.types import SamplingParams
from engine.backends.native.cpu_kernels import raw
from engine.backends.native.cpu_sampling import draw
from engine.backends.native.sampler import sample

NUM_ROWS, VOCABULARY = 64, 5000
FILTERS = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.2, "top_p": 0.9},
    {"temperature": 1.5, "top_p": 0.9999},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 2.0, "top_k": 3000, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.05},
    {"temperature": 0.9, "top_k": 50, "top_p": 0.9, "min_p": 0.02},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_p": 0.0001},
]


def drawn(logits: torch.Tensor, rows: list[int], params: list[SamplingParams], uniforms: list[float]) -> list[int]:
    options = [[u, p.top_k, p.top_p, p.min_p, p.temperature] for u, p in zip(uniforms, params, strict=True)]
    out = np.empty(len(rows), np.int64)
    draw(raw(logits), np.array(rows), np.array(options), out)
    return [int(token_id) for token_id in out]


def some_logits(dtype: torch.dtype) -> torch.Tensor:
    """Return rows without equal values that a draw could meet: tensors and kernels may order those differently."""
    random = torch.Generator().manual_seed(3)
    if dtype == torch.float32:
        return 3 * torch.randn(NUM_ROWS, VOCABULARY, generator=random)
    likely = torch.rand(NUM_ROWS, VOCABULARY, generator=random).argsort(dim=-1)  # the place of each token in its row
    return (25 - likely * 0.25).where(likely < 100, torch.tensor(-60.0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("values", FILTERS, ids=str)
def test_it_draws_the_same_tokens(values: dict[str, float], dtype: torch.dtype) -> None:
    logits = some_logits(dtype)
    params = [SamplingParams(max_tokens=1, **values)] * NUM_ROWS  # type: ignore[arg-type]
    uniforms = [(row + 0.5) / NUM_ROWS for row in range(NUM_ROWS)]
    expected, _ = sample(logits.float(), params, uniforms)
    assert drawn(logits, list(range(NUM_ROWS)), params, uniforms) == expected


def test_rows_are_chosen_and_each_has_its_own_options() -> None:
    logits = torch.full((3, 40), -9.0)
    logits[0, 7], logits[2, 30], logits[2, 31] = 5.0, 5.0, 5.0
    params = [SamplingParams(max_tokens=1, top_p=0.4), SamplingParams(max_tokens=1, temperature=0)]
    assert drawn(logits, [2, 0], params, [0.9, 0.1]) == [30, 7]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_a_row_with_a_value_that_is_not_finite_gets_no_token(temperature: float, dtype: torch.dtype) -> None:
    logits = torch.randn(5, 999, dtype=dtype) - 3
    logits[1, 7], logits[2, 3], logits[3, 998] = float("nan"), float("inf"), float("-inf")
    logits[4] = -5
    params = [SamplingParams(max_tokens=1, temperature=temperature, top_p=0.001)] * 5
    expected = logits.argmax(dim=-1)
    assert drawn(logits, list(range(5)), params, [0.0] * 5) == [expected[0], -1, -1, -1, 0]
