"""`/v1/responses`: OpenAI's responses over the same chat, stored and continued by id."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from sse_starlette import ServerSentEvent
from starlette.responses import JSONResponse, Response

from core.errors import InvalidRequest
from server.choice_stream import unless_disconnected
from server.context import context_of
from server.response_output import Event
from server.response_runs import KIND, ResponseRun
from server.running_reply import RunningReply
from server.schemas.bodies import described_body, read_json_only
from server.schemas.response import ResponseBody, parse_response_body, renamed
from server.sse import ReplyResponse
from server.trace import trace_of

if TYPE_CHECKING:
    from engine.document_store import DocumentStore

router = APIRouter(tags=["responses"])
ITEM = "/v1/responses/{response_id}"


@router.post("/v1/responses", openapi_extra=described_body("/v1/responses", ResponseBody))
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
        return JSONResponse(await run.in_background(running))
    try:
        if not body.stream:
            return JSONResponse(await run.whole(running))
        await running.wait_first()
    except InvalidRequest as error:  # what the engine alone can see
        raise renamed(error) from None
    return ReplyResponse(running, _frames(run, running))


async def _frames(run: ResponseRun, running: RunningReply) -> AsyncIterator[ServerSentEvent]:
    async for event in run.events(running):
        yield _frame(event)


def _frame(event: Event) -> ServerSentEvent:
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return ServerSentEvent(text, event=event["type"], sep="\n")


@router.get(ITEM)
async def retrieve_response(request: Request, response_id: str, stream: bool = False) -> dict[str, Any]:
    """Return a stored response as it is now."""
    if stream:
        raise InvalidRequest("a stored response is not streamed; leave stream out and ask again", param="stream")
    return dict((await _stored(request, response_id))["response"])


@router.delete(ITEM)
async def delete_response(request: Request, response_id: str) -> dict[str, Any]:
    """Forget a response; one that still runs is cancelled first."""
    await _stored(request, response_id)
    await _stop(request, response_id)
    await asyncio.to_thread(_documents(request).delete, KIND, trace_of(request).owner, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post(f"{ITEM}/cancel")
async def cancel_response(request: Request, response_id: str) -> dict[str, Any]:
    """Stop a background response; one that has ended stays as it is."""
    if not (await _stored(request, response_id))["response"]["background"]:
        raise InvalidRequest("only responses with background: true can be cancelled; close the connection instead")
    await _stop(request, response_id)
    return dict((await _stored(request, response_id))["response"])


@router.get(f"{ITEM}/input_items")
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


async def _stop(request: Request, response_id: str) -> None:
    task = context_of(request).background.get(response_id)
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def _documents(request: Request) -> DocumentStore:
    return context_of(request).service().documents


async def _stored(request: Request, response_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(_documents(request).get, KIND, trace_of(request).owner, response_id)
