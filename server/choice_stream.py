"""One running reply: owned by one task, ended exactly once by a result, an error or an abort."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from starlette.requests import ClientDisconnect, Request

from core.errors import AppError, DeadlineExceeded

if TYPE_CHECKING:
    from engine.pipeline import ChoiceEvent

T = TypeVar("T")
MAX_BUFFERED_EVENTS = 256  # a slow reader holds back its own reply, not the server's memory


class ChoiceStream:
    """Drive a pipeline stream in a task of its own.

    The generator is opened, iterated and closed in that task, whatever task reads the events. `aclose` aborts the
    reply and returns when its slot is free. Must be built inside a running event loop.
    """

    def __init__(
        self,
        events: AsyncIterator[ChoiceEvent],
        *,
        timeout_s: float,
        on_first: Callable[[], None] = lambda: None,
        on_gap: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._events = cast("AsyncGenerator[ChoiceEvent, None]", events)
        self._timeout_s = timeout_s
        self._on_first = on_first
        self._on_gap = on_gap
        self._last_s: dict[int, float] = {}  # by choice
        self._head: list[ChoiceEvent | Exception | None] = []  # taken from the buffer, not yet read
        self._buffer: asyncio.Queue[ChoiceEvent | Exception | None] = asyncio.Queue(MAX_BUFFERED_EVENTS)
        self._stop_reason: AppError | None = None
        self._has_started = False
        self.task = asyncio.create_task(self._pump())

    async def next_event(self) -> ChoiceEvent | None:
        """Return the next event, or None after the last one. Raises what the reply failed with."""
        item = self._head.pop() if self._head else await self._buffer.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def wait_first(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for the first event, which stays unread. Raises what the reply failed with by then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                self._head.append(await self._buffer.get())
        if self._head and isinstance(self._head[0], Exception):
            raise self._head[0]

    def stop(self, reason: AppError) -> None:
        """End the reply with `reason` as its error."""
        self._stop_reason = reason
        self.task.cancel()

    async def aclose(self) -> None:
        """Abort what still runs and wait until it has unwound."""
        self._stop_reason = None
        self.task.cancel()
        await asyncio.wait([self.task])

    async def _pump(self) -> None:
        outcome: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout_s), aclosing(self._events) as events:
                async for event in events:
                    self._note_arrival(event.choice)
                    await self._buffer.put(event)
        except TimeoutError:
            outcome = DeadlineExceeded(
                f"the reply took longer than {max(self._timeout_s, 0):.3g} s; ask for fewer tokens"
            )
        except asyncio.CancelledError:
            if self._stop_reason is None:
                raise
            outcome = self._stop_reason
        except Exception as error:
            outcome = error
        await self._buffer.put(outcome)

    def _note_arrival(self, choice: int) -> None:
        now_s = time.perf_counter()
        if choice in self._last_s:
            self._on_gap(now_s - self._last_s[choice])
        self._last_s[choice] = now_s
        if not self._has_started:
            self._has_started = True
            self._on_first()


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it and raise `ClientDisconnect` when the client leaves first.

    The request's body must have been read.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_wait_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
