from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.backends.native.packing import PackedLinear, pack_linears
from tests.support.tiny_engine import tiny_decoder


@pytest.mark.parametrize("num_rows", [1, 3, 32])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_equals_the_linear_it_replaces(num_rows: int, bias: bool) -> None:
    linear = nn.Linear(48, 80, bias=bias).to(torch.bfloat16)
    x = torch.randn(num_rows, 48, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=1e-2, rtol=1e-2)


def test_only_bfloat16_linears_are_packed() -> None:
    assert pack_linears(tiny_decoder()) == 0


def test_a_packed_decoder_scores_like_before() -> None:
    decoder = tiny_decoder().to(torch.bfloat16)
    token_ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = decoder.score(token_ids)
        assert pack_linears(decoder) == 4 * 3 + 1
        torch.testing.assert_close(decoder.score(token_ids), before, atol=0.1, rtol=0.05)
