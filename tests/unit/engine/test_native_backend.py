from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from anyio.lowlevel import checkpoint

from core.errors import EngineFault
from core.telemetry import EventLog
from core.types import AdapterPrompt, Condition, DecodeRequest
from engine.backends import DecodingConfig
from engine.backends.echo import EchoRunner
from engine.backends.native.backend import BatchingBackend
from models.llama.condition import ConditionView
from models.llama.model import Llama
from tests.support.tiny_engine import (
    ENDLESS,
    TOKENIZER,
    WIDTH,
    collect,
    decode_request,
    endless_request,
    generated_ids,
    random_condition,
    running_backend,
    tiny_bundle,
)

pytestmark = pytest.mark.anyio
PROMPTS = ("hi", "a much longer prompt than the others have", "x", "the fourth one")


def dense_greedy(decoder: Llama, request: DecodeRequest) -> list[int]:
    """Decode without cache or batch: score the whole sequence for each new token."""
    view = None
    if request.condition is not None:
        table = decoder.project_condition(torch.from_numpy(request.condition.prompts)[None])
        view = ConditionView(table, torch.zeros(1, 1, dtype=torch.int64))
    token_ids = list(request.token_ids)
    for _ in range(request.sampling.max_tokens):
        logits = decoder.score(torch.tensor([token_ids]), view)
        token_ids.append(int(logits[0, -1].argmax()))
    return token_ids[len(request.token_ids) :]


def mixed_requests(num_tokens: int) -> list[DecodeRequest]:
    """Requests of different lengths, every second one with a condition."""
    conditions: list[Condition] = [
        random_condition(i, num_tokens=num_tokens) if i % 2 else None for i in range(len(PROMPTS))
    ]
    return [
        decode_request(f"r{i}", prompt, condition=condition, max_tokens=6 + 3 * i)
        for i, (prompt, condition) in enumerate(zip(PROMPTS, conditions, strict=True))
    ]


@pytest.mark.parametrize("num_tokens", [1, 10])
async def test_a_mixed_batch_decodes_like_each_request_scored_alone(num_tokens: int) -> None:
    bundle = tiny_bundle(num_adapter_tokens=num_tokens)
    requests = mixed_requests(num_tokens)
    expected = [dense_greedy(bundle.decoder, request) for request in requests]
    async with running_backend(bundle) as backend:
        together = await asyncio.gather(*(generated_ids(backend, request) for request in requests))
    assert list(together) == expected
    plain = decode_request("plain", PROMPTS[1], max_tokens=9)
    assert expected[1] != dense_greedy(bundle.decoder, plain), "the condition must matter for this test to mean much"


async def test_a_condition_with_fewer_tokens_than_the_decoder_takes_is_padded() -> None:
    bundle = tiny_bundle(num_adapter_tokens=10)
    short = random_condition(5, num_tokens=4)
    padded = AdapterPrompt(prompts=np.pad(short.prompts, ((0, 0), (0, 6), (0, 0))), token_counts=(4, 4))
    async with running_backend(bundle) as backend:
        ids = [await generated_ids(backend, decode_request("r", condition=c)) for c in (short, padded)]
    assert ids[0] == ids[1] == dense_greedy(bundle.decoder, decode_request("r", condition=short))


@pytest.mark.parametrize("max_prefill_tokens", [1, 5, 16])
async def test_a_chunked_prompt_decodes_like_a_whole_one(max_prefill_tokens: int) -> None:
    bundle = tiny_bundle()
    requests = mixed_requests(1)
    expected = [dense_greedy(bundle.decoder, request) for request in requests]
    async with running_backend(bundle, max_prefill_tokens=max_prefill_tokens) as backend:
        together = await asyncio.gather(*(generated_ids(backend, request) for request in requests))
    assert list(together) == expected


async def test_requests_join_and_leave_a_running_batch_without_changing_it() -> None:
    bundle = tiny_bundle()
    long = decode_request("long", PROMPTS[3], max_tokens=60, condition=random_condition(8))
    visitors = [
        decode_request(f"v{i}", PROMPTS[i % 4], max_tokens=2 + i, condition=random_condition(i)) for i in range(9)
    ]
    arrivals = {5: visitors[:2], 12: visitors[2:6], 30: visitors[6:]}
    async with running_backend(bundle, max_slots=3) as backend:
        stream = backend.generate(long)
        long_ids, visits = [], []
        async for event in stream:
            long_ids.append(event.token_id)
            for request in arrivals.get(len(long_ids), []):
                visits.append(asyncio.create_task(generated_ids(backend, request)))
            await checkpoint()
        visited = await asyncio.gather(*visits)
    assert long_ids == dense_greedy(bundle.decoder, long)
    assert visited == [dense_greedy(bundle.decoder, request) for request in visitors]


