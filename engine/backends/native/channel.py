"""Carry events from the step loop's thread to the asyncio consumers, one wake-up per step."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from core.errors import AppError
from core.types import TokenEvent

Item = TokenEvent | AppError


class Channel:
    """The way out of one request. Exactly one terminal item is posted: a `finish` event or an error."""

    def __init__(self) -> None:
        self.event_loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item] = asyncio.Queue()

    def put(self, item: Item) -> None:
        """Deliver one item; only on the consumer's event loop."""
        self._items.put_nowait(item)

    async def get(self) -> Item:
        return await self._items.get()

    async def wait_until_ended(self) -> None:
        """Discard events until the terminal one has passed."""
        while not is_terminal(await self.get()):
            continue


def is_terminal(item: Item) -> bool:
    return isinstance(item, AppError) or item.finish is not None


class Outbox:
    """Collect the items of one step and hand them over together. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self._posted: list[tuple[Channel, Item]] = []

    def post(self, channel: Channel, item: Item) -> None:
        self._posted.append((channel, item))

    def flush(self) -> None:
        """Wake each event loop once. A loop that has closed has no consumers left, so its items are dropped."""
        batches: defaultdict[asyncio.AbstractEventLoop, list[tuple[Channel, Item]]] = defaultdict(list)
        for channel, item in self._posted:
            batches[channel.event_loop].append((channel, item))
        self._posted.clear()
        for event_loop, batch in batches.items():
            with contextlib.suppress(RuntimeError):  # raised by a loop that is closed
                event_loop.call_soon_threadsafe(_deliver, batch)


def _deliver(batch: list[tuple[Channel, Item]]) -> None:
    for channel, item in batch:
        channel.put(item)
