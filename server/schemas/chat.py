"""The body of `POST /v1/chat/completions`, and the OpenAI parameters this server refuses by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from core.errors import InvalidRequest
from core.types import CacheChoice
from server.error_handlers import invalid_request_from
from server.schemas.output import NonEmptyText, ResponseFormat
from server.schemas.parts import PART_TYPES, ContentPart, EdgeModel, MediaPart
from server.schemas.tools import CHOICE_KINDS, MAX_TOOLS, FunctionTool, MessageToolCall, ToolChoice, check_answers

Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]

OFF_VALUES: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""OpenAI parameters that cannot be honoured, with the values that ask for nothing; null always does."""

ECHOED_MESSAGE_FIELDS: dict[str, tuple[Any, ...]] = {
    "name": (),
    "refusal": (),
    "audio": (),
    "tool_calls": ([],),
    "function_call": (),
    "annotations": ([],),
}
"""Fields that clients copy from an answer into the next request; only empty ones mean nothing."""


class StreamOptions(EdgeModel):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class CacheOptions(EdgeModel):
    """How the visual cache refines this request; given at all, it is on unless `enabled` is false."""

    enabled: bool = True
    index: str | None = Field(None, min_length=1)
    k: int | None = Field(None, ge=1, le=1000)
    inverse_temperature: float | None = Field(None, ge=0, le=1000)
    blend: float | None = Field(None, ge=0, le=1)

    @property
    def choice(self) -> CacheChoice:
        """Return the same for the engine."""
        return CacheChoice(
            enabled=self.enabled,
            index=self.index,
            top_k=self.k,
            inverse_temperature=self.inverse_temperature,
            blend=self.blend,
        )


class BindOptions(EdgeModel):
    """How media become the condition of the reply."""

    scope: Literal["latest", "all"] = "latest"
    trace: bool = False  # the answer says what was sampled and how long each stage took
    cache: CacheOptions | None = None  # none: as the model does by itself
    experts: list[NonEmptyText] | None = Field(None, max_length=16)  # none: those that run by default

    @property
    def cache_choice(self) -> CacheChoice | None:
        """Return what was asked of the visual cache, None when nothing was."""
        return None if self.cache is None else self.cache.choice


class Message(EdgeModel):
    """One turn; plain text becomes one text part, and the null beside tool calls none."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: list[ContentPart] = Field(min_length=1)
    tool_calls: list[MessageToolCall] | None = Field(None, max_length=MAX_TOOLS)
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_echoed_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        echoed = {name for name, off in ECHOED_MESSAGE_FIELDS.items() if name in value and _is_off(value[name], off)}
        kept = {name: field for name, field in value.items() if name not in echoed}
        return {**kept, "content": ""} if kept.get("tool_calls") and kept.get("content") is None else kept

    @field_validator("content", mode="before")
    @classmethod
    def _text_to_parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        parts = value if isinstance(value, list) else []
        return [_refusal_as_text(part) for part in parts] or value

    @model_validator(mode="after")
    def _check_role(self) -> Message:
        for name, role in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
            if getattr(self, name) is not None and self.role != role:
                raise ValueError(f"has {name}, which belongs to role {role}")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("needs tool_call_id, the id of the call it answers")
        return self

    @property
    def text(self) -> str:
        """Return the text parts joined by line breaks."""
        return "\n".join(part.text for part in self.content if not isinstance(part, MediaPart))


class ChatCompletionBody(EdgeModel):
    """The parameters that are honoured; ranges that the engine owns are checked where they are used."""

    messages: list[Message] = Field(min_length=1)
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[str] | None = None
    ignore_eos: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    regex: str | None = Field(None, min_length=1)
    choice: list[NonEmptyText] | None = Field(None, min_length=1, max_length=1000)
    priority: int | None = Field(None, ge=-100, le=100)  # lower is served earlier
    timeout_s: float | None = Field(None, gt=0)  # for the whole reply; at most the server's own
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    bind: BindOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None  # there is one tier, "default"

    @property
    def scores_prompt(self) -> bool:
        """Whether log-probabilities of the prompt are asked for; only completions can."""
        return False

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_string(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def parse_chat_body(body: Any) -> ChatCompletionBody:
    """Check a decoded JSON body. Raises `InvalidRequest` naming the field and what is allowed."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object with messages, as OpenAI's chat completions takes it")
    refuse_unsupported(body)
    try:
        parsed = ChatCompletionBody.model_validate({k: v for k, v in body.items() if k not in OFF_VALUES})
    except ValidationError as error:
        raise invalid_request_from(error, tags=PART_TYPES | CHOICE_KINDS) from None
    check_answers(parsed.messages)
    if parsed.stream_options is not None and not parsed.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    return parsed


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for an OpenAI parameter that asks for something this server does not do."""
    refuse_unsupported_of(OFF_VALUES, body)


def refuse_unsupported_of(off: Mapping[str, tuple[Any, ...]], body: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for a field of `off` that holds none of the values that ask for nothing."""
    for name, off_values in off.items():
        if name in body and not _is_off(body[name], off_values):
            allowed = " or ".join(json.dumps(value) for value in off_values) or "null"
            raise InvalidRequest(f"{name} is not supported; leave it out or send {allowed}", param=name)


def _refusal_as_text(part: Any) -> Any:
    """Return an assistant's refusal, which clients copy from an answer, as the text it is."""
    if isinstance(part, dict) and part.keys() == {"type", "refusal"} and part["type"] == "refusal":
        return {"type": "text", "text": part["refusal"]}
    return part


def _is_off(value: Any, off_values: tuple[Any, ...]) -> bool:
    return value is None or any(value == off and isinstance(value, bool) == isinstance(off, bool) for off in off_values)
