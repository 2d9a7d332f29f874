"""The condition inside attention equals the papers' formulas, and its absence changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.errors import InvalidRequest
from models.llama.condition import ConditionTable, ConditionView, gated_adapter_attention
from models.llama.model import DenseCausalAttention, Llama
from models.llama.weights import empty_llama
from models.tiny import TINY_CONFIG

TOKEN_IDS = torch.arange(30).reshape(2, 15) * 11 % 259


def decoder(num_adapter_tokens: int, *, lora_rank: int = 0) -> Llama:
    config = replace(TINY_CONFIG, num_adapter_tokens=num_adapter_tokens, adapter_lora_rank=lora_rank)
    model, generator = empty_llama(config, torch.float32), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in (*model.parameters(), model.adapter_gates):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9))


def rows(*indices: int) -> Tensor:
    return torch.tensor(indices)[:, None]


def test_one_adapter_token_adds_the_gated_value_to_every_head() -> None:
    model, prompts = decoder(1), random(2, 2, 1, 32)
    table = model.project_condition(prompts)
    attention = model.layers[1].attention
    for row in range(2):
        value = attention.wqkv.weight[-16:] @ prompts[row, 1, 0]  # (Hkv Dh,)
        for head in range(4):
            group = head // 2
            expected = model.adapter_gates[1, head] * value[group * 8 : group * 8 + 8]
            term = ConditionView(table, rows(row)).term(1, torch.zeros(1, 1, 4, 8))
            assert term is not None
            torch.testing.assert_close(term[0, 0, head], expected)


def test_ten_adapter_tokens_follow_the_softmax_formula() -> None:
    model, prompts, q = decoder(10), random(1, 2, 10, 32), random(3, 4, 8)
    table = model.project_condition(prompts)
    got = ConditionView(table, torch.zeros(3, dtype=torch.long)).term(0, q)
    assert got is not None
    weight = model.layers[0].attention.wqkv.weight
    for token in range(3):
        for head in range(4):
            group = slice(head // 2 * 8, head // 2 * 8 + 8)
            keys = [(weight[32:48] @ a)[group] for a in prompts[0, 0]]
            values = [(weight[48:64] @ a)[group] for a in prompts[0, 0]]
            scores = [math.exp(float(q[token, head] @ key) / math.sqrt(8)) for key in keys]
            mean = torch.zeros(8)
            for score, value in zip(scores, values, strict=True):
                mean = mean + score / sum(scores) * value
            torch.testing.assert_close(got[token, head], model.adapter_gates[0, head] * mean, atol=1e-6, rtol=1e-5)


def test_one_token_through_the_softmax_equals_the_closed_form() -> None:
    model, prompts, q = decoder(1), random(1, 2, 1, 32), random(1, 5, 4, 8)
    table = model.project_condition(prompts)
    keys, values = model.layers[0].attention.project_adapter(prompts[:, 0])
    mask = torch.ones(1, 5, 1, dtype=torch.bool)
    each = [x.expand(5, -1, -1, -1)[None] for x in (keys, values)]
    attended = gated_adapter_attention(q, each[0], each[1], model.adapter_gates[0], mask)
    closed = ConditionView(table, torch.zeros(1, 5, dtype=torch.long)).term(0, q)
    torch.testing.assert_close(attended, closed)


def test_masked_adapter_tokens_take_no_part() -> None:
    model, prompts = decoder(10), random(1, 2, 10, 32)
    mask = torch.zeros(2, 1, 10, dtype=torch.bool)
    mask[0, :, :4] = mask[1, :, :7] = True
    masked = model.score(TOKEN_IDS[:1], ConditionView(model.project_condition(prompts, mask=mask), rows(0)))
    other = prompts.clone()
    other[:, 0, 4:], other[:, 1, 7:] = 5.0, -5.0
    changed = model.score(TOKEN_IDS[:1], ConditionView(model.project_condition(other, mask=mask), rows(0)))
    torch.testing.assert_close(masked, changed, atol=0, rtol=0)
    whole = model.score(TOKEN_IDS[:1], ConditionView(model.project_condition(prompts), rows(0)))
    assert not torch.allclose(masked, whole)


@pytest.mark.parametrize("num_tokens", [1, 10])
def test_a_zero_row_changes_nothing_exactly(num_tokens: int) -> None:
    model = decoder(num_tokens)
    prompts = torch.cat((torch.zeros(1, 2, num_tokens, 32), random(1, 2, num_tokens, 32)))
    view = ConditionView(model.project_condition(prompts), rows(0, 1))
    plain, mixed = model.score(TOKEN_IDS), model.score(TOKEN_IDS, view)
    assert torch.equal(plain[0], mixed[0])
    assert not torch.allclose(plain[1], mixed[1])


@pytest.mark.parametrize("num_tokens", [1, 10])
def test_closed_gates_change_nothing_exactly(num_tokens: int) -> None:
    model, prompts = decoder(num_tokens), random(2, 2, num_tokens, 32)
    table = model.project_condition(prompts, gates=torch.zeros(2, 4))
    assert torch.equal(model.score(TOKEN_IDS), model.score(TOKEN_IDS, ConditionView(table, rows(0, 1))))


class FlatSegments:
    """Attention over the flat tokens of two sequences, `lengths` of them each."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dense = DenseCausalAttention()
        parts = zip(*(x.split_with_sizes(self.lengths) for x in (q, k, v)), strict=True)
        return torch.cat([dense.attend(layer, *(x[None] for x in part))[0] for part in parts])


