"""Do work once for everyone who asks for the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Running(Generic[T]):
    task: asyncio.Task[T]
    num_waiting: int = 0


class SharedWork(Generic[T]):
    """Tasks by key; a task is cancelled when the last of those who wait for it leaves."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Running[T]] = {}
        self.num_joined = 0

    def is_running(self, key: Hashable) -> bool:
        """Tell whether `run` would join work that somebody else has begun."""
        return key in self._running

    async def run(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the work that runs under `key`, or start it. Its error reaches everyone who waits."""
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = _Running(asyncio.create_task(start()))
            running.task.add_done_callback(lambda _: self._forget(key, running))
        else:
            self.num_joined += 1
        running.num_waiting += 1
        try:
            return await asyncio.shield(running.task)
        finally:
            running.num_waiting -= 1
            if running.num_waiting == 0 and not running.task.done():
                self._forget(key, running)  # who comes now starts anew
                running.task.cancel()
                await asyncio.gather(running.task, return_exceptions=True)

    def _forget(self, key: Hashable, running: _Running[T]) -> None:
        if self._running.get(key) is running:
            del self._running[key]
