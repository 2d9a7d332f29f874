"""`POST /tokenize` and `POST /detokenize`: text or messages to ids as the model reads them, and ids back to text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from core.errors import InvalidRequest, PromptTooLong
from server.context import AppContext, Service, context_of
from server.schemas.answers import answers
from server.schemas.bodies import described_body, parse_body, read_json_only
from server.schemas.chat import parse_chat_body
from server.schemas.parts import EdgeModel
from server.schemas.state_answers import Detokenized, Tokens
from server.trace import trace_of

router = APIRouter(tags=["tokens"])


class TokenizeBody(EdgeModel):
    """Text to encode. Instead of `prompt`, the fields of a chat may be sent: `messages` and what goes with them."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool = True


class DetokenizeBody(EdgeModel):
    """Ids to decode."""

    tokens: list[int]
    model: str | None = None


@router.post("/tokenize", openapi_extra=described_body("/tokenize", TokenizeBody), **answers(Tokens))
async def tokenize(request: Request) -> dict[str, Any]:
    """Return the ids that a completion of `prompt`, or a chat of `messages`, would be decoded from."""
    context = context_of(request)
    service = context.service()
    body = await read_json_only(request, context.body_limits(service))
    if "messages" in body and "prompt" in body:
        raise InvalidRequest("send prompt or messages, not both", param="prompt")
    if "messages" in body:
        token_ids = await _chat_tokens(context, service, body, trace_of(request).request_id)
    else:
        token_ids = await _text_tokens(context, service, parse_body(TokenizeBody, body))
    (model,) = service.pipeline.describe()
    return {"model": model.name, "count": len(token_ids), "max_model_len": model.max_context, "tokens": token_ids}


@router.post("/detokenize", openapi_extra=described_body("/detokenize", DetokenizeBody), **answers(Detokenized))
async def detokenize(request: Request) -> dict[str, Any]:
    """Return the text of ids; special tokens are left out."""
    context = context_of(request)
    service = context.service()
    body = parse_body(DetokenizeBody, await read_json_only(request, context.body_limits(service)))
    model = context.request_builder(service).model_named(body.model)
    if len(body.tokens) > context.settings.max_prompt_chars:
        raise PromptTooLong(
            f"tokens holds {len(body.tokens)} ids; at most {context.settings.max_prompt_chars} are read", param="tokens"
        )
    return {"model": model.name, "prompt": await asyncio.to_thread(service.pipeline.detokenize, body.tokens)}


async def _text_tokens(context: AppContext, service: Service, body: TokenizeBody) -> Sequence[int]:
    context.request_builder(service).model_named(body.model)
    if len(body.prompt) > context.settings.max_prompt_chars:
        raise PromptTooLong(
            f"the prompt holds {len(body.prompt)} characters; at most {context.settings.max_prompt_chars} are read",
            param="prompt",
        )
    return await asyncio.to_thread(service.pipeline.tokenize, body.prompt, add_special_tokens=body.add_special_tokens)


async def _chat_tokens(context: AppContext, service: Service, body: dict[str, Any], request_id: str) -> Sequence[int]:
    if body.get("add_special_tokens"):
        raise InvalidRequest(
            "the chat template brings its own special tokens; leave add_special_tokens out", param="add_special_tokens"
        )
    fields = {name: value for name, value in body.items() if name != "add_special_tokens"}
    chat = await context.request_builder(service).build(parse_chat_body(fields), [], request_id=request_id)
    return await asyncio.to_thread(service.pipeline.tokenize_chat, chat)
