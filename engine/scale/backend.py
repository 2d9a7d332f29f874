"""`DecoderBackend` over the decoder replicas of a Ray Serve application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace

from ray import serve
from ray.serve.exceptions import RayServeException

from core.errors import AppError, ConfigError, EngineFault, InvalidRequest, NotReady
from core.telemetry import EventLog
from core.types import BackendStats, DecodeRequest, TokenEvent
from engine.backends import DecodingConfig
from engine.scale.calls import Handle, RetryingCaller
from models.bundle import ModelBundle

DECODERS, ENCODERS = "Decoders", "Encoders"
POLL_S = 1.0
POLL_TIMEOUT_S = 10.0
_Item = TokenEvent | AppError
_NOTHING = BackendStats(slots_total=0, slots_in_use=0, queue_length=0, num_steps=0, num_tokens=0)


def deployment(name: str) -> Handle:
    """Return the handle of another deployment of this application. Raises `ConfigError` outside of one."""
    try:
        return serve.get_deployment_handle(name, app_name=serve.get_replica_context().app_name)
    except RayServeException as error:
        raise ConfigError(
            "the backend ray runs inside a Ray Serve application; start it with: serve run docker/ray/serve.yaml",
            param="backend",
        ) from error


def build_ray(bundle: ModelBundle, config: DecodingConfig) -> RemoteBackend:
    """Build the backend inside an ingress replica. Raises `ConfigError` elsewhere."""
    return RemoteBackend(deployment(DECODERS), EventLog("engine"))


class RemoteBackend:
    """Forward sequences to decoder replicas; a conversation goes where its keys and values are.

    A sequence whose replica dies is decoded again by another one unless part of it was streamed; then it ends with
    `EngineFault`. `stats` are the sums over the replicas, at most `POLL_S` old.
    """

    def __init__(self, handle: Handle, log: EventLog) -> None:
        self._handle = handle
        self._caller = RetryingCaller(handle, log)
        self._log = log
        self._stats = _NOTHING
        self._polling: asyncio.Task[None] | None = None
        self._reached = asyncio.Event()
        self._live: dict[str, asyncio.Queue[_Item]] = {}
        self._aborting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Wait until a decoder replica runs."""
        self._polling = asyncio.create_task(self._poll_for_ever())
        await self._reached.wait()

    async def stop(self) -> None:
        """End every live request with `NotReady`; the replicas go on for others."""
        polling, self._polling = self._polling, None
        for coming in self._live.values():
            coming.put_nowait(NotReady("the server is stopping; the reply is incomplete"))
        if polling is not None:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    async def generate(self, request: DecodeRequest) -> AsyncIterator[TokenEvent]:
        """Yield events until one carries `finish`. Closing the iterator cancels the sequence on its replica.

        Raises what the replica's backend raises, `Overloaded` when the queue for all replicas is full, and
        `EngineFault` when replicas were lost.
        """
        if self._polling is None:
            raise NotReady("the engine is starting or stopping; try again soon")
        if request.request_id in self._live:
            raise InvalidRequest(f"request id {request.request_id} is already in use", param="request_id")
        coming = self._live[request.request_id] = asyncio.Queue()
        reading = asyncio.create_task(self._read(request, coming))
        try:
            while True:
                item = await coming.get()
                if isinstance(item, AppError):
                    raise item
                yield item
                if item.finish is not None:
                    return
        finally:
            del self._live[request.request_id]
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def abort(self, request_id: str) -> None:
        """End a request with a `finish="abort"` event; unknown ids are already over."""
        if request_id in self._live:
            task = asyncio.get_running_loop().create_task(self._abort(request_id))
            self._aborting.add(task)
            task.add_done_callback(self._aborting.discard)

    def stats(self) -> BackendStats:
        return self._stats

    async def _read(self, request: DecodeRequest, coming: asyncio.Queue[_Item]) -> None:
        """Take what a replica sends, to its end or to the error that it ends with."""
        key = request.conversation or request.request_id
        try:
            if request.is_streamed:
                await _put_all(self._caller.stream("generate", _portable(request), key=key), coming)
            else:
                for item in await self._caller.result("complete", _portable(request), key=key):
                    coming.put_nowait(item)
            raise EngineFault("a replica ended this reply before its last token")
        except AppError as error:
            coming.put_nowait(error)
        except Exception as error:
            self._log.fault("remote_decode_failed", error, request_id=request.request_id)
            coming.put_nowait(EngineFault("the engine failed on this request; the log has the details"))

    async def _abort(self, request_id: str) -> None:
        """Tell every replica, for the one that has the request is known to Ray only."""
        try:
            await self._handle.broadcast("abort", request_id).results_async(timeout_s=POLL_TIMEOUT_S)
        except Exception as error:
            self._log.fault("abort_failed", error, request_id=request_id)

    async def _poll(self) -> None:
        """Ask every replica how it is; without an answer the last one stays."""
        try:
            calls = self._handle.broadcast("stats")
            answers = await calls.results_async(timeout_s=POLL_TIMEOUT_S, return_exceptions=True)
        except Exception as error:  # no replica runs, or they are too busy to answer
            self._log.event("replicas_not_reached", error=repr(error))
            return
        found = [answer for answer in answers if isinstance(answer, BackendStats)]
        if found:
            self._stats = total(found)
            self._reached.set()

    async def _poll_for_ever(self) -> None:
        while True:
            await self._poll()
            await asyncio.sleep(POLL_S)


async def _put_all(batches: AsyncGenerator[list[_Item], None], coming: asyncio.Queue[_Item]) -> None:
    async with aclosing(batches):
        async for batch in batches:
            for item in batch:
                coming.put_nowait(item)


def total(replicas: Iterable[BackendStats]) -> BackendStats:
    """Return the sums over replicas."""
    rows = list(replicas)
    kv_tokens = (sum(row.kv_tokens[0] for row in rows), sum(row.kv_tokens[1] for row in rows))
    names = ("slots_total", "slots_in_use", "queue_length", "num_steps", "num_tokens", "num_restarts")
    return BackendStats(**{name: sum(getattr(row, name) for row in rows) for name in names}, kv_tokens=kv_tokens)


def _portable(request: DecodeRequest) -> tuple[DecodeRequest, float | None]:
    """Return a request with its remaining seconds: no two machines share a clock."""
    if request.deadline_s is None:
        return request, None
    return replace(request, deadline_s=None), request.deadline_s - time.monotonic()
