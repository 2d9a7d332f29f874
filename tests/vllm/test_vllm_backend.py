"""The vLLM backend gives the native engine's greedy tokens in float32, whatever vLLM does to the batch."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import InvalidRequest, Overloaded, PromptTooLong
from engine.backends.vllm.options import VllmOptions
from tests.vllm.engines import bundle, collect, condition, request, running, token_ids

pytestmark = pytest.mark.anyio
MIXED = [(f"tell me {'more ' * i}about {i}", seed) for i, seed in enumerate((1, None, 2, 3, None, 4, 5, None))]


async def both(requests: list[Any], *, num_tokens: int = 1, vllm: VllmOptions | None = None, **config: int) -> Any:
    """Return the tokens of the same requests from vLLM and from the native engine, one at a time there."""
    model = bundle(num_tokens)
    async with running(model, "vllm", vllm=vllm, **config) as backend:
        served = await token_ids(backend, requests)
    async with running(model, "native") as backend:
        alone = [(await token_ids(backend, [asked]))[0] for asked in requests]
    return served, alone


@pytest.mark.parametrize("num_tokens", [1, 10])
async def test_a_mixed_batch_equals_each_request_alone(num_tokens: int) -> None:
    requests = [request(f"r{i}", text, condition(seed, num_tokens)) for i, (text, seed) in enumerate(MIXED)]
    served, alone = await both(requests, num_tokens=num_tokens)
    assert served == alone
    assert len({tuple(tokens[:12]) for tokens in served}) == len(served)


@pytest.mark.parametrize("num_tokens", [1, 10])
async def test_long_replies_to_one_text_follow_their_own_conditions(num_tokens: int) -> None:
    seeds = (None, 21, 22, 23)
    requests = [request(f"r{i}", "one text", condition(s, num_tokens), max_tokens=200) for i, s in enumerate(seeds)]
    served, alone = await both(requests, num_tokens=num_tokens)
    assert served == alone


async def test_cached_prefixes_never_cross_conditions() -> None:
    text = "list these words " + " ".join(f"word{i}" for i in range(30))
    model = bundle()
    asked = [request(f"r{i}", text, condition(seed)) for i, seed in enumerate((31, 32, None, 31, None))]
    async with running(model, "vllm") as backend:
        served = [(await token_ids(backend, [one]))[0] for one in asked]
    async with running(model, "native") as backend:
        alone = [(await token_ids(backend, [one]))[0] for one in asked]
    assert served == alone
    assert served[0] == served[3] != served[1]


@pytest.mark.parametrize("num_tokens", [1, 10])
async def test_preempted_requests_come_back_with_their_condition(num_tokens: int) -> None:
    tiny_cache = VllmOptions(
        eager=True, block_size=32, kv_cache_bytes=24 * 32 * 3 * 2 * 4 * 32 * 4, max_batched_tokens=64
    )
    requests = [
        request(
            f"r{i}",
            "a very long story about " * (i + 1),
            condition(i + 50 if i % 3 else None, num_tokens),
            max_tokens=100,
        )
        for i in range(6)
    ]
    served, alone = await both(requests, num_tokens=num_tokens, vllm=tiny_cache, max_slots=8, max_context=512)
    assert served == alone


async def test_aborted_streams_free_their_slots_and_the_next_ones_are_right() -> None:
    model = bundle()
    async with running(model, "vllm", max_slots=4) as backend:
        for round_number in range(3):
            streams = [
                backend.generate(request(f"a{round_number}-{i}", "stop me", condition(i), max_tokens=500))
                for i in range(4)
            ]
            for stream in streams:
                await anext(stream)
            for stream in streams:
                await stream.aclose()
        assert backend.stats().slots_in_use == 0
        after = await token_ids(backend, [request("b", "after", condition(9)), request("c", "after", None)])
    async with running(model, "native") as backend:
        wanted = await token_ids(backend, [request("b", "after", condition(9)), request("c", "after", None)])
    assert after == wanted


async def test_tensor_parallel_ranks_share_the_condition() -> None:
    requests = [request(f"r{i}", text, condition(seed), max_tokens=32) for i, (text, seed) in enumerate(MIXED[:4])]
    served, alone = await both(requests, vllm=VllmOptions(eager=True, block_size=32, tensor_parallel_size=2))
    assert served == alone


async def test_the_events_are_those_of_every_backend() -> None:
    async with running(bundle(), "vllm") as backend:
        events = await collect(backend, request("r", "hello", None, max_tokens=7, num_logprobs=3))
        assert [event.finish for event in events] == [None] * 6 + ["length"]
        assert events[-1].usage is not None
        assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (5, 7)
        assert all(len(event.most_likely) == 3 and event.drawn is not None for event in events)
        text = "".join(event.text for event in events)
        stopped = await collect(backend, request("s", "hello", None, max_tokens=7, stop=(text[2:4],)))
        assert "".join(event.text for event in stopped) == text[: text.index(text[2:4])]
        assert stopped[-1].finish == "stop"


async def test_refusals_come_before_the_first_event() -> None:
    async with running(bundle(), "vllm", max_slots=1, max_queue=0) as backend:
        with pytest.raises(PromptTooLong):
            await collect(backend, request("long", "x" * 1020, None))
        with pytest.raises(InvalidRequest, match="no tokens"):
            await collect(backend, request("none", "", None))
        busy = backend.generate(request("busy", "hello", None, max_tokens=900))
        await anext(busy)
        with pytest.raises(Overloaded):
            await collect(backend, request("second", "hello", None))
        await busy.aclose()
        assert await collect(backend, request("third", "hello", None))
