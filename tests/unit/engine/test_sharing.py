"""Work that several ask for at once is done once, and ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import MediaDecodeError
from engine.encoding.sharing import SharedWork
from tests.support.tiny_engine import until

pytestmark = pytest.mark.anyio


class Work:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.num_started = self.num_cancelled = 0

    async def run(self) -> int:
        self.num_started += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        return self.num_started


async def test_all_who_ask_meanwhile_get_one_result() -> None:
    shared, work = SharedWork[int](), Work()
    tasks = [asyncio.create_task(shared.run("key", work.run)) for _ in range(5)]
    other = asyncio.create_task(shared.run("other", work.run))
    await until(lambda: work.num_started == 2)
    work.gate.set()
    assert len(set(await asyncio.gather(*tasks))) == 1
    await other
    assert not shared.is_running("key")
    assert await shared.run("key", work.run) == 3


async def test_one_who_leaves_does_not_take_the_work_along() -> None:
    shared, work = SharedWork[int](), Work()
    first, second = (asyncio.create_task(shared.run("key", work.run)) for _ in range(2))
    await until(lambda: work.num_started == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    work.gate.set()
    assert await second == 1
    assert work.num_cancelled == 0


async def test_the_last_who_leaves_ends_it_and_the_next_starts_anew() -> None:
    shared, work = SharedWork[int](), Work()
    tasks = [asyncio.create_task(shared.run("key", work.run)) for _ in range(2)]
    await until(lambda: work.num_started == 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (work.num_cancelled, shared.is_running("key")) == (1, False)
    work.gate.set()
    assert await shared.run("key", work.run) == 2


async def test_an_error_reaches_everyone_and_is_not_kept() -> None:
    shared, gate = SharedWork[int](), asyncio.Event()

    async def fail() -> int:
        await gate.wait()
        raise MediaDecodeError("damaged")

    tasks = [asyncio.create_task(shared.run("key", fail)) for _ in range(2)]
    await until(lambda: shared.is_running("key"))
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [MediaDecodeError] * 2
    assert not shared.is_running("key")
