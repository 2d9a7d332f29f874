from __future__ import annotations

import pytest
import torch

from core.types import AdapterPrompt, Condition
from engine.backends.native.channel import Channel
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.graphs import DecodeGraphs, bucket
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.scheduler import Row, TokenSequence
from engine.decoding.text_stream import TextStream
from models.llama.condition import ConditionView
from models.llama.model import Llama
from tests.support.tiny_engine import TOKENIZER, decode_request, random_condition, tiny_decoder

NUM_SLOTS = 5
pytestmark = pytest.mark.anyio


def scored(decoder: Llama, token_ids: list[int], condition: Condition) -> torch.Tensor:
    """Return the logits `(V,)` after the last token, from the whole sequence at once."""
    view = None
    if condition is not None:
        table = decoder.project_condition(torch.from_numpy(condition.prompts)[None])
        view = ConditionView(table, torch.zeros(1, 1, dtype=torch.int64))
    return decoder.score(torch.tensor([token_ids]), view)[0, -1]


def sequence_in(slot: int, condition: Condition) -> TokenSequence:
    request = decode_request(f"in slot {slot}", condition=condition)
    return TokenSequence(request, Channel(), TextStream(TOKENIZER, ()), frozenset(), slot=slot)


@pytest.mark.parametrize("num_tokens", [1, 10])
async def test_a_step_over_fixed_slots_scores_like_each_sequence_alone(num_tokens: int) -> None:
    decoder = tiny_decoder(num_adapter_tokens=num_tokens, max_context=64)
    conditions = ConditionSlots(decoder, num_slots=NUM_SLOTS)
    cache = KVCache(decoder.config, num_slots=NUM_SLOTS + 1, max_context=64, like=decoder.tok_embeddings.weight)
    graphs = DecodeGraphs(decoder, cache, conditions, captures=False)
    given: dict[int, AdapterPrompt | None] = {0: None, 1: random_condition(1, num_tokens=num_tokens), 3: None}
    given[2] = random_condition(2, num_tokens=num_tokens)
    for slot, condition in given.items():
        conditions.fill(slot, condition)
    conditions.project_pending(given)
    tokens: dict[int, list[int]] = {slot: [] for slot in given}
    with torch.inference_mode():
        for step in range(12):
            running = [slot for slot in given if step >= 3 * slot // 2 and (slot != 0 or step < 8)]
            for slot in running:
                tokens[slot].append(5 + 7 * slot + step)
            rows = tuple(Row(sequence_in(s, given[s]), len(tokens[s]) - 1, 1, True) for s in running)
            logits = graphs.logits([tokens[slot][-1] for slot in running], rows)
            for row, slot in zip(logits, running, strict=True):
                torch.testing.assert_close(row, scored(decoder, tokens[slot], given[slot]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("needed", "size"), [(1, 1), (3, 4), (4, 4), (33, 48)])
def test_buckets_double_up_to_the_largest(needed: int, size: int) -> None:
    assert bucket(needed, smallest=1, largest=48) == size


def test_only_the_conditions_of_the_slots_that_step_are_projected() -> None:
    decoder = tiny_decoder(num_adapter_tokens=1, max_context=64)
    conditions = ConditionSlots(decoder, num_slots=NUM_SLOTS)
    layer = decoder.config.adapted_layers[0]
    with torch.inference_mode():
        for slot in (0, 2):
            conditions.fill(slot, random_condition(slot, num_tokens=1))
        conditions.project_pending([2])
        table = conditions.constants(layer)
        assert table is not None
        assert [bool(row.any()) for row in table[:3]] == [False, False, True]
        conditions.project_pending([0, 2])
    assert [bool(row.any()) for row in table[:3]] == [True, False, True]
