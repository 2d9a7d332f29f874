"""`/v1/chat/completions` after the answer: stored completions are listed, read, labelled and deleted, per API key."""

from __future__ import annotations

import asyncio
import re
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from core.errors import InvalidRequest
from server.context import context_of
from server.schemas.answers import Deletion, Page, StoredChatCompletion, StoredMessage, answers
from server.schemas.bodies import described_body, parse_body, read_json_only
from server.schemas.chat import Metadata
from server.schemas.parts import EdgeModel
from server.stored_chats import KIND, matching
from server.trace import trace_of

if TYPE_CHECKING:
    from engine.document_store import DocumentStore

router = APIRouter(tags=["chat"])
LIST = "/v1/chat/completions"
ITEM = f"{LIST}/{{completion_id}}"
_METADATA = re.compile(r"metadata\[[^\[\]]{1,64}\]")

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


class StoredChatUpdate(EdgeModel):
    """What of a stored completion may change."""

    metadata: Metadata | None


@router.get(LIST, **answers(Page[StoredChatCompletion]))
async def list_chat_completions(
    request: Request, after: str | None = None, limit: Limit = 20, order: Order = "asc", model: str | None = None
) -> dict[str, Any]:
    """List the client's stored completions, the earliest first; `metadata[key]=value` keeps those that carry it."""
    known = {"after", "limit", "order", "model"}
    wanted = {name: value for name, value in request.query_params.items() if name not in known}
    if unknown := next((name for name in wanted if not _METADATA.fullmatch(name)), None):
        raise InvalidRequest(f"{unknown[:80]} is not a parameter of this endpoint; remove it", param=unknown[:80])
    if model is not None:
        wanted["model"] = model
    documents, owner = _documents(request), trace_of(request).owner

    def page() -> list[dict[str, Any]]:
        found = matching(documents, owner, wanted, after=after, descending=order == "desc")
        return list(islice(found, limit + 1))

    return _listed(await asyncio.to_thread(page), limit)


@router.get(ITEM, **answers(StoredChatCompletion))
async def retrieve_chat_completion(request: Request, completion_id: str) -> dict[str, Any]:
    """Return a stored completion."""
    return dict((await _stored(request, completion_id))["completion"])


@router.post(ITEM, openapi_extra=described_body(ITEM, StoredChatUpdate), **answers(StoredChatCompletion))
async def update_chat_completion(request: Request, completion_id: str) -> dict[str, Any]:
    """Replace the metadata of a stored completion, the one thing of it that may change."""
    context = context_of(request)
    fields = await read_json_only(request, context.body_limits(context.service()))
    body = parse_body(StoredChatUpdate, fields)
    stored = await _stored(request, completion_id)
    stored["completion"]["metadata"] = body.metadata or {}
    await asyncio.to_thread(_documents(request).put, KIND, trace_of(request).owner, stored)
    return dict(stored["completion"])


@router.delete(ITEM, **answers(Deletion))
async def delete_chat_completion(request: Request, completion_id: str) -> dict[str, Any]:
    """Forget a stored completion and its messages."""
    await asyncio.to_thread(_documents(request).delete, KIND, trace_of(request).owner, completion_id)
    return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}


@router.get(f"{ITEM}/messages", **answers(Page[StoredMessage]))
async def list_chat_messages(
    request: Request, completion_id: str, after: str | None = None, limit: Limit = 20, order: Order = "asc"
) -> dict[str, Any]:
    """List the messages that a stored completion answered, the first one first."""
    messages = (await _stored(request, completion_id))["messages"]
    if order == "desc":
        messages = messages[::-1]
    if after is not None:
        places = [place for place, message in enumerate(messages) if message["id"] == after]
        if not places:
            raise InvalidRequest(f"after names no message of this completion: {after[:80]!r}", param="after")
        messages = messages[places[0] + 1 :]
    return _listed(messages[: limit + 1], limit)


def _listed(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


def _documents(request: Request) -> DocumentStore:
    return context_of(request).service().documents


async def _stored(request: Request, completion_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(_documents(request).get, KIND, trace_of(request).owner, completion_id)
