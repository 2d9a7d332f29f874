"""One thread for the blocking work of one expert."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from models.devices import use_threads

T = TypeVar("T")
IsAbandoned = Callable[[], bool]


class ExpertThread:
    """Run one job after another; a job whose caller left is skipped, or told so while it runs."""

    def __init__(self, name: str) -> None:
        # one thread of torch's: a team of its own would slow the decoder's (`models.devices.share_threads`)
        self._pool = ThreadPoolExecutor(1, f"expert-{name}", use_threads, (1,))

    async def run(self, work: Callable[[IsAbandoned], T]) -> T:
        """Return the result of `work`, which should ask often whether it is still wanted. Raises what it raises."""
        abandoned = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, abandoned.is_set)
        finally:
            abandoned.set()

    async def stop(self) -> None:
        """Skip the waiting jobs and wait for the one that runs."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
