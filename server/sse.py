"""Server-sent events: the frames of one reply, keep-alive comments, and a close that always frees the slot."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from server.completions import chunk_choice
from server.error_handlers import error_body, is_fault
from server.running_reply import RunningReply

DONE = "[DONE]"


class ReplyResponse(EventSourceResponse):
    """Send frames until the reply ends or the client leaves; then close the reply, even if it was never read."""

    def __init__(self, running: RunningReply, *, include_usage: bool) -> None:
        super().__init__(
            reply_frames(running, include_usage=include_usage),
            ping=running.settings.keep_alive_s,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
            sep="\n",
            shutdown_grace_period=running.settings.drain_s + 5,
        )
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._running.aclose()


async def reply_frames(running: RunningReply, *, include_usage: bool) -> AsyncIterator[ServerSentEvent]:
    """Yield the role of every choice, text, one finish per choice, the usage when asked for, and `[DONE]`.

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
    for index in range(len(reply.choices)):
        yield reply.chunk([chunk_choice(index, {"role": "assistant", "content": ""})], **usage_slot)
    while (choice_event := await running.stream.next_event()) is not None:
        reply.add(choice_event)
        event, index = choice_event.event, choice_event.choice
        if event.text:
            yield reply.chunk([chunk_choice(index, {"content": event.text})], **usage_slot)
        if event.finish is not None:
            yield reply.chunk([chunk_choice(index, {}, event.finish)], **usage_slot)
    reply.check_complete()


def _frame(body: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(body, ensure_ascii=False, separators=(",", ":")), sep="\n")
