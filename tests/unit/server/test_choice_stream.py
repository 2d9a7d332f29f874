"""One running reply: whatever ends it, its generator is closed once, in the task that opened it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.errors import DeadlineExceeded, EngineFault, NotReady
from core.types import TokenEvent
from engine.pipeline import ChoiceEvent
from server.choice_stream import MAX_BUFFERED_EVENTS, ChoiceStream

pytestmark = pytest.mark.anyio


class Source:
    """A generator of events that notes how far it came and in which tasks it lived."""

    def __init__(self, num_events: int, error: Exception | None = None, *, hangs: bool = False) -> None:
        self._num_events, self._error, self._hangs = num_events, error, hangs
        self.num_made = 0
        self.tasks: list[asyncio.Task[object] | None] = []

    async def events(self) -> AsyncIterator[ChoiceEvent]:
        self.tasks.append(asyncio.current_task())
        try:
            for index in range(self._num_events):
                self.num_made += 1
                yield ChoiceEvent(choice=0, event=TokenEvent(token_id=index, text="", logprob=0.0))
            if self._hangs:
                await asyncio.Event().wait()
            if self._error is not None:
                raise self._error
        finally:
            self.tasks.append(asyncio.current_task())

    def assert_closed_where_opened(self) -> None:
        opened, closed = self.tasks
        assert opened is closed is not asyncio.current_task()


async def test_events_come_in_order_and_then_none() -> None:
    source = Source(3)
    stream = ChoiceStream(source.events(), timeout_s=5)
    seen = [await stream.next_event() for _ in range(4)]
    assert [event.event.token_id if event else None for event in seen] == [0, 1, 2, None]
    await stream.aclose()
    source.assert_closed_where_opened()


async def test_an_error_comes_after_the_events_before_it() -> None:
    stream = ChoiceStream(Source(1, EngineFault("broken")).events(), timeout_s=5)
    assert await stream.next_event() is not None
    with pytest.raises(EngineFault, match="broken"):
        await stream.next_event()
    await stream.aclose()


async def test_waiting_for_the_first_event_does_not_take_it() -> None:
    stream = ChoiceStream(Source(1).events(), timeout_s=5)
    await stream.wait_first(5)
    event = await stream.next_event()
    assert event is not None
    assert event.event.token_id == 0
    await stream.aclose()


async def test_waiting_raises_an_early_error_and_gives_up_on_a_late_one() -> None:
    failing = ChoiceStream(Source(0, EngineFault("broken")).events(), timeout_s=5)
    with pytest.raises(EngineFault):
        await failing.wait_first(5)
    await failing.aclose()
    silent = ChoiceStream(Source(0, hangs=True).events(), timeout_s=5)
    await silent.wait_first(0.001)
    await silent.aclose()


async def test_closing_early_unwinds_the_generator() -> None:
    source = Source(5, hangs=True)
    stream = ChoiceStream(source.events(), timeout_s=5)
    await stream.next_event()
    await stream.aclose()
    source.assert_closed_where_opened()


async def test_a_reader_that_does_not_read_holds_the_generator_back() -> None:
    source = Source(MAX_BUFFERED_EVENTS * 3)
    stream = ChoiceStream(source.events(), timeout_s=5)
    await stream.next_event()
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.num_made <= MAX_BUFFERED_EVENTS + 2
    await stream.aclose()
    source.assert_closed_where_opened()


async def test_stopping_ends_the_reply_with_the_reason_given() -> None:
    source = Source(1, hangs=True)
    stream = ChoiceStream(source.events(), timeout_s=5)
    await stream.next_event()
    stream.stop(NotReady("stopping"))
    with pytest.raises(NotReady, match="stopping"):
        await stream.next_event()
    await stream.aclose()
    source.assert_closed_where_opened()


async def test_a_reply_over_its_deadline_ends_with_an_error() -> None:
    source = Source(0, hangs=True)
    stream = ChoiceStream(source.events(), timeout_s=0.001)
    with pytest.raises(DeadlineExceeded, match=r"0\.001 s"):
        await stream.next_event()
    await stream.aclose()
    source.assert_closed_where_opened()
