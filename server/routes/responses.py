"""`/v1/responses`: OpenAI's responses over the same chat, stored and continued by id."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from sse_starlette import ServerSentEvent
from starlette.responses import JSONResponse, Response

from core.errors import InvalidRequest, UnknownName
from server.choice_stream import unless_disconnected
from server.context import context_of
from server.event_tape import Event, EventTape
from server.response_runs import EVENTS, KIND, ResponseRun
from server.schemas.answers import Deletion, Page, answers
from server.schemas.bodies import described_body, read_json_only
from server.schemas.response import ResponseBody, parse_response_body, renamed
from server.schemas.state_answers import ResponseEvent, ResponseObject
from server.sse import EventStream, ReplyResponse
from server.trace import trace_of

if TYPE_CHECKING:
    from engine.document_store import DocumentStore

router = APIRouter(tags=["responses"])
PATH = "/v1/responses"
ITEM = f"{PATH}/{{response_id}}"


@router.post(
    PATH, openapi_extra=described_body(PATH, ResponseBody), **answers(ResponseObject, path=PATH, events=ResponseEvent)
)
async def create_response(request: Request) -> Response:
    """Answer input that may hold media, with the history of an earlier response if one is named."""
    context, trace = context_of(request), trace_of(request)
    with trace.timer.stage("read_body"):
        body = parse_response_body(await read_json_only(request, context.body_limits(context.service())))
    run = ResponseRun(context, trace, body, f"resp_{uuid.uuid4().hex}")
    return await unless_disconnected(request, _answer(run, body))


async def _answer(run: ResponseRun, body: ResponseBody) -> Response:
    running = await run.prepare()
    if body.background:
        queued = await run.in_background(running)
        return EventStream(_told(run.tape.follow()), running.settings) if body.stream else JSONResponse(queued)
    try:
        if not body.stream:
            return JSONResponse(await run.whole(running))
        await running.wait_first()
    except InvalidRequest as error:  # what the engine alone can see
        raise renamed(error) from None
    return ReplyResponse(running, _told(run.events(running)))


async def _told(events: AsyncIterator[Event]) -> AsyncIterator[ServerSentEvent]:
    async for event in events:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        yield ServerSentEvent(text, event=event["type"], sep="\n")


@router.get(ITEM, **answers(ResponseObject, path=ITEM, method="get", events=ResponseEvent))
async def retrieve_response(
    request: Request,
    response_id: str,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Return a stored response as it is now, or stream what a background one told and tells.

    `starting_after` is the `sequence_number` of the last event that the client has seen.
    """
    stored = await _stored(request, response_id)
    if stream:
        after = -1 if starting_after is None else starting_after
        events = await _events_of(request, response_id, after)
        return EventStream(_told(events), context_of(request).settings)
    if starting_after is not None:
        raise InvalidRequest("starting_after needs stream=true", param="starting_after")
    return JSONResponse(stored["response"])


@router.delete(ITEM, **answers(Deletion))
async def delete_response(request: Request, response_id: str) -> dict[str, Any]:
    """Forget a response; one that still runs is cancelled first."""
    await _stored(request, response_id)
    await _stop(request, response_id)
    documents, owner = _documents(request), trace_of(request).owner
    await asyncio.to_thread(documents.delete, KIND, owner, response_id)
    with suppress(UnknownName):  # most responses have none
        await asyncio.to_thread(documents.delete, EVENTS, owner, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post(f"{ITEM}/cancel", **answers(ResponseObject))
async def cancel_response(request: Request, response_id: str) -> dict[str, Any]:
    """Stop a background response; one that has ended stays as it is."""
    if not (await _stored(request, response_id))["response"]["background"]:
        raise InvalidRequest("only responses with background: true can be cancelled; close the connection instead")
    await _stop(request, response_id)
    return dict((await _stored(request, response_id))["response"])


@router.get(f"{ITEM}/input_items", **answers(Page[dict[str, Any]]))
async def list_input_items(
    request: Request,
    response_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """List what a response was asked with, the latest item first."""
    items = (await _stored(request, response_id))["input"]
    if order == "desc":
        items = items[::-1]
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"after names no item of this response: {after[:80]!r}", param="after")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }


async def _events_of(request: Request, response_id: str, after: int) -> AsyncIterator[Event]:
    """Return the events of a background response, live or as they were kept. Raises `InvalidRequest` without any."""
    tape = context_of(request).tapes.get(response_id)
    if tape is None:
        tape = EventTape()
        try:
            owner = trace_of(request).owner
            told = await asyncio.to_thread(_documents(request).get, EVENTS, owner, response_id)
        except UnknownName:
            raise InvalidRequest(
                "this response has no events to stream: it was not created with background and stream, or the server "
                "died before its end; leave stream out",
                param="stream",
            ) from None
        tape.events += told["events"]
        await tape.end()
    return tape.follow(after)


async def _stop(request: Request, response_id: str) -> None:
    task = context_of(request).background.get(response_id)
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def _documents(request: Request) -> DocumentStore:
    return context_of(request).service().documents


async def _stored(request: Request, response_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(_documents(request).get, KIND, trace_of(request).owner, response_id)
