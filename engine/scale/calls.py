"""One call to a deployment: to the replica that a key belongs to, and once more where a replica has died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from core.errors import AppError, EngineFault, NotReady, Overloaded
from core.telemetry import EventLog

T = TypeVar("T")
Handle: TypeAlias = "DeploymentHandle[Any]"
MAX_ATTEMPTS = 3  # one that kills every replica it meets must not go round the whole cluster
LOST = (RayActorError, ReplicaUnavailableError)
"""What a call fails with when its replica or its machine is gone; nothing that our own code raises."""
REFUSED = (BackPressureError, DeploymentUnavailableError, TaskCancelledError)
"""What a call fails with when no replica takes it, or when the client whose request it belongs to has left."""


class RetryingCaller:
    """Call one deployment. What dies with a replica is tried again elsewhere unless part of it was passed on."""

    def __init__(self, handle: Handle, log: EventLog) -> None:
        self.handle = handle
        self._log = log

    async def result(self, method: str, *arguments: Any, key: str) -> Any:
        """Return what a method returns; an `AppError` that it returns is raised. Cancelling it cancels the call."""

        async def attempt() -> Any:
            response = self.handle.options(method_name=method, session_id=key).remote(*arguments)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise

        outcome = await self._retried(attempt, method)
        if isinstance(outcome, AppError):
            raise outcome
        return outcome

    async def stream(self, method: str, argument: Any, *, key: str) -> AsyncGenerator[Any, None]:
        """Yield what a method yields. Closing the generator cancels the call.

        Raises `EngineFault` when the replica died after something was yielded: what is left cannot be said twice.
        """

        async def attempt() -> tuple[Any, AsyncGenerator[Any, None]]:
            items = self._stream_once(method, argument, key)
            return await anext(items, None), items

        first, items = await self._retried(attempt, method)
        async with aclosing(items):
            try:
                if first is not None:
                    yield first
                async for item in items:
                    yield item
            except LOST as error:
                self._log.fault("replica_lost", error, method=method, has_begun=True)
                raise EngineFault(
                    "the machine that wrote this reply was lost and the reply is incomplete; send the request again"
                ) from error
            except TaskCancelledError as error:
                raise _refusal(error) from error

    async def _stream_once(self, method: str, argument: Any, key: str) -> AsyncGenerator[Any, None]:
        response = self.handle.options(method_name=method, session_id=key, stream=True).remote(argument)
        is_over = False
        try:
            async for item in response:
                yield item
            is_over = True
        finally:
            if not is_over:
                response.cancel()

    async def _retried(self, attempt: Callable[[], Awaitable[T]], method: str) -> T:
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                return await attempt()
            except LOST as error:
                self._note_loss(error, method, number)
            except REFUSED as error:
                raise _refusal(error) from error
        raise AssertionError("the last loss raises")

    def _note_loss(self, error: Exception, method: str, attempt: int) -> None:
        """Record a lost replica. Raises `EngineFault` after the last attempt."""
        self._log.fault("replica_lost", error, method=method, attempt=attempt)
        if attempt == MAX_ATTEMPTS:
            raise EngineFault(f"{attempt} machines were lost with this request; it is not tried again") from error


def _refusal(error: Exception) -> AppError:
    if isinstance(error, BackPressureError):
        return Overloaded("every replica is busy and their queue is full; try again soon")
    if isinstance(error, TaskCancelledError):
        return NotReady("the request was cancelled")
    return NotReady("no replica runs; try again soon")
