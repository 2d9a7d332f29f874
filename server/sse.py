"""Server-sent events: the frames of one reply, keep-alive comments, and a close that always frees the slot."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from server.error_handlers import error_body, is_fault
from server.running_reply import RunningReply
from server.settings import Settings

DONE = "[DONE]"


class EventStream(EventSourceResponse):
    """Send frames, and comments while there are none, until they end or the client leaves."""

    def __init__(self, frames: AsyncIterator[ServerSentEvent], settings: Settings) -> None:
        super().__init__(
            frames,
            ping=settings.keep_alive_s,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
            sep="\n",
            shutdown_grace_period=settings.drain_timeout_s + 5,
        )


class ReplyResponse(EventStream):
    """The stream of a reply that ends with it: the reply is closed when the client leaves, even if never read."""

    def __init__(self, running: RunningReply, frames: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(frames, running.settings)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._running.aclose()


async def reply_response(running: RunningReply, *, stream: bool, include_usage: bool) -> Response:
    """Return the whole reply, or a stream once it has begun or kept silent for so long that it will say 200."""
    if not stream:
        async with aclosing(running):
            return JSONResponse((await running.collect()).completion())
    await running.wait_first()
    return ReplyResponse(
        running, reply_frames(running, include_usage=include_usage)
    )  # closes the reply when it has been sent


async def reply_frames(running: RunningReply, *, include_usage: bool) -> AsyncIterator[ServerSentEvent]:
    """Yield the opening of every choice, text, one finish per choice, the usage when asked for, and `[DONE]`.

    An error ends the stream with one error frame and no `[DONE]`.
    """
    try:
        async for body in _chunks(running, {"usage": None} if include_usage else {}):
            yield _frame(body)
        if include_usage:
            yield _frame(running.reply.chunk([], usage=running.reply.usage()))
        yield ServerSentEvent(DONE, sep="\n")
    except Exception as error:
        if is_fault(error):
            running.trace.log.fault("request_failed", error)
        body = error_body(error)
        running.trace.error_code = body["error"]["code"]
        yield _frame(body)


async def _chunks(running: RunningReply, usage_slot: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    reply = running.reply
    for choice in reply.first_chunk_choices():
        yield reply.chunk([choice], **usage_slot)
    while (choice_event := await running.stream.next_event()) is not None:
        reply.add(choice_event)
        for choice in reply.chunk_choices(choice_event):
            yield reply.chunk([choice], **usage_slot)
    await running.complete()


def _frame(body: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(body, ensure_ascii=False, separators=(",", ":")), sep="\n")
