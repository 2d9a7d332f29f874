"""What runs inside the decoder and encoder replicas; knows nothing of Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from core.errors import AppError, EngineFault
from core.telemetry import EventLog
from core.types import BackendStats, DecoderBackend, DecodeRequest, MediaBlob, TokenEvent
from engine.encoding.medium import MediumEncoding
from engine.encoding.service import EncodingService
from engine.watchdog import Watchdog

FLUSH_INTERVAL_S = 0.02  # events of one sequence that come closer share one message between machines
Batch = list[TokenEvent | AppError]


class DecoderReplica:
    """A decoder backend whose events leave in batches, the first one alone. Errors travel as the last event."""

    def __init__(self, backend: DecoderBackend, *, stall_after_s: float, log: EventLog) -> None:
        self._backend = backend
        self._watchdog = Watchdog(stall_after_s, time.monotonic)
        self._log = log

    async def start(self) -> None:
        await self._backend.start()

    async def stop(self) -> None:
        await self._backend.stop()

    async def generate(self, portable: tuple[DecodeRequest, float | None]) -> AsyncIterator[Batch]:
        """Yield batches of events; the second part of the argument is the seconds until the deadline.

        Closing the iterator returns once the slot is free.
        """
        ready: Batch = []
        has_come = asyncio.Event()
        running = asyncio.create_task(self._run(_local(portable), ready, has_come))
        try:
            while not running.done() or ready:
                await has_come.wait()
                has_come.clear()
                batch, ready[:] = ready[:], []
                if batch:
                    yield batch
                if not running.done():
                    await asyncio.wait([running], timeout=FLUSH_INTERVAL_S)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def complete(self, portable: tuple[DecodeRequest, float | None]) -> Batch:
        """Return all events of a sequence at once."""
        ready: Batch = []
        await self._run(_local(portable), ready, asyncio.Event())
        return ready

    async def abort(self, request_id: str) -> None:
        """End a sequence, if it runs here, with a `finish="abort"` event."""
        self._backend.abort(request_id)

    async def stats(self) -> BackendStats:
        return self._backend.stats()

    def check_health(self) -> None:
        """Raise `EngineFault` when work waits and the step loop stands still, so that the replica is replaced."""
        if not self._watchdog.observe(self._backend.stats()):
            raise EngineFault(f"no step for {self._watchdog.stalled_s:.0f} s while work waits")

    async def _run(self, request: DecodeRequest, ready: Batch, has_come: asyncio.Event) -> None:
        try:
            async with aclosing(cast("AsyncGenerator[TokenEvent, None]", self._backend.generate(request))) as events:
                async for event in events:
                    ready.append(event)
                    has_come.set()
        except AppError as error:
            ready.append(error)
        except Exception as error:
            self._log.fault("decode_failed", error, request_id=request.request_id)
            ready.append(EngineFault("the engine failed on this request; the log has the details"))
        finally:
            has_come.set()


def _local(portable: tuple[DecodeRequest, float | None]) -> DecodeRequest:
    """Return a request with its deadline on this machine's clock."""
    request, remaining_s = portable
    return request if remaining_s is None else replace(request, deadline_s=time.monotonic() + remaining_s)


class EncoderReplica:
    """Decode and encode media, in micro-batches over all who call, and remember them."""

    def __init__(self, service: EncodingService, log: EventLog) -> None:
        self._service = service
        self._log = log

    async def start(self) -> None:
        await self._service.start()

    async def stop(self) -> None:
        await self._service.stop()

    async def encode(self, blob: MediaBlob, tenant: str) -> MediumEncoding | AppError:
        """Return the encoded medium, or what is wrong with it."""
        try:
            return await self._service.encode(blob, tenant)
        except AppError as error:
            return error
        except Exception as error:
            self._log.fault("encode_failed", error, modality=blob.modality)
            return EngineFault("the encoder failed on this medium; the log has the details")
