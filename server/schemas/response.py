"""The body of `POST /v1/responses`, and the chat that it means."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from core.errors import InvalidRequest
from server.schemas.bodies import parse_body
from server.schemas.chat import ChatCompletionBody, Metadata, parse_chat_body, refuse_unsupported_of
from server.schemas.parts import PART_TYPES, EdgeModel

OFF_VALUES: dict[str, tuple[Any, ...]] = {
    "conversation": (),
    "prompt": (),
    "max_tool_calls": (),
    "context_management": (),
    "prompt_cache_retention": (),
    "truncation": ("disabled",),
    "reasoning": ({}, {"effort": None}, {"effort": "none"}),
    "stream_options": ({}, {"include_obfuscation": False}),
}
"""Parameters that cannot be honoured, with the values that ask for nothing; null always does."""

SAMPLING_FIELDS = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "frequency_penalty", "presence_penalty"),
    *(
        "repetition_penalty",
        "logit_bias",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "regex",
        "choice",
        "bind",
        "priority",
        "timeout_s",
    ),
)
"""Fields with the meaning they have in a chat; those that OpenAI's responses lack are extensions."""

LOGPROBS = "message.output_text.logprobs"


class TextFormat(EdgeModel):
    """What the text must match; `name` and `schema` belong to json_schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextOptions(EdgeModel):
    format: TextFormat = TextFormat()
    verbosity: Literal["medium"] | None = None


class ResponseBody(EdgeModel):
    """OpenAI's fields, and a chat's ways to draw tokens as extensions."""

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: int | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None
    sampling: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it); the chat's own check reads it

    @property
    def is_stored(self) -> bool:
        return self.store is not False


def parse_response_body(body: dict[str, Any]) -> ResponseBody:
    """Check a decoded JSON object. Raises `InvalidRequest` naming the field and what is allowed."""
    if "sampling" in body:
        raise InvalidRequest("sampling is not a field of this endpoint; remove it", param="sampling")
    refuse_unsupported_of(OFF_VALUES, body)
    sampling = {name: body[name] for name in SAMPLING_FIELDS if name in body}
    rest = {name: value for name, value in body.items() if name not in sampling and name not in OFF_VALUES}
    parsed = parse_body(ResponseBody, {**rest, "sampling": sampling})
    if parsed.background and not parsed.is_stored:
        raise InvalidRequest("background needs store, for its reply is fetched later; leave store out", param="store")
    return parsed


def input_items(body: ResponseBody) -> list[dict[str, Any]]:
    """Return the input as a list of items, each with an id."""
    items = body.input if isinstance(body.input, list) else [{"role": "user", "content": body.input}]
    if not items:
        raise InvalidRequest("input must not be empty", param="input")
    return [_with_id(item) for item in items]


def _with_id(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    named = {"id": item.get("id") or f"{_PREFIXES.get(kind, 'item')}_{secrets.token_hex(16)}", "type": kind, **item}
    if kind != "message" or not isinstance(item.get("content"), str):
        return named
    part = "output_text" if item.get("role") == "assistant" else "input_text"
    return {**named, "status": "completed", "content": [{"type": part, "text": item["content"]}]}


_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


@dataclass(slots=True)
class ChatDraft:
    """Messages of a chat, and where in `input` each began, for the names that errors give."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, message: dict[str, Any], place: str) -> None:
        self.messages.append(message)
        self.places.append(place)


def chat_of(
    body: ResponseBody, history: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]]
) -> ChatCompletionBody:
    """Return the chat body of a response: instructions, the items of earlier responses, its own.

    Raises `InvalidRequest` naming the field of the response.
    """
    draft = ChatDraft()
    if body.instructions is not None:
        draft.add({"role": "system", "content": body.instructions}, "instructions")
    for item in history:
        _add_item(draft, item, "previous_response_id")
    for index, item in enumerate(items):
        _add_item(draft, item, f"input[{index}]" if isinstance(body.input, list) else "input")
    fields = {name: getattr(body, name) for name in _SHARED_FIELDS if getattr(body, name) is not None}
    fields |= body.sampling | _logprob_fields(body) | _tool_fields(body) | _format_field(body)
    if body.max_output_tokens is not None:
        fields["max_completion_tokens"] = body.max_output_tokens
    try:
        return parse_chat_body({**fields, "messages": draft.messages})
    except InvalidRequest as error:
        raise renamed(error, draft.places) from None


