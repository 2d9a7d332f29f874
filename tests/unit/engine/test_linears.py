from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from engine.backends.native import vnni
from engine.backends.native.linears import (
    GROUP,
    ByRows,
    Int4Linear,
    Int8Linear,
    LinearFunction,
    PackedLinear,
    prepare_linears,
)
from tests.support.tiny_engine import tiny_decoder

WAYS: list[tuple[type, float]] = [(PackedLinear, 0.01), (Int8Linear, 0.03), (Int4Linear, 0.15)]
if vnni.is_supported():
    WAYS.append((vnni.VnniLinear, 0.03))


def on_sixteen_levels(num_rows: int, width: int) -> Tensor:
    """Return weights as a file of 4-bit blocks holds them: 32 neighbours share a scale and an offset."""
    levels = torch.randint(0, 16, (num_rows, width // GROUP, GROUP))
    levels[..., 0], levels[..., 1] = 0, 15
    scale, offset = torch.rand(2, num_rows, width // GROUP, 1)
    return (levels * (scale + 0.1) - offset * 8).flatten(1).to(torch.bfloat16)


def bfloat16_linear(*, bias: bool = False, weight: Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(64, 96, bias=bias).to(torch.bfloat16).requires_grad_(False)
    if weight is not None:
        linear.weight.copy_(weight)
    return linear


def relative_error(way: LinearFunction, linear: nn.Linear, num_rows: int) -> float:
    x = torch.randn(num_rows, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = linear.float()(x.float())
        return float((way(x) - exact).norm() / exact.norm())


@pytest.mark.parametrize("num_rows", [1, 3, 32])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("way", "tolerance"), WAYS)
def test_a_way_of_multiplying_stays_within_its_rounding(way: type, tolerance: float, bias: bool, num_rows: int) -> None:
    linear = bfloat16_linear(bias=bias)
    assert relative_error(way(linear), linear, num_rows) < tolerance


def test_four_bits_are_exact_for_weights_that_lie_on_sixteen_levels() -> None:
    linear = bfloat16_linear(weight=on_sixteen_levels(96, 64))
    few = Int4Linear(linear)
    assert few.is_exact
    assert relative_error(few, linear, 2) < 0.01
    assert not Int4Linear(bfloat16_linear()).is_exact


def test_a_linear_chooses_its_way_by_the_number_of_rows() -> None:
    def few(x: Tensor) -> Tensor:
        return x + 1

    def many(x: Tensor) -> Tensor:
        return x + 2

    linear = ByRows(few, many, max_few=2)
    assert [float(linear(torch.zeros(n, 1))[0]) for n in (1, 2, 3)] == [1, 1, 2]
    assert float(linear(torch.zeros(1, 1, 1))) == 2, "a batch of rows is not few rows"


def test_a_float32_decoder_keeps_its_linears() -> None:
    decoder = tiny_decoder()
    prepare_linears(decoder, dtype="auto")
    assert isinstance(decoder.output, nn.Linear)


def test_fewer_bits_are_refused_where_they_cannot_be_had() -> None:
    with pytest.raises(ConfigError, match="int8 needs a bfloat16 decoder"):
        prepare_linears(tiny_decoder(), dtype="int8")
    with pytest.raises(ConfigError, match="int4 needs widths"):
        prepare_linears(tiny_decoder().to(torch.bfloat16), dtype="int4")


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "int8"])
def test_a_prepared_decoder_scores_like_before(dtype: str) -> None:
    decoder = tiny_decoder().to(torch.bfloat16)
    token_ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = decoder.score(token_ids)
        prepare_linears(decoder, dtype=dtype)  # type: ignore[arg-type]
        after = decoder.score(token_ids)
        prepare_linears(decoder, dtype=dtype)  # type: ignore[arg-type]
        again = decoder.score(token_ids)
    assert isinstance(decoder.output, ByRows)
    assert torch.equal(again, after), "a second engine on the same decoder finds it prepared"
    assert float((after - before).norm() / before.norm()) < (0.1 if dtype == "int8" else 0.03)
