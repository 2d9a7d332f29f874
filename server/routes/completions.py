"""`POST /v1/completions`: text goes on where the prompt ends, without a chat template and without media."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from core.errors import InvalidRequest, PromptTooLong
from server.choice_stream import unless_disconnected
from server.context import AppContext, Service, context_of
from server.running_reply import RunningReply
from server.schemas.answers import TextCompletion, answers
from server.schemas.bodies import described_body, read_json_only
from server.schemas.completion import CompletionBody, parse_completion_body
from server.sse import reply_response
from server.text_completions import TextReply
from server.trace import RequestTrace, trace_of

router = APIRouter(tags=["completions"])
PATH = "/v1/completions"


@router.post(
    PATH,
    openapi_extra=described_body(PATH, CompletionBody),
    **answers(TextCompletion, path=PATH, events=TextCompletion),
)
async def create_completion(request: Request) -> Response:
    """Continue one or several prompts, `n` times each."""
    context, trace = context_of(request), trace_of(request)
    service = context.service()
    with trace.timer.stage("read_body"):
        body = parse_completion_body(await read_json_only(request, context.body_limits(service)))
    return await unless_disconnected(request, _answer(context, service, trace, body))


async def _answer(context: AppContext, service: Service, trace: RequestTrace, body: CompletionBody) -> Response:
    prompts = body.prompts()
    _check_size(prompts, context.settings.max_prompt_chars)
    token_ids = await asyncio.to_thread(_token_ids, service, prompts)
    chat = await context.request_builder(service).build(body, [], request_id=f"cmpl-{uuid.uuid4().hex}")
    echoes = _echoes(service, prompts) if body.echo else []
    request = replace(chat, raw_prompts=token_ids)
    running = RunningReply(context, service, trace, request, partial(TextReply, echoes=echoes))
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return await reply_response(running, stream=request.stream, include_usage=include_usage)


def _check_size(prompts: list[str | list[int]], max_prompt_chars: int) -> None:
    size = sum(map(len, prompts))
    if size > max_prompt_chars:
        raise PromptTooLong(
            f"the prompts hold {size} characters or ids; at most {max_prompt_chars} are read", param="prompt"
        )


def _token_ids(service: Service, prompts: list[str | list[int]]) -> tuple[tuple[int, ...], ...]:
    pipeline = service.pipeline
    for prompt in prompts:
        if not isinstance(prompt, str):
            pipeline.check_token_ids(prompt, param="prompt")
    token_ids = tuple(pipeline.tokenize(p) if isinstance(p, str) else tuple(p) for p in prompts)
    if not all(token_ids):
        raise InvalidRequest("a prompt holds no token, and this model starts from at least one", param="prompt")
    return token_ids


def _echoes(service: Service, prompts: list[str | list[int]]) -> list[str]:
    return [p if isinstance(p, str) else service.pipeline.detokenize(p, param="prompt") for p in prompts]
