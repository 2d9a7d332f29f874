"""OpenAI's shapes of an answer: the whole object, the chunks of a stream, and the usage of both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import EngineFault, NotReady
from core.types import ChatRequest, FinishReason, TokenUsage

if TYPE_CHECKING:
    from engine.pipeline import ChoiceEvent


@dataclass(slots=True)
class ChoiceReply:
    """One choice as far as it has come."""

    pieces: list[str] = field(default_factory=list)
    finish: FinishReason | None = None
    usage: TokenUsage | None = None


class Reply:
    """Gather the events of one request and give them OpenAI's shape."""

    def __init__(self, request: ChatRequest) -> None:
        self._head = {"id": request.request_id, "created": int(time.time()), "model": request.model}
        self.choices = [ChoiceReply() for _ in range(request.num_choices)]

    def add(self, choice_event: ChoiceEvent) -> None:
        """Take one event in. Raises `NotReady` when the engine aborted the sequence."""
        event, choice = choice_event.event, self.choices[choice_event.choice]
        if event.finish == "abort":
            raise NotReady("the reply was stopped by the server and is incomplete")
        choice.pieces.append(event.text)
        choice.finish = event.finish
        choice.usage = event.usage

    def check_complete(self) -> None:
        """Raise `EngineFault` when a choice never finished."""
        if unfinished := [index for index, choice in enumerate(self.choices) if choice.finish is None]:
            raise EngineFault(f"choices {unfinished} ended without a finish reason")

    def usage(self) -> dict[str, int]:
        """Return token counts; the prompt is shared by all choices and counted once."""
        counted = [choice.usage for choice in self.choices if choice.usage is not None]
        prompt_tokens = max((usage.prompt_tokens for usage in counted), default=0)
        completion_tokens = sum(usage.completion_tokens for usage in counted)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def completion(self) -> dict[str, Any]:
        """Return the whole `chat.completion` object."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(choice.pieces), "refusal": None},
                "logprobs": None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(self.choices)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self.usage()}

    def chunk(self, choices: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """Return one `chat.completion.chunk` object."""
        return {**self._head, "object": "chat.completion.chunk", "choices": list(choices), **extra}


def chunk_choice(index: int, delta: dict[str, str], finish: FinishReason | None = None) -> dict[str, Any]:
    """Return the part of a chunk that belongs to one choice."""
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
