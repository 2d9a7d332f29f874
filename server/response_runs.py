"""Run responses: whole, streamed and in the background; keep them; take up their history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from core.errors import AppError, InvalidRequest, UnknownName
from server.context import AppContext, Service
from server.error_handlers import is_fault
from server.event_tape import Event, EventTape
from server.response_output import ResponseDraft
from server.running_reply import RunningReply
from server.schemas.response import ResponseBody, chat_of, input_items, renamed
from server.trace import RequestTrace

if TYPE_CHECKING:
    from engine.document_store import DocumentStore

KIND = "response"
EVENTS = "response_events"  # of a background response that was asked to stream
INTERRUPTED = {"code": "server_error", "message": "the server was stopped before the response was finished"}


class ResponseRun:
    """One response of one owner, from its checked body to its stored object."""

    def __init__(self, context: AppContext, trace: RequestTrace, body: ResponseBody, response_id: str) -> None:
        self._context = context
        self._service = context.service()
        self._trace = trace
        self._body = body
        self._id = response_id
        if body.is_stored or body.background or body.previous_response_id:
            require_documents(self._service)
        self.items = input_items(body)
        self.draft: ResponseDraft
        self.tape = EventTape()  # of a background run

    async def prepare(self) -> RunningReply:
        """Check everything and start the reply. Raises what a chat raises, in the names of a response."""
        max_messages = self._context.settings.max_messages
        previous, owner = self._body.previous_response_id, self._trace.owner
        history: list[dict[str, Any]] = []
        if previous:
            history = await asyncio.to_thread(history_of, self._service.documents, owner, previous, max_messages)
        chat = chat_of(self._body, history, self.items)
        try:
            builder = self._context.request_builder(self._service, owner)
            request = await builder.build(chat, [], request_id=self._id)
        except InvalidRequest as error:
            raise renamed(error) from None
        self.draft = ResponseDraft(self._body, request, self._id)
        return RunningReply(self._context, self._service, self._trace, request)

    async def events(self, running: RunningReply) -> AsyncIterator[Event]:
        """Yield every event of the response; an error is the last of them. Stored before the last one leaves."""
        reply = running.reply
        (choice,) = reply.choices
        try:
            for event in self.draft.begin():
                yield event
            if self._body.background:
                await self.keep()
            while (choice_event := await running.stream.next_event()) is not None:
                num_known = len(choice.logprobs)
                reply.add(choice_event)
                for event in self.draft.take(choice.fresh, choice.logprobs[num_known:]):
                    yield event
            reply.check_complete()
            last = list(self.draft.finish(choice.finish, reply.usage(), choice.logprobs))
        except Exception as error:
            if is_fault(error):
                self._trace.log.fault("request_failed", error)
            self._trace.error_code = getattr(error, "code", "engine_fault")
            last = list(self.draft.fail(renamed(error) if isinstance(error, InvalidRequest) else error))
        try:
            await self.keep()
        except AppError as error:  # a client must not think that it is kept
            self._trace.error_code = error.code
            last = list(self.draft.fail(error))
        for event in last:
            yield event

    async def whole(self, running: RunningReply) -> dict[str, Any]:
        """Return the finished object. Raises what the reply failed with."""
        reply = running.reply
        (choice,) = reply.choices
        async with aclosing(running):
            while (choice_event := await running.stream.next_event()) is not None:
                reply.add(choice_event)
                for _ in self.draft.take(choice.fresh):
                    continue
            reply.check_complete()
        for _ in self.draft.finish(choice.finish, reply.usage(), choice.logprobs):
            continue
        await self.keep()
        return self.draft.document

    async def keep(self) -> None:
        """Store the response with its input, unless the client asked not to."""
        if self._body.is_stored:
            stored = {"id": self._id, "response": self.draft.document, "input": self.items}
            await asyncio.to_thread(self._service.documents.put, KIND, self._trace.owner, stored)

    async def in_background(self, running: RunningReply) -> dict[str, Any]:
        """Store the queued response, go on with it in a task of the app, and return it as it is now."""
        try:
            await self.keep()
        except BaseException:
            await running.aclose()
            raise
        queued, tape = dict(self.draft.document), self.tape
        task = asyncio.create_task(self._finish_alone(running, tape))
        self._context.background[self._id] = task
        self._context.tapes |= {self._id: tape} if self._body.stream else {}
        task.add_done_callback(lambda _: self._context.forget_background(self._id))
        return queued

    async def _finish_alone(self, running: RunningReply, tape: EventTape) -> None:
        try:
            async with aclosing(running):
                async for event in self.events(running):
                    await tape.add(event)
        except asyncio.CancelledError:
            status = "failed" if self._context.draining else "cancelled"
            for event in self.draft.interrupt(status, dict(INTERRUPTED)):
                await tape.add(event)
            await self.keep()
        except AppError as error:  # the store refused; nobody waits for an answer
            self._trace.log.fault("response_not_kept", error)
        finally:
            await self._keep_events(tape)

    async def _keep_events(self, tape: EventTape) -> None:
        """End the tape, which stays readable from the store when the response was asked to stream."""
        await tape.end()
        try:
            if self._body.stream:
                told = {"id": self._id, "events": tape.events}
                await asyncio.to_thread(self._service.documents.put, EVENTS, self._trace.owner, told)
        except AppError as error:
            self._trace.log.fault("events_not_kept", error)


def require_documents(service: Service) -> None:
    """Raise `InvalidRequest` when the server keeps no replies, which one that is stored or continued needs."""
    if service.stored_documents is None:
        raise InvalidRequest(
            "this server keeps no replies; a chat is sent without store, a response with store: false and without "
            "background and previous_response_id",
            param="store",
        )


def history_of(documents: DocumentStore, owner: str, response_id: str, max_items: int) -> list[dict[str, Any]]:
    """Return the items of a chain of responses, the oldest first. Raises `UnknownName` for a missing link."""
    items: list[dict[str, Any]] = []
    link: str | None = response_id
    while link is not None and len(items) <= max_items:
        try:
            stored = documents.get(KIND, owner, link)
        except UnknownName as error:
            error.param = "previous_response_id"
            raise
        if stored["response"]["status"] not in ("completed", "incomplete"):
            raise InvalidRequest(
                f"response {link} is {stored['response']['status']}; go on from one that has ended",
                param="previous_response_id",
            )
        items = [*stored["input"], *stored["response"]["output"], *items]
        link = stored["response"]["previous_response_id"]
    return items


def fail_interrupted(documents: DocumentStore) -> int:
    """Mark responses that a stopped server left unfinished as failed, and return how many there were."""
    interrupted = [
        (owner, stored)
        for owner, stored in documents.everyone(KIND)
        if stored["response"]["status"] in ("queued", "in_progress")
    ]
    for owner, stored in interrupted:
        stored["response"].update(status="failed", error=dict(INTERRUPTED))
        documents.put(KIND, owner, stored)
    return len(interrupted)
