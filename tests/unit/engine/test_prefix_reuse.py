from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import DeadlineExceeded, PromptTooLong
from core.types import AdapterPrompt, Condition, DecodeRequest
from engine.backends.native.backend import BatchingBackend
from engine.backends.native.slots import SlotPool, prefix_scope
from tests.support.tiny_engine import (
    TOKENIZER,
    collect,
    decode_request,
    endless_request,
    generated_ids,
    random_condition,
    running_backend,
    tiny_bundle,
    until,
)

pytestmark = pytest.mark.anyio
FIRST_TURN = "what is in this picture? "
SCOPE = prefix_scope("", None)


async def converse(
    backend: BatchingBackend, condition: Condition, second: Condition, *, tenants: tuple[str, str] = ("", "")
) -> tuple[list[int], int]:
    """Ask twice, the second time with question and answer of the first; return its reply and how much was cached."""
    first = replace(decode_request("first", FIRST_TURN, condition=condition, max_tokens=12), tenant=tenants[0])
    answer = await generated_ids(backend, first)
    token_ids = (*first.token_ids, *answer, *TOKENIZER.encode(" and now?"))
    request = decode_request("second", condition=second, max_tokens=12)
    events = await collect(backend, replace(request, token_ids=token_ids, tenant=tenants[1]))
    assert events[-1].usage is not None
    return [event.token_id for event in events], events[-1].usage.cached_tokens


@pytest.mark.parametrize("num_tokens", [1, 10])
@pytest.mark.parametrize("has_medium", [True, False])
async def test_a_next_turn_with_the_same_medium_reuses_its_prefix_and_answers_the_same(
    has_medium: bool, num_tokens: int
) -> None:
    condition = random_condition(3, num_tokens=num_tokens) if has_medium else None
    replies = []
    for reuses in (True, False):
        async with running_backend(tiny_bundle(num_adapter_tokens=num_tokens), reuse_prefixes=reuses) as backend:
            reply, num_cached = await converse(backend, condition, condition)
            replies.append(reply)
            assert num_cached == (len(FIRST_TURN) + 11 if reuses else 0), "the last token of a reply is never computed"
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    ("condition", "second"),
    [
        (random_condition(1), random_condition(2)),
        (random_condition(1), None),
        (None, random_condition(1)),
        (random_condition(1), AdapterPrompt(prompts=random_condition(1).prompts, token_counts=(1, 0))),
        (random_condition(1), AdapterPrompt(prompts=random_condition(1).prompts + np.float32(1e-6))),
    ],
)
async def test_nothing_is_reused_under_another_condition(condition: Condition, second: Condition) -> None:
    async with running_backend(tiny_bundle()) as backend:
        reply, num_cached = await converse(backend, condition, second)
    async with running_backend(tiny_bundle(), reuse_prefixes=False) as backend:
        expected, _ = await converse(backend, condition, second)
    assert num_cached == 0
    assert reply == expected


async def test_nothing_is_reused_across_tenants() -> None:
    async with running_backend(tiny_bundle()) as backend:
        assert (await converse(backend, None, None, tenants=("a", "b")))[1] == 0
        assert (await converse(backend, None, None, tenants=("a", "a")))[1] > 0


async def test_a_repeated_prompt_computes_at_least_its_last_token() -> None:
    async with running_backend(tiny_bundle()) as backend:
        runs = [await collect(backend, decode_request("r", "again", max_tokens=5)) for _ in range(2)]
    cached = [events[-1].usage.cached_tokens for events in runs if events[-1].usage]
    assert cached == [0, 4]
    assert [e.token_id for e in runs[0]] == [e.token_id for e in runs[1]]


async def test_a_slot_that_turned_to_nan_is_never_reused() -> None:
    poison = AdapterPrompt(prompts=np.full((2, 1, 32), np.nan, dtype=np.float32))
    async with running_backend(tiny_bundle(), max_slots=1) as backend:
        for _ in range(2):
            with pytest.raises(Exception, match="engine failed"):
                await collect(backend, decode_request("bad", "a prompt", condition=poison))
        events = await collect(backend, decode_request("good", "a prompt"))
    assert events[-1].usage is not None and events[-1].usage.cached_tokens == 0


