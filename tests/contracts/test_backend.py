"""What every decoder backend promises, run over the table of backends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from core.errors import EngineFault, InvalidRequest, NotReady, Overloaded, PromptTooLong
from core.types import DecodeRequest, TokenEvent
from engine.backends import BACKENDS, DecodingConfig
from models.tiny import ByteTokenizer
from tests.support.tiny_engine import (
    EOS,
    collect,
    decode_request,
    endless_request,
    generated_ids,
    running_backend,
    tiny_bundle,
    until,
)

ELSEWHERE = {"vllm", "ray"}  # their promises are tested in tests/vllm and tests/scale, where they are installed
HERE = [name for name in BACKENDS.names() if name not in ELSEWHERE]

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("name", HERE)]


def text_of(events: list[TokenEvent]) -> str:
    return "".join(event.text for event in events)


async def test_a_reply_ends_with_exactly_one_finish_and_the_right_usage(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        events = await collect(backend, decode_request("r", "hello", max_tokens=7))
    assert [event.finish for event in events] == [None] * 6 + ["length"]
    usage = events[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 7)
    assert all(event.usage is None for event in events[:-1])


async def test_an_end_token_stops_the_reply_without_text(name: str) -> None:
    bundle = tiny_bundle()
    async with running_backend(bundle, backend=name) as backend:
        (first, *_) = await collect(backend, decode_request("probe", max_tokens=2))
    eos_tokenizer = ByteTokenizer()
    eos_tokenizer.eos_token_ids = frozenset({first.token_id})
    async with running_backend(replace(bundle, tokenizer=eos_tokenizer), backend=name) as backend:
        stopped = await collect(backend, decode_request("r", ignore_eos=False, max_tokens=50))
    assert stopped[-1].finish == "stop"
    assert stopped[-1].token_id == first.token_id
    assert stopped[-1].text == ""


async def test_text_never_passes_a_stop_string(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        free = text_of(await collect(backend, decode_request("free", max_tokens=12)))
        stop = free[3:5]
        events = await collect(backend, decode_request("r", max_tokens=12, stop=(stop,)))
    assert text_of(events) == free[: free.index(stop)]
    assert events[-1].finish == "stop"


async def test_closing_a_stream_frees_its_slot(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        stream = backend.generate(endless_request("r"))
        await anext(stream)
        assert backend.stats().slots_in_use == 1
        await stream.aclose()  # type: ignore[attr-defined]
        assert backend.stats().slots_in_use == 0


async def test_closing_a_stream_that_waits_takes_it_out_of_the_queue(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name, max_slots=1) as backend:
        running = backend.generate(endless_request("running"))
        await anext(running)
        waiting = asyncio.create_task(collect(backend, decode_request("waiting")))
        await until(lambda: backend.stats().queue_length == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (backend.stats().queue_length, backend.stats().slots_in_use) == (0, 1)
        await running.aclose()  # type: ignore[attr-defined]


async def test_an_abort_by_id_ends_the_stream_with_a_finish(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        stream = backend.generate(endless_request("r"))
        await anext(stream)
        backend.abort("r")
        rest = [event async for event in stream]
        assert rest[-1].finish == "abort"
        assert backend.stats().slots_in_use == 0


async def test_aborting_an_unknown_id_does_nothing(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        backend.abort("nobody")
        assert (await collect(backend, decode_request("r")))[-1].finish == "length"


async def test_a_full_queue_refuses_and_takes_requests_again_later(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name, max_slots=1, max_queue=1) as backend:
        running = backend.generate(endless_request("running"))
        await anext(running)
        waiting = asyncio.create_task(collect(backend, decode_request("waiting")))
        await until(lambda: backend.stats().queue_length == 1)
        with pytest.raises(Overloaded):
            await collect(backend, decode_request("refused"))
        await running.aclose()  # type: ignore[attr-defined]
        assert (await waiting)[-1].finish == "length"
        assert (await collect(backend, decode_request("later")))[-1].finish == "length"


async def test_many_requests_at_once_all_end_once(name: str) -> None:
    requests = [decode_request(f"r{i}", "p" * (1 + i % 7), max_tokens=1 + i % 5) for i in range(20)]
    async with running_backend(tiny_bundle(), backend=name) as backend:
        replies = await asyncio.gather(*(collect(backend, request) for request in requests))
        assert [len(reply) for reply in replies] == [1 + i % 5 for i in range(20)]
        assert all([event.finish for event in reply].count("length") == 1 for reply in replies)
        stats = backend.stats()
    assert (stats.slots_in_use, stats.queue_length, stats.num_tokens) == (0, 0, sum(map(len, replies)))


async def test_a_prompt_beyond_the_context_is_refused_with_its_numbers(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name, max_context=16) as backend:
        with pytest.raises(PromptTooLong, match=r"10 tokens .* is 7, .* 16 tokens"):
            await collect(backend, decode_request("r", "p" * 10, max_tokens=7))
        assert (await collect(backend, decode_request("fits", "p" * 10, max_tokens=6)))[-1].finish == "length"


async def test_an_empty_prompt_is_refused(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        with pytest.raises(InvalidRequest, match="no tokens"):
            await collect(backend, decode_request("r", ""))


async def test_an_id_in_use_is_refused(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        stream = backend.generate(endless_request("r"))
        await anext(stream)
        with pytest.raises(InvalidRequest, match="already in use"):
            await collect(backend, decode_request("r"))
        await stream.aclose()  # type: ignore[attr-defined]


class BrokenTokenizer(ByteTokenizer):
    """A tokenizer that fails on one byte."""

    def token_bytes(self, token_id: int) -> bytes:
        if token_id == ord("!") + 3:
            raise RuntimeError("no such token")
        return super().token_bytes(token_id)


async def test_a_fault_of_one_row_ends_it_with_an_error_and_the_loop_lives(name: str) -> None:
    bundle = tiny_bundle()
    async with running_backend(bundle, backend=name) as backend:
        (first, *_) = await collect(backend, decode_request("probe", "!", max_tokens=2))

    class Broken(BrokenTokenizer):
        def token_bytes(self, token_id: int) -> bytes:
            return super().token_bytes(ord("!") + 3 if token_id == first.token_id else token_id)

    async with running_backend(replace(bundle, tokenizer=Broken()), backend=name) as backend:
        with pytest.raises(EngineFault):
            await collect(backend, decode_request("r", "!"))
        assert backend.stats().slots_in_use == 0
        stream = backend.generate(decode_request("again", "!"))
        with pytest.raises(EngineFault):
            await anext(stream)


async def test_stopping_ends_running_and_waiting_requests_once(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name, max_slots=1) as backend:
        running = backend.generate(endless_request("running"))
        await anext(running)
        waiting = asyncio.create_task(collect(backend, decode_request("waiting")))
        await until(lambda: backend.stats().queue_length == 1)
        await backend.stop()
        with pytest.raises(NotReady):
            [event async for event in running]
        with pytest.raises(NotReady):
            await waiting
        with pytest.raises(NotReady):
            await collect(backend, decode_request("late"))


async def test_a_backend_that_was_never_started_refuses_and_stops(name: str) -> None:
    backend = BACKENDS.load(name)(tiny_bundle(), DecodingConfig(max_slots=1, max_context=64))
    with pytest.raises(NotReady):
        await anext(backend.generate(decode_request("r")))
    await backend.stop()
    assert backend.stats().slots_in_use == 0


async def test_the_end_token_is_not_text_when_it_is_ignored(name: str) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        events = await collect(backend, decode_request("r", max_tokens=40))
    assert all(event.text == "" for event in events if event.token_id == EOS)
    assert events[-1].finish == "length"


async def test_random_comings_and_goings_lose_and_leak_nothing(name: str) -> None:
    random = Random(3)
    requests = [decode_request(f"r{i}", "abcdefgh"[: 1 + i % 8], max_tokens=1 + i % 17) for i in range(60)]

    async def leave_early(request: DecodeRequest, num_events: int) -> int:
        stream = backend.generate(request)
        for _ in range(num_events):
            await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return num_events

    async with running_backend(tiny_bundle(), backend=name, max_queue=60, max_prefill_tokens=6) as backend:
        alone = [len(await collect(backend, request)) for request in requests]
        leaving = {i: random.randrange(alone[i] + 1) for i in range(60) if random.random() < 0.4}
        work = [
            leave_early(request, leaving[i]) if i in leaving else collect(backend, request)
            for i, request in enumerate(requests)
        ]
        outcomes = await asyncio.gather(*work)
        stats = backend.stats()
    kept = [len(outcome) for outcome in outcomes if isinstance(outcome, list)]
    assert kept == [count for i, count in enumerate(alone) if i not in leaving]
    assert (stats.slots_in_use, stats.queue_length) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"num_logprobs": 2},
        {"frequency_penalty": 1.0},
        {"presence_penalty": 1.0},
        {"repetition_penalty": 1.5},
        {"logit_bias": ((40, 100.0),)},
        {"min_tokens": 4},
        {"stop_token_ids": frozenset({40})},
    ],
)
async def test_a_parameter_is_honoured_or_refused_by_name(name: str, options: dict[str, object]) -> None:
    async with running_backend(tiny_bundle(), backend=name) as backend:
        plain = await generated_ids(backend, decode_request("plain"))
        asked = {**options, **({"stop_token_ids": frozenset(plain[:1])} if "stop_token_ids" in options else {})}
        request = decode_request("r", ignore_eos="min_tokens" not in options, **asked)  # type: ignore[arg-type]
        if name != "native" and "stop_token_ids" not in options:
            with pytest.raises(InvalidRequest, match=r"no meaning"):
                await collect(backend, request)
            return
        events = await collect(backend, request)
    is_honoured = {
        "num_logprobs": all(event.drawn and len(event.most_likely) == 2 for event in events),
        "logit_bias": {event.token_id for event in events} == {40},
        "min_tokens": len(events) >= 4,
        "stop_token_ids": [event.finish for event in events] == ["stop"],
    }
    assert is_honoured.get(next(iter(options)), True)


async def test_rows_with_parameters_leave_a_greedy_neighbour_alone(name: str) -> None:
    busy = {"native": {"repetition_penalty": 3.0, "logit_bias": ((50, 8.0),), "num_logprobs": 5}}.get(name, {})
    async with running_backend(tiny_bundle(), backend=name) as backend:
        alone = await generated_ids(backend, decode_request("alone", max_tokens=20))
        neighbours = [decode_request(f"n{i}", "x" * i, max_tokens=9 * i, **busy) for i in range(1, 3)]  # type: ignore[arg-type]
        results = await asyncio.gather(
            generated_ids(backend, decode_request("r", max_tokens=20)),
            *(generated_ids(backend, request) for request in neighbours),
        )
    assert results[0] == alone