_SHARED_FIELDS = ("model", "stream", "parallel_tool_calls", "metadata", "user", "service_tier")
_OTHER_NAMES = {"max_completion_tokens": "max_output_tokens", "messages": "input", "response_format": "text.format"}


def renamed(error: InvalidRequest, places: Sequence[str] = ()) -> InvalidRequest:
    """Return the error with the names that the fields have in a response."""
    names = {f"messages[{index}]": place for index, place in enumerate(places)} | _OTHER_NAMES
    found = next((name for name in names if (error.param or "").startswith(name)), None)
    if found is None:
        return error
    other = names[found]
    message = error.message.replace(found, other)
    return type(error)(message, param=(error.param or "").replace(found, other, 1), code=error.code)


def _add_item(draft: ChatDraft, item: dict[str, Any], place: str) -> None:
    match item.get("type", "message"):
        case "message":
            known = {"type", "id", "status", "role", "content", "phase"}
            if unknown := next((name for name in item if name not in known), None):
                raise InvalidRequest(f"{place}.{unknown} is not a field of a message; remove it", param=place)
            parts = item.get("content")
            content = [_chat_part(part, place) for part in parts] if isinstance(parts, list) else parts
            draft.add({"role": item.get("role"), "content": content}, place)
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            last = draft.messages[-1] if draft.messages else {}
            if last.get("role") == "assistant":
                last.setdefault("tool_calls", []).append(call)
            else:
                draft.add({"role": "assistant", "content": None, "tool_calls": [call]}, place)
        case "function_call_output":
            output = item.get("output")
            content = [_chat_part(part, place) for part in output] if isinstance(output, list) else output
            draft.add({"role": "tool", "tool_call_id": item.get("call_id"), "content": content}, place)
        case kind:
            raise InvalidRequest(
                f"{place} has type {str(kind)[:40]!r}; known: message, function_call, function_call_output",
                param=f"{place}.type",
            )


def _chat_part(part: Any, place: str) -> Any:
    """Return the chat's content part for a response's; a chat's own parts are taken as they are."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part.get("text")}
    if kind not in ("input_image", "input_file"):
        if kind in PART_TYPES or kind == "refusal":
            return part
        raise InvalidRequest(
            f"{place} has a part of unknown type {str(kind)[:40]!r}; known: input_text, input_image, input_file, "
            f"output_text, refusal, {', '.join(sorted(PART_TYPES))}",
            param=f"{place}.content",
        )
    weight = {"weight": part["weight"]} if "weight" in part else {}
    rest = {name: value for name, value in part.items() if name not in ("type", "weight") and value is not None}
    if kind == "input_file":
        return {"type": "file", "file": rest, **weight}
    if "image_url" in rest:
        rest["url"] = rest.pop("image_url")
    return {"type": "image_url", "image_url": rest, **weight}


def _logprob_fields(body: ResponseBody) -> dict[str, Any]:
    if LOGPROBS in (body.include or ()):
        return {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    if body.top_logprobs:
        raise InvalidRequest(f"top_logprobs needs {LOGPROBS} in include", param="top_logprobs")
    return {}


def _tool_fields(body: ResponseBody) -> dict[str, Any]:
    """Return a chat's nested tools for a response's flat ones."""
    fields: dict[str, Any] = {}
    if body.tools is not None:
        fields["tools"] = [_nested(tool) for tool in body.tools]
    choice = body.tool_choice
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        names = [_nested(tool) for tool in choice.get("tools", ())]
        fields["tool_choice"] = {
            "type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": names}
        }  # fmt: skip
    elif choice is not None:
        fields["tool_choice"] = _nested(choice) if isinstance(choice, dict) else choice
    return fields


def _nested(flat: Any) -> Any:
    if not isinstance(flat, dict) or flat.get("type") != "function":
        return flat
    return {"type": "function", "function": {name: value for name, value in flat.items() if name != "type"}}


def _format_field(body: ResponseBody) -> dict[str, Any]:
    asked = body.text.format if body.text else TextFormat()
    schema = asked.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
    if asked.type == "text" and not schema:
        return {}
    return {"response_format": {"type": asked.type} | ({"json_schema": schema} if schema else {})}