async def test_a_bfloat16_decoder_reuses_too() -> None:
    bundle = tiny_bundle()
    async with running_backend(replace(bundle, decoder=bundle.decoder.to(torch.bfloat16))) as backend:
        assert (await converse(backend, None, None))[1] > 0


async def test_sequences_wait_until_the_cache_has_room_for_them() -> None:
    async with running_backend(tiny_bundle(), max_slots=4, max_cache_tokens=100) as backend:
        large = backend.generate(decode_request("large", "x" * 10, max_tokens=60))
        await anext(large)
        waiting = asyncio.create_task(collect(backend, decode_request("waits", "y" * 10, max_tokens=60)))
        await until(lambda: backend.stats().queue_length == 1)
        small = asyncio.create_task(collect(backend, decode_request("small", "z", max_tokens=2)))
        await until(lambda: backend.stats().queue_length == 2)
        await large.aclose()  # type: ignore[attr-defined]
        assert len(await waiting) == 60
        assert len(await small) == 2
        with pytest.raises(PromptTooLong):
            await collect(backend, decode_request("never", "w" * 50, max_tokens=60))


async def test_a_deadline_ends_a_running_and_a_waiting_request() -> None:
    async with running_backend(tiny_bundle(), max_slots=1) as backend:
        running = backend.generate(endless_request("running"))
        await anext(running)
        late = replace(decode_request("late"), deadline_s=0.0)
        with pytest.raises(DeadlineExceeded):
            await collect(backend, late)
        assert backend.stats().queue_length == 0
        await running.aclose()  # type: ignore[attr-defined]
        with pytest.raises(DeadlineExceeded):
            await collect(backend, replace(endless_request("slow"), deadline_s=0.0))
        assert await generated_ids(backend, decode_request("next"))


async def test_a_lower_priority_number_is_served_first() -> None:
    order: list[str] = []

    async def run(backend: BatchingBackend, request: DecodeRequest) -> None:
        await collect(backend, request)
        order.append(request.request_id)

    async with running_backend(tiny_bundle(), max_slots=1) as backend:
        running = backend.generate(endless_request("running"))
        await anext(running)
        tasks = []
        for place, (name, priority) in enumerate((("b", 0), ("c", 0), ("d", 5), ("a", -1))):
            request = replace(decode_request(name), priority=priority)
            tasks.append(asyncio.create_task(run(backend, request)))
            await until(lambda place=place: backend.stats().queue_length == place + 1)  # type: ignore[misc]
        await running.aclose()  # type: ignore[attr-defined]
        await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "d"]


def test_the_longest_prefix_is_taken_and_the_oldest_one_evicted() -> None:
    pool = SlotPool(3, max_tokens=100, keeps_prefixes=True)
    ended = ([1, 2], [1, 2, 3, 4], [9])
    places = [pool.take(SCOPE, [*token_ids, 0], 10) for token_ids in ended]
    for place, token_ids in zip(places, ended, strict=True):
        assert place is not None
        pool.park(place.slot, SCOPE, token_ids)
    taken = pool.take(SCOPE, [1, 2, 3, 8], 10)
    assert taken is not None and (taken.slot, taken.num_cached, taken.evicted) == (1, 3, ())
    fresh = pool.take(SCOPE, [7, 7], 10)
    assert fresh is not None and (fresh.num_cached, fresh.evicted) == (0, (0,))


def test_parked_tokens_make_room_within_the_bound() -> None:
    pool = SlotPool(4, max_tokens=30, keeps_prefixes=True)
    for start in (0, 100):
        place = pool.take(SCOPE, [start, 1], 12)
        assert place is not None
        pool.park(place.slot, SCOPE, list(range(start, start + 12)))
    large = pool.take(SCOPE, [5, 5], 20)
    assert large is not None and large.evicted == (0, 1)
    assert pool.take(SCOPE, [6, 6], 11) is None
    assert pool.take(SCOPE, [6, 6], 10) is not None
