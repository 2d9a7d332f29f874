from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from engine.backends.native import vnni
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.crew import Crew
from engine.backends.native.fused import FusedDecoder
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.layered_prefill import LayerSpan
from engine.backends.native.linears import CROWD, OWN_CROWD, ByRows, Int8Linear, PackedLinear, has_onednn_bfloat16
from engine.backends.native.scheduler import Row, StepPlan, TokenSequence
from engine.backends.native.vnni import VnniLinear
from models.llama.model import Llama
from tests.support.tiny_engine import random_condition, tiny_decoder

CONTEXT = 128
LONG = 70  # tokens of a prompt that is attended to as a whole
pytestmark = pytest.mark.skipif(not has_onednn_bfloat16(), reason="this processor has no bfloat16 through oneDNN")
Way = type[Int8Linear | VnniLinear] | None
WAYS = [Int8Linear, VnniLinear] if vnni.is_supported() else [Int8Linear]


def with_crowd_ways(decoder: Llama, way: type[Int8Linear | VnniLinear]) -> Llama:
    """Give each matrix the way for a crowd, whatever would be faster here."""
    for parent in list(decoder.layers.modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, nn.Linear):
                many = PackedLinear(linear)
                setattr(parent, name, ByRows(many, many, max_few=0, crowd=way(linear)))
    return decoder


def fused_decoder(num_replies: int, way: Way, num_threads: int) -> FusedDecoder:
    """Return a tiny decoder with a condition in all slots but the first."""
    decoder = tiny_decoder(max_context=CONTEXT).to(torch.bfloat16)
    if way is not None:
        decoder = with_crowd_ways(decoder, way)
    cache = KVCache(decoder.config, num_slots=CROWD + 2, max_context=CONTEXT, like=decoder.tok_embeddings.weight)
    conditions = ConditionSlots(decoder, num_slots=CROWD + 2)
    for slot in range(1, num_replies):
        conditions.fill(slot, random_condition(slot))
    conditions.project_pending(range(num_replies))
    return FusedDecoder(decoder, cache, conditions, Crew(num_threads, seconds_a_thread=1e-12))


def rows(slots: range, start: int, length: int = 1) -> tuple[Row, ...]:
    return tuple(Row(cast(TokenSequence, SimpleNamespace(slot=slot)), start, length, True) for slot in slots)


@torch.inference_mode()
def second_tokens(num_replies: int, way: Way, num_threads: int = 1) -> Tensor:
    """Return the hidden states `(num_replies, D)` of replies, all but one conditioned, that read a token before."""
    fused = fused_decoder(num_replies, way, num_threads)
    for slot in range(num_replies):  # alone, so that all read it alike
        fused.forward(torch.tensor([slot + 5]), StepPlan(rows(range(slot, slot + 1), 0), ()))
    return fused.forward(torch.arange(num_replies) + 40, StepPlan(rows(range(num_replies), 1), ())).clone()


@torch.inference_mode()
def replies_and_prompts(
    way: type[Int8Linear | VnniLinear] | None, length: int, parts: list[LayerSpan | None]
) -> Tensor:
    """Return the hidden states of a crowd's second tokens and of two prompts that are read in the same step."""
    fused = fused_decoder(CROWD, way, num_threads=2)
    fused.forward(torch.arange(CROWD) + 5, StepPlan(rows(range(CROWD), 0), ()))
    prompts = rows(range(CROWD, CROWD + 2), 0, length)
    token_ids = torch.arange(CROWD + 2 * length) % 60 + 3
    plan = StepPlan(rows(range(CROWD), 1), prompts)
    for part in parts:
        found = fused.forward(token_ids, plan) if part is None else fused.forward_part(token_ids, plan, part)
    assert found is not None
    return found.clone()


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_of_many_replies_multiplies_in_8_bits_and_stays_close(way: type, num_threads: int) -> None:
    exact, rounded = (second_tokens(CROWD, has, num_threads) for has in (None, way))
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < 0.03


@pytest.mark.parametrize("way", WAYS)
def test_a_step_of_fewer_replies_multiplies_as_one_reply_does(way: type) -> None:
    fewer = (OWN_CROWD if way is VnniLinear else CROWD) - 1
    exact, rounded = (second_tokens(fewer, has) for has in (None, way))
    assert torch.equal(rounded, exact)


@pytest.mark.parametrize("length", [3, LONG])
@pytest.mark.parametrize("way", WAYS)
def test_prompts_that_join_a_crowd_stay_close(way: type, length: int) -> None:
    exact, rounded = (replies_and_prompts(has, length, [None]) for has in (None, way))
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < 0.1


@pytest.mark.parametrize("length", [3, LONG])
@pytest.mark.parametrize("way", WAYS)
def test_layers_taken_in_parts_end_where_one_pass_does(way: type, length: int) -> None:
    last = tiny_decoder().config.num_layers
    whole, parted = (
        replies_and_prompts(way, length, parts) for parts in ([None], [LayerSpan(0, 1, last), LayerSpan(1, last, last)])
    )
    assert torch.equal(whole, parted)
