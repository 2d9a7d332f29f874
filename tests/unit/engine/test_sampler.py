from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from core.types import SamplingParams
from engine.backends.native.sampler import sample

GOLDEN = Path(__file__).parents[2] / "golden" / "sampling"
NUM_DRAWS = 4000
COMBINATIONS = [tuple(pair) for pair in json.loads((GOLDEN / "config.json").read_text())["combos"] if pair[1] > 0]


def params(**values: float) -> SamplingParams:
    return SamplingParams(max_tokens=1, **values)  # type: ignore[arg-type]


def distribution(logits: Tensor, sampling: SamplingParams) -> Tensor:
    """Return the frequencies `(V,)` that a row of logits yields over evenly spaced uniform numbers."""
    uniforms = [(i + 0.5) / NUM_DRAWS for i in range(NUM_DRAWS)]
    ids, _ = sample(logits.expand(NUM_DRAWS, -1).contiguous(), [sampling] * NUM_DRAWS, uniforms)
    return torch.bincount(torch.tensor(ids), minlength=logits.numel()) / NUM_DRAWS


def expected_distribution(logits: np.ndarray, sampling: SamplingParams) -> np.ndarray:
    """The filters written as loops over one row."""
    scaled = np.exp((logits - logits.max()) / sampling.temperature)
    order = np.argsort(-scaled, kind="stable")
    kept = order[: sampling.top_k or len(order)]
    total = scaled[kept].sum()
    result, before = np.zeros_like(scaled), 0.0
    for token_id in kept:
        probability = scaled[token_id] / total
        if before <= sampling.top_p and scaled[token_id] >= sampling.min_p * scaled.max():
            result[token_id] = probability
        before += probability
    return result / result.sum()


@pytest.mark.parametrize(("temperature", "top_p"), COMBINATIONS)
def test_top_p_draws_from_the_reference_distribution(temperature: float, top_p: float) -> None:
    rows = load_file(GOLDEN / "inputs.safetensors")["logits"]
    expected = load_file(GOLDEN / "outputs.safetensors")[f"t{temperature}_p{top_p}.filtered_probs"]
    for logits, row in zip(rows, expected, strict=True):
        drawn = distribution(logits, params(temperature=temperature, top_p=top_p))
        torch.testing.assert_close(drawn, row, atol=2 / NUM_DRAWS, rtol=0)


@pytest.mark.parametrize(
    "sampling",
    [
        params(temperature=1.0),
        params(temperature=0.7, top_k=5),
        params(temperature=1.3, top_k=40, top_p=0.6),
        params(temperature=1.0, min_p=0.2),
        params(temperature=0.9, top_k=50, top_p=0.9, min_p=0.02),
    ],
)
def test_filters_combine_in_their_documented_order(sampling: SamplingParams) -> None:
    logits = torch.randn(100, generator=torch.Generator().manual_seed(5)) * 2
    expected = torch.from_numpy(expected_distribution(logits.double().numpy(), sampling)).float()
    torch.testing.assert_close(distribution(logits, sampling), expected, atol=2 / NUM_DRAWS, rtol=0)


@pytest.mark.parametrize("sampling", [params(top_p=0.999), params(top_k=6000, top_p=0.99), params(min_p=1e-4)])
def test_filters_that_keep_thousands_of_tokens_stay_exact(sampling: SamplingParams) -> None:
    logits = torch.randn(9000, generator=torch.Generator().manual_seed(6))
    expected = expected_distribution(logits.double().numpy(), sampling)
    order = np.argsort(-logits.numpy(), kind="stable")
    cumulative = expected[order].cumsum()
    uniforms = [0.001, 0.25, 0.5, 0.75, 0.93, 0.9989]
    ids, _ = sample(logits.expand(6, -1).contiguous(), [sampling] * 6, uniforms)
    assert ids == [int(order[np.searchsorted(cumulative, uniform, side="right")]) for uniform in uniforms]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    logits = torch.randn(4, 50)
    ids, _ = sample(logits, [params(temperature=0.0)] * 4, [0.9] * 4)
    assert ids == logits.argmax(dim=-1).tolist()


def test_a_row_draws_the_same_token_in_any_batch() -> None:
    logits = torch.randn(6, 5000, generator=torch.Generator().manual_seed(7))
    mixed = [
        params(temperature=0.0),
        params(temperature=1.0),
        params(temperature=0.8, top_p=0.9),
        params(temperature=1.0, top_k=3),
        params(temperature=1.0, top_p=0.9999),
        params(temperature=1.5, min_p=0.1),
    ]
    uniforms = [0.1, 0.3, 0.5, 0.7, 0.9, 0.95]
    together, _ = sample(logits, mixed, uniforms)
    alone = [sample(logits[i : i + 1], [mixed[i]], [uniforms[i]])[0][0] for i in range(6)]
    assert together == alone


def test_the_log_probability_is_that_of_the_unmodified_distribution() -> None:
    logits = torch.randn(3, 40)
    ids, logprobs = sample(logits, [params(temperature=0.5, top_k=2)] * 3, [0.2, 0.5, 0.9])
    expected = logits.log_softmax(dim=-1)[torch.arange(3), ids]
    torch.testing.assert_close(torch.tensor(logprobs), expected)
