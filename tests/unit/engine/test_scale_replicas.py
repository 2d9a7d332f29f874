"""What a decoder replica sends, without Ray: batches of events, errors as the last one, and nothing left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from core.errors import DeadlineExceeded, EngineFault, PromptTooLong
from core.telemetry import EventLog
from core.types import BackendStats, DecodeRequest, TokenEvent
from engine.backends.native.backend import BatchingBackend
from engine.scale.replicas import DecoderReplica
from tests.support.tiny_engine import collect, decode_request, endless_request, running_backend, tiny_bundle

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running_replica(**config: int) -> AsyncIterator[tuple[DecoderReplica, BatchingBackend]]:
    async with running_backend(tiny_bundle(), **config) as backend:
        yield DecoderReplica(backend, stall_after_s=60, log=EventLog("engine")), backend


async def test_batches_hold_every_event_in_order_and_there_are_fewer_than_events() -> None:
    request = decode_request("r", max_tokens=40)
    async with running_replica() as (replica, backend):
        batches = [batch async for batch in replica.generate((request, None))]
        wanted = await collect(backend, replace(request, request_id="alone"))
        whole = await replica.complete((replace(request, request_id="whole"), None))
    events = [event for batch in batches for event in batch]
    assert [event.token_id for event in events if isinstance(event, TokenEvent)] == [e.token_id for e in wanted]
    assert [event.token_id for event in whole if isinstance(event, TokenEvent)] == [e.token_id for e in wanted]
    assert len(batches) < len(events)


async def test_an_error_is_the_last_event() -> None:
    request = decode_request("r", "p" * 20)
    async with running_replica(max_context=16) as (replica, _):
        ((streamed,),) = [batch async for batch in replica.generate((request, None))]
        (whole,) = await replica.complete((request, None))
    assert isinstance(streamed, PromptTooLong)
    assert isinstance(whole, PromptTooLong)


async def test_leaving_a_stream_frees_its_slot() -> None:
    async with running_replica() as (replica, backend):
        batches = replica.generate((endless_request("r"), None))
        await anext(batches)
        assert (await replica.stats()).slots_in_use == 1
        await batches.aclose()  # type: ignore[attr-defined]
        assert backend.stats().slots_in_use == 0


async def test_an_abort_ends_the_stream_with_a_finish() -> None:
    async with running_replica() as (replica, _):
        batches = replica.generate((endless_request("r"), None))
        await anext(batches)
        await replica.abort("r")
        last = [batch async for batch in batches][-1][-1]
    assert isinstance(last, TokenEvent)
    assert last.finish == "abort"


async def test_a_deadline_counts_from_the_arrival_on_this_machine() -> None:
    async with running_replica() as (replica, _):
        events = await replica.complete((endless_request("r"), 0.05))
    assert isinstance(events[-1], DeadlineExceeded)


class StandingBackend:
    """A backend that has work and makes no step."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: DecodeRequest) -> AsyncIterator[TokenEvent]:
        raise RuntimeError("a bug")
        yield  # makes it a generator

    def abort(self, request_id: str) -> None: ...

    def stats(self) -> BackendStats:
        return BackendStats(slots_total=1, slots_in_use=1, queue_length=0, num_steps=0, num_tokens=0)


def test_a_replica_that_stands_still_is_not_healthy() -> None:
    replica = DecoderReplica(StandingBackend(), stall_after_s=0, log=EventLog("engine"))
    with pytest.raises(EngineFault, match="while work waits"):
        replica.check_health()


async def test_a_bug_of_the_backend_becomes_an_engine_fault() -> None:
    replica = DecoderReplica(StandingBackend(), stall_after_s=60, log=EventLog("engine"))
    (event,) = await replica.complete((decode_request("r"), None))
    assert isinstance(event, EngineFault)
