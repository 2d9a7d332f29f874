"""`POST /v1/chat/completions`, as JSON and as a form, streamed and whole."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.choice_stream import unless_disconnected
from server.completions import Reply
from server.context import AppContext, Service, context_of
from server.forms import MEDIA_PROPERTIES, UploadedFile, split_form
from server.running_reply import RunningReply
from server.schemas.chat import ChatCompletionBody, parse_chat_body
from server.sse import reply_response
from server.trace import RequestTrace, trace_of
from server.uploads import BodyLimits, body_kind, read_json, read_multipart

router = APIRouter(tags=["chat"])

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


@router.post("/v1/chat/completions", openapi_extra=_BODY_SCHEMA)
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation whose user messages may hold media."""
    context, trace = context_of(request), trace_of(request)
    service = context.service()
    with trace.timer.stage("read_body"):
        body, files = await _read_chat(request, context.body_limits(service))
    return await unless_disconnected(request, _answer(context, service, trace, body, files))


async def _read_chat(request: Request, limits: BodyLimits) -> tuple[ChatCompletionBody, list[UploadedFile]]:
    if body_kind(request) == "json":
        return parse_chat_body(await read_json(request, limits)), []
    fields, files = split_form(await read_multipart(request, limits))
    return parse_chat_body(fields), files


async def _answer(
    context: AppContext, service: Service, trace: RequestTrace, body: ChatCompletionBody, files: list[UploadedFile]
) -> Response:
    with trace.timer.stage("take_media"):
        builder = context.request_builder(service, trace.owner)
        request = await builder.build(body, files, request_id=f"chatcmpl-{uuid.uuid4().hex}")
    shape = partial(Reply, with_bind=body.bind is not None and body.bind.trace)
    running = RunningReply(context, service, trace, request, shape)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return await reply_response(running, stream=request.stream, include_usage=include_usage)
