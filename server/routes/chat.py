"""`POST /v1/chat/completions`, as JSON and as a form, streamed and whole."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.choice_stream import unless_disconnected
from server.completions import Reply
from server.context import AppContext, Service, context_of
from server.forms import MEDIA_PROPERTIES, UploadedFile, split_form
from server.response_runs import require_documents
from server.running_reply import RunningReply
from server.schemas.answers import ChatCompletion, ChatCompletionChunk, answers
from server.schemas.chat import ChatCompletionBody, parse_chat_body
from server.sse import reply_response
from server.stored_chats import KIND, stored_chat, with_uploads
from server.trace import RequestTrace, trace_of
from server.uploads import BodyLimits, body_kind, read_json, read_multipart

router = APIRouter(tags=["chat"])
PATH = "/v1/chat/completions"

_JSON_PLACE = "#/paths/~1v1~1chat~1completions/post/requestBody/content/application~1json/schema/$defs/{model}"
_BODY_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ChatCompletionBody.model_json_schema(ref_template=_JSON_PLACE)},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"prompt": {"type": "string"}, "messages": {"type": "string"}} | MEDIA_PROPERTIES,
                }
            },
        },
    }
}


@router.post(PATH, openapi_extra=_BODY_SCHEMA, **answers(ChatCompletion, path=PATH, events=ChatCompletionChunk))
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation whose user messages may hold media."""
    context, trace = context_of(request), trace_of(request)
    service = context.service()
    with trace.timer.stage("read_body"):
        asked = await _read_chat(request, context.body_limits(service))
    return await unless_disconnected(request, _answer(context, service, trace, asked))


@dataclass(frozen=True, slots=True)
class _AskedChat:
    """A chat as it was checked, its messages as they were sent, and the files of a form."""

    body: ChatCompletionBody
    messages: list[dict[str, Any]]
    files: list[UploadedFile]


async def _read_chat(request: Request, limits: BodyLimits) -> _AskedChat:
    if body_kind(request) == "json":
        fields = await read_json(request, limits)
        return _AskedChat(parse_chat_body(fields), fields["messages"], [])
    fields, files = split_form(await read_multipart(request, limits))
    return _AskedChat(parse_chat_body(fields), fields["messages"], files)


async def _answer(context: AppContext, service: Service, trace: RequestTrace, asked: _AskedChat) -> Response:
    body = asked.body
    if body.store:
        require_documents(service)
    with trace.timer.stage("take_media"):
        builder = context.request_builder(service, trace.owner)
        request = await builder.build(body, asked.files, request_id=f"chatcmpl-{uuid.uuid4().hex}")
    shape = partial(Reply, with_bind=body.bind is not None and body.bind.trace)

    async def keep(reply: Reply) -> None:
        messages = with_uploads(asked.messages, asked.files)
        stored = stored_chat(reply.completion(), body, request.sampling, messages)
        await asyncio.to_thread(service.documents.put, KIND, trace.owner, stored)

    running = RunningReply(context, service, trace, request, shape)
    running.keep = keep if body.store else None
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return await reply_response(running, stream=request.stream, include_usage=include_usage)
