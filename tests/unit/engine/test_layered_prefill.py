from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import EngineFault
from core.telemetry import EventLog
from core.types import DecodeRequest
from engine.backends import DecodingConfig
from engine.backends.native.backend import BatchingBackend
from engine.backends.native.layered_prefill import LayeredPrefill, LayerSpan
from engine.backends.native.runner import NativeRunner
from engine.backends.native.scheduler import Row, Sample, StepPlan
from models.bundle import ModelBundle
from tests.support.tiny_engine import (
    ENDLESS,
    TOKENIZER,
    collect,
    decode_request,
    endless_request,
    generated_ids,
    random_condition,
    tiny_bundle,
    until,
)

pytestmark = pytest.mark.anyio
LONG = "a prompt that is read in several parts of a pass, " * 5  # 250 tokens: two passes of three layers


class RecordingRunner(NativeRunner):
    """Keeps the plans it ran."""

    def __init__(self, bundle: ModelBundle, config: DecodingConfig) -> None:
        super().__init__(bundle.decoder, config)
        self.plans: list[StepPlan] = []

    @property
    def num_parts(self) -> int:
        return sum(plan.layers is not None for plan in self.plans)

    def run(self, plan: StepPlan) -> list[Sample]:
        self.plans.append(plan)
        return super().run(plan)


@asynccontextmanager
async def layered_backend() -> AsyncIterator[tuple[BatchingBackend, RecordingRunner]]:
    config = DecodingConfig(max_slots=4, max_queue=16, max_context=ENDLESS, num_threads=1, reuse_prefixes=False)
    runner = RecordingRunner(tiny_bundle(), config)
    backend = BatchingBackend(runner=runner, tokenizer=TOKENIZER, config=config, log=EventLog("test"))
    await backend.start()
    try:
        yield backend, runner
    finally:
        await backend.stop()


async def beside_a_running_reply(backend: BatchingBackend, *requests: DecodeRequest) -> list[list[int] | BaseException]:
    running = backend.generate(endless_request("running"))
    await anext(running)
    outcomes = await asyncio.gather(*(generated_ids(backend, r) for r in requests), return_exceptions=True)
    await running.aclose()  # type: ignore[attr-defined]
    return outcomes


async def test_prompts_read_in_parts_are_answered_as_alone() -> None:
    requests = [
        decode_request("first", LONG, condition=random_condition(1)),
        decode_request("second", LONG[7:90], temperature=1.0, seed=3),
    ]
    async with layered_backend() as (backend, runner):
        alone = [await generated_ids(backend, request) for request in requests]
        assert runner.num_parts == 0, "nothing runs beside them that could wait"
        assert await beside_a_running_reply(backend, *requests) == alone
        assert runner.num_parts > 2


async def test_a_running_reply_goes_on_between_two_parts_of_a_prompt() -> None:
    async with layered_backend() as (backend, runner):
        await beside_a_running_reply(backend, decode_request("long", LONG, max_tokens=1))
    parts = [place for place, plan in enumerate(runner.plans) if plan.layers is not None]
    between = [runner.plans[a + 1 : b] for a, b in pairwise(parts)]
    assert between
    assert all(len(plans) == 1 and len(plans[0].decode) == 1 for plans in between)


async def test_a_prompt_whose_neighbour_leaves_in_the_middle_of_their_pass_is_still_read() -> None:
    request = decode_request("stays", LONG[:60])
    async with layered_backend() as (backend, runner):
        alone = await generated_ids(backend, request)
        running = backend.generate(endless_request("running"))
        await anext(running)
        leaver = asyncio.create_task(collect(backend, decode_request("leaves", LONG, max_tokens=1)))
        stayer = asyncio.create_task(generated_ids(backend, request))
        await until(lambda: runner.num_parts > 0)
        backend.abort("leaves")
        assert await stayer == alone
        assert (await leaver)[-1].finish is not None
        await running.aclose()  # type: ignore[attr-defined]


async def test_a_prompt_that_breaks_its_pass_fails_alone() -> None:
    bad = DecodeRequest(request_id="bad", token_ids=(5, 99999), sampling=decode_request("x").sampling)
    good = decode_request("good", LONG)
    async with layered_backend() as (backend, _):
        alone = await generated_ids(backend, good)
        outcomes = await beside_a_running_reply(backend, bad, good)
        assert isinstance(outcomes[0], EngineFault)
        assert outcomes[1] == alone


def rows(*lengths: int) -> list[Row]:
    sequence: Any = SimpleNamespace(slot=0, num_computed=0, is_decoding=False)
    return [Row(sequence, 0, length, False) for length in lengths]


def test_a_part_has_as_many_layers_as_fit_into_the_time() -> None:
    layered = LayeredPrefill(30)
    _, first = layered.begin(rows(128), 0.016)
    layered.observe(first, 0.004 * (first.last - first.first))
    resumed = layered.resume(0.016)
    assert resumed is not None
    assert resumed[1] == LayerSpan(first.last, first.last + 4, 30)
    layered.observe(resumed[1], 10.0)
    resumed = layered.resume(0.016)
    assert resumed is not None
    assert resumed[1].last - resumed[1].first == 1, "a prompt always moves on"


def test_a_pass_ends_with_the_last_layer_and_another_number_of_tokens_is_timed_by_itself() -> None:
    layered = LayeredPrefill(4)
    _, span = layered.begin(rows(100, 28), 1.0)
    layered.observe(span, 0.001)
    resumed = layered.resume(1.0)
    assert resumed is not None
    assert resumed[1] == LayerSpan(span.last, 4, 4)
    assert resumed[1].is_final
    layered.observe(resumed[1], 0.001)
    assert layered.resume(1.0) is None
    assert not layered.begin(rows(7), 1.0)[1].is_final, "its layers have not been timed"


def test_a_pass_is_void_once_one_of_its_prompts_has_gone() -> None:
    layered = LayeredPrefill(30)
    taken = rows(64)
    _, span = layered.begin(taken, 0.01)
    layered.observe(span, 0.01)
    taken[0].sequence.slot = -1
    assert layered.resume(0.01) is None
