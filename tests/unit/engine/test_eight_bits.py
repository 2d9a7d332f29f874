from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.fused import FusedDecoder
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.linears import CROWD, ByRows, Int8Linear, PackedLinear, has_onednn_bfloat16
from engine.backends.native.scheduler import Row, StepPlan, TokenSequence
from models.llama.model import Llama
from tests.support.tiny_engine import random_condition, tiny_decoder

CONTEXT = 16
pytestmark = pytest.mark.skipif(not has_onednn_bfloat16(), reason="this processor has no bfloat16 through oneDNN")


def with_crowd_ways(decoder: Llama) -> Llama:
    """Give each matrix the way for a crowd, whatever would be faster here."""
    for parent in list(decoder.layers.modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, nn.Linear):
                many = PackedLinear(linear)
                setattr(parent, name, ByRows(many, many, max_few=0, crowd=Int8Linear(linear)))
    return decoder


@torch.inference_mode()
def second_tokens(num_replies: int, *, has_crowd_ways: bool) -> Tensor:
    """Return the hidden states `(num_replies, D)` of replies, all but one conditioned, that read a token before."""
    decoder = tiny_decoder(max_context=CONTEXT).to(torch.bfloat16)
    if has_crowd_ways:
        decoder = with_crowd_ways(decoder)
    cache = KVCache(decoder.config, num_slots=CROWD, max_context=CONTEXT, like=decoder.tok_embeddings.weight)
    conditions = ConditionSlots(decoder, num_slots=CROWD)
    fused = FusedDecoder(decoder, cache, conditions, num_threads=1)
    sequences = [cast(TokenSequence, SimpleNamespace(slot=slot)) for slot in range(num_replies)]
    for slot in range(1, num_replies):
        conditions.fill(slot, random_condition(slot))
    conditions.project_pending(range(num_replies))
    for sequence in sequences:  # alone, so that all read it alike
        fused.forward(torch.tensor([sequence.slot + 5]), StepPlan((Row(sequence, 0, 1, True),), ()))
    plan = StepPlan(tuple(Row(sequence, 1, 1, True) for sequence in sequences), ())
    return fused.forward(torch.arange(num_replies) + 40, plan).clone()


def test_a_step_of_many_replies_multiplies_in_8_bits_and_stays_close() -> None:
    exact, rounded = (second_tokens(CROWD, has_crowd_ways=has) for has in (False, True))
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < 0.03


def test_a_step_of_fewer_replies_multiplies_as_one_reply_does() -> None:
    exact, rounded = (second_tokens(CROWD - 1, has_crowd_ways=has) for has in (False, True))
    assert torch.equal(rounded, exact)