async def test_a_long_prompt_does_not_stall_a_running_reply() -> None:
    async with running_backend(tiny_bundle(), max_prefill_tokens=4) as backend:
        running = backend.generate(endless_request("running"))
        await anext(running)
        before = backend.stats()
        await generated_ids(backend, decode_request("new", "p" * 100, max_tokens=1))
        after = backend.stats()
        await running.aclose()  # type: ignore[attr-defined]
    assert after.num_tokens - before.num_tokens >= 24, "the running reply got a token for every 4 of 100 prompt tokens"


@pytest.mark.parametrize("sampling", [{"temperature": 1.0}, {"temperature": 0.9, "top_p": 0.8}, {"top_k": 5}])
async def test_a_seed_gives_the_same_reply_whatever_else_runs(sampling: dict[str, float]) -> None:
    request = decode_request("seeded", max_tokens=20, seed=42, **{"temperature": 1.0, **sampling})
    others = [decode_request(f"o{i}", p, max_tokens=15, temperature=1.2, seed=i) for i, p in enumerate(PROMPTS[:3])]
    async with running_backend(tiny_bundle()) as backend:
        alone = await generated_ids(backend, request)
        crowded, *_ = await asyncio.gather(*(generated_ids(backend, r) for r in (request, *others)))
        reseeded = await generated_ids(backend, decode_request("s", max_tokens=20, seed=43, temperature=1.0))
    assert alone == crowded
    assert alone != reseeded


@pytest.mark.parametrize(
    "condition",
    [
        random_condition(1, num_layers=5),
        random_condition(1, num_tokens=3),
        AdapterPrompt(prompts=np.zeros((2, 1, WIDTH + 1), dtype=np.float32)),
    ],
)
async def test_a_condition_of_the_wrong_shape_fails_its_own_row_and_the_loop_lives(condition: AdapterPrompt) -> None:
    async with running_backend(tiny_bundle()) as backend:
        bad = collect(backend, decode_request("bad", condition=condition))
        good = generated_ids(backend, decode_request("good"))
        outcomes = await asyncio.gather(bad, good, return_exceptions=True)
        assert isinstance(outcomes[0], EngineFault)
        assert outcomes[1] == await generated_ids(backend, decode_request("again"))
        assert backend.stats().slots_in_use == 0


async def test_a_token_outside_the_vocabulary_fails_its_own_row_in_the_middle_of_a_batch() -> None:
    bad_request = DecodeRequest(request_id="bad", token_ids=(5, 99999), sampling=decode_request("x").sampling)
    async with running_backend(tiny_bundle()) as backend:
        expected = await generated_ids(backend, decode_request("alone", max_tokens=30))
        good = asyncio.create_task(generated_ids(backend, decode_request("good", max_tokens=30)))
        with pytest.raises(EngineFault):
            await collect(backend, bad_request)
        assert await good == expected


async def test_a_row_that_turns_to_nan_fails_alone_and_leaves_a_clean_slot() -> None:
    poison = AdapterPrompt(prompts=np.full((2, 1, WIDTH), np.nan, dtype=np.float32))
    async with running_backend(tiny_bundle(), max_slots=2) as backend:
        expected = await generated_ids(backend, decode_request("alone", max_tokens=20))
        good = asyncio.create_task(generated_ids(backend, decode_request("good", max_tokens=20)))
        with pytest.raises(EngineFault):
            await collect(backend, decode_request("bad", "a longer prompt", condition=poison))
        assert await good == expected
        pair = (generated_ids(backend, decode_request(name, max_tokens=20)) for name in ("first", "second"))
        assert await asyncio.gather(*pair) == [expected, expected]


async def test_a_condition_does_not_outlive_its_request_in_a_slot() -> None:
    async with running_backend(tiny_bundle(), max_slots=1) as backend:
        before = await generated_ids(backend, decode_request("a"))
        await generated_ids(backend, decode_request("b", condition=random_condition(2)))
        assert await generated_ids(backend, decode_request("c")) == before


async def test_a_bfloat16_decoder_runs_on_packed_weights() -> None:
    bundle = tiny_bundle()
    reference = decode_request("r", max_tokens=1)
    expected = dense_greedy(bundle.decoder, reference)
    bundle = replace(bundle, decoder=bundle.decoder.to(torch.bfloat16))
    async with running_backend(bundle) as backend:
        assert await generated_ids(backend, reference) == expected


class LeakyRunner(EchoRunner):
    """Fails where no single row is to blame."""

    def release(self, slot: int) -> None:
        raise RuntimeError("a slot would not let go")


async def test_a_fault_outside_any_row_ends_all_live_requests_and_the_loop_lives() -> None:
    config = DecodingConfig(max_slots=2, max_context=ENDLESS)
    backend = BatchingBackend(
        runner=LeakyRunner(TOKENIZER.eos_token_ids), tokenizer=TOKENIZER, config=config, log=EventLog("test")
    )
    await backend.start()
    for _ in range(2):
        requests = (endless_request("long"), decode_request("short", max_tokens=1))
        outcomes = await asyncio.gather(*(collect(backend, r) for r in requests), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [EngineFault, EngineFault]
        assert backend.stats().slots_in_use == 0
    await backend.stop()
