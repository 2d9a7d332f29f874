"""The body of `POST /v1/completions`: a chat's ways to draw tokens, over prompts instead of messages."""

from __future__ import annotations

from typing import Any

from core.errors import InvalidRequest
from server.schemas.bodies import parse_body
from server.schemas.chat import ChatCompletionBody, Message, refuse_unsupported

MAX_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 16  # OpenAI's default of this endpoint
CHAT_ONLY_FIELDS = frozenset(
    {
        "messages",
        "bind",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "top_logprobs",
        "service_tier",
        "store",
    }
)
Prompt = str | list[str] | list[int] | list[list[int]]


class CompletionBody(ChatCompletionBody):
    """Every parameter of a chat that is about drawing tokens, and those of completions."""

    messages: list[Message] = []  # noqa: RUF012 (pydantic copies it); a completion has none
    prompt: Prompt
    echo: bool | None = None

    @property
    def scores_prompt(self) -> bool:
        return bool(self.echo and self.logprobs)

    def prompts(self) -> list[str | list[int]]:
        """Return each prompt, text or ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        texts_or_ids: list[Any] = list(self.prompt)
        return [texts_or_ids] if isinstance(texts_or_ids[0], int) else texts_or_ids


def parse_completion_body(body: dict[str, Any]) -> CompletionBody:
    """Check a decoded JSON object. Raises `InvalidRequest` naming the field and what is allowed."""
    for name in sorted(CHAT_ONLY_FIELDS & body.keys()):
        raise InvalidRequest(f"{name} is a field of /v1/chat/completions; remove it", param=name)
    for name, off_values in (("suffix", (None, "")), ("best_of", (None, 1))):
        if body.get(name) not in off_values or isinstance(body.get(name), bool):
            raise InvalidRequest(f"{name} is not supported here; leave it out", param=name)
    refuse_unsupported(body)
    _check_prompt(body.get("prompt"))
    fields = {name: value for name, value in body.items() if name not in {"suffix", "best_of", "logprobs"}}
    parsed = parse_body(CompletionBody, fields | _chat_logprobs(body))
    if parsed.stream_options is not None and not parsed.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    return parsed if parsed.max_tokens is not None else parsed.model_copy(update={"max_tokens": DEFAULT_MAX_TOKENS})


def _chat_logprobs(body: dict[str, Any]) -> dict[str, Any]:
    """Return a chat's words for `logprobs: N`: the drawn tokens and the N most likely ones at each place."""
    number = body.get("logprobs")
    if number is None:
        return {}
    if not _is_id(number) or not 0 <= number <= MAX_LOGPROBS:
        raise InvalidRequest(f"logprobs must be an integer in [0, {MAX_LOGPROBS}]", param="logprobs")
    return {"logprobs": True, "top_logprobs": number}


def _check_prompt(prompt: Any) -> None:
    if isinstance(prompt, str):
        return
    items = prompt if isinstance(prompt, list) else []
    if not any(all(is_kind(item) for item in items) for is_kind in (_is_text, _is_id, _is_ids)) or not items:
        raise InvalidRequest("prompt must be a string, a list of strings, token ids, or lists of them", param="prompt")


def _is_text(item: Any) -> bool:
    return isinstance(item, str)


def _is_id(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _is_ids(item: Any) -> bool:
    return isinstance(item, list) and len(item) > 0 and all(map(_is_id, item))