@pytest.mark.parametrize("num_tokens", [1, 10])
def test_flat_ragged_rows_equal_dense_ones(num_tokens: int) -> None:
    model, prompts = decoder(num_tokens), random(2, 2, num_tokens, 32)
    table = model.project_condition(prompts)
    flat = torch.cat((TOKEN_IDS[0, :6], TOKEN_IDS[1, :15]))
    positions = torch.cat((torch.arange(6), torch.arange(15)))
    row_of = torch.tensor([1] * 6 + [0] * 15)
    hidden = model.forward(flat, positions, FlatSegments(6, 15), ConditionView(table, row_of))
    ragged = model.logits(hidden)
    first = model.score(TOKEN_IDS[:1, :6], ConditionView(table, rows(1)))[0]
    second = model.score(TOKEN_IDS[1:], ConditionView(table, rows(0)))[0]
    torch.testing.assert_close(ragged, torch.cat((first, second)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_tokens", [1, 10])
def test_kept_lora_factors_give_adapter_tokens_the_unmerged_matrices(num_tokens: int) -> None:
    plain, merged, prompts = decoder(num_tokens), decoder(num_tokens, lora_rank=3), random(2, 2, num_tokens, 32)
    with torch.no_grad():
        for block in merged.layers:
            down, up = random(2, 3, 32), random(2, 16, 3)
            block.attention.adapter_down, block.attention.adapter_up = down, up
            block.attention.wqkv.weight[32:48] += up[0] @ down[0]
            block.attention.wqkv.weight[48:64] += up[1] @ down[1]
    expected, got = plain.project_condition(prompts), merged.project_condition(prompts)
    torch.testing.assert_close(got.values, expected.values, atol=1e-4, rtol=1e-4)
    if num_tokens > 1:
        torch.testing.assert_close(got.keys, expected.keys, atol=1e-4, rtol=1e-4)


def test_prompts_of_another_decoder_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"\(3, 32\).*\(2, 32\)"):
        decoder(1).project_condition(torch.zeros(1, 3, 1, 32))


def test_a_layer_without_adapters_adds_nothing() -> None:
    table = ConditionTable(layers=(1,), values=torch.ones(1, 1, 4, 8))
    assert ConditionView(table, rows(0)).term(0, torch.zeros(1, 1, 4, 8)) is None
