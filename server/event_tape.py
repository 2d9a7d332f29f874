"""What a background response has told so far, for clients that come, go and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

Event = dict[str, Any]


class EventTape:
    """Numbered events in the order they happened; any number of readers follow, each from where it likes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._is_over = False
        self._changed = asyncio.Condition()

    async def add(self, event: Event) -> None:
        """Append an event, whose `sequence_number` is its place."""
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    async def end(self) -> None:
        """Say that nothing follows."""
        async with self._changed:
            self._is_over = True
            self._changed.notify_all()

    async def follow(self, after: int = -1) -> AsyncIterator[Event]:
        """Yield the events behind number `after`, those to come too, until the tape has ended."""
        place = after + 1
        while fresh := await self._next(place):
            for event in fresh:
                yield event
            place += len(fresh)

    async def _next(self, place: int) -> list[Event]:
        """Wait for events from `place` on, and return them; none when the tape has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.events) > place or self._is_over)
            return self.events[place:]
