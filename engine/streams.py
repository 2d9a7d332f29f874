"""Merge the token streams of one request's choices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from core.types import TokenEvent

Merged = AsyncGenerator[tuple[int, TokenEvent], None]
_Queue = asyncio.Queue[tuple[int, TokenEvent] | Exception | None]


async def merge(streams: Sequence[AsyncGenerator[TokenEvent, None]]) -> Merged:
    """Yield `(stream number, event)` as events come; the first error ends all. Closing closes every stream."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for event in only:
                yield 0, event
        return
    queue: _Queue = asyncio.Queue()
    tasks = [asyncio.create_task(_pump(number, stream, queue)) for number, stream in enumerate(streams)]
    try:
        num_open = len(tasks)
        while num_open:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(number: int, stream: AsyncGenerator[TokenEvent, None], queue: _Queue) -> None:
    """Move events into the queue, then None, or the error that ended the stream."""
    outcome: Exception | None = None
    try:
        async with aclosing(stream) as events:
            async for event in events:
                await queue.put((number, event))
    except Exception as error:
        outcome = error
    await queue.put(outcome)
