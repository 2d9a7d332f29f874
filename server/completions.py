"""OpenAI's shapes of an answer: the whole object, the chunks of a stream, and the usage of both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import EngineFault, NotReady
from core.types import ChatRequest, FinishReason, TokenEvent, TokenLogprob, TokenUsage

if TYPE_CHECKING:
    from engine.pipeline import ChoiceEvent


@dataclass(slots=True)
class ChoiceReply:
    """One choice as far as it has come."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish: FinishReason | None = None
    usage: TokenUsage | None = None


class Reply:
    """Gather the events of one request and give them OpenAI's shape."""

    def __init__(self, request: ChatRequest, *, with_bind: bool = False) -> None:
        self.bind: dict[str, Any] = {}
        self._with_bind = with_bind
        self._head = {"id": request.request_id, "created": int(time.time()), "model": request.model}
        self._choices_per_prompt = request.num_choices
        self._has_logprobs = request.sampling.num_logprobs is not None
        self.choices = [ChoiceReply() for _ in range(request.num_replies)]

    def add(self, choice_event: ChoiceEvent) -> None:
        """Take one event in. Raises `NotReady` when the engine aborted the sequence."""
        event, choice = choice_event.event, self.choices[choice_event.choice]
        if event.finish == "abort":
            raise NotReady("the reply was stopped by the server and is incomplete")
        choice.pieces.append(event.text)
        choice.logprobs += logprob_entries(event)
        choice.finish = event.finish
        choice.usage = event.usage

    def check_complete(self) -> None:
        """Raise `EngineFault` when a choice never finished."""
        if unfinished := [index for index, choice in enumerate(self.choices) if choice.finish is None]:
            raise EngineFault(f"choices {unfinished} ended without a finish reason")

    def usage(self) -> dict[str, int]:
        """Return token counts; a prompt is shared by its choices and counted once."""
        prompt_tokens = completion_tokens = 0
        for start in range(0, len(self.choices), self._choices_per_prompt):
            of_one_prompt = self.choices[start : start + self._choices_per_prompt]
            counted = [choice.usage for choice in of_one_prompt if choice.usage is not None]
            prompt_tokens += max((usage.prompt_tokens for usage in counted), default=0)
            completion_tokens += sum(usage.completion_tokens for usage in counted)
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
                "logprobs": {"content": choice.logprobs, "refusal": None} if self._has_logprobs else None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(self.choices)
        ]
        bind = {"bind": self.bind} if self._with_bind else {}
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self.usage(), **bind}

    def first_chunk_choices(self) -> list[dict[str, Any]]:
        """Return what a stream says before the first event, one chunk each."""
        return [chunk_choice(index, {"role": "assistant", "content": ""}) for index in range(len(self.choices))]

    def chunk_choices(self, choice_event: ChoiceEvent) -> list[dict[str, Any]]:
        """Return what a stream says about one event, one chunk each."""
        event, index = choice_event.event, choice_event.choice
        entries = logprob_entries(event)
        said = [chunk_choice(index, {"content": event.text}, entries=entries)] if event.text or entries else []
        return said if event.finish is None else [*said, chunk_choice(index, {}, event.finish)]

    def chunk(self, choices: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """Return one `chat.completion.chunk` object; those that end a choice carry `bind` when it was asked for."""
        if self._with_bind and any(choice["finish_reason"] for choice in choices):
            extra["bind"] = self.bind
        return {**self._head, "object": "chat.completion.chunk", "choices": list(choices), **extra}


def chunk_choice(
    index: int, delta: dict[str, str], finish: FinishReason | None = None, entries: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the part of a chunk that belongs to one choice; `entries` are the log-probabilities it brings."""
    logprobs = {"content": list(entries), "refusal": None} if entries else None
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def logprob_entries(event: TokenEvent) -> list[dict[str, Any]]:
    """Return OpenAI's entry for the token of an event, none when log-probabilities were not asked for.

    A token is an entry when it is drawn, before its text leaves: a stop string may still withhold it.
    """
    if event.drawn is None:
        return []
    return [{**_logprob_entry(event.drawn), "top_logprobs": [_logprob_entry(token) for token in event.most_likely]}]


def _logprob_entry(token: TokenLogprob) -> dict[str, Any]:
    token_bytes = None if token.token_bytes is None else list(token.token_bytes)
    return {"token": token.text, "logprob": token.logprob, "bytes": token_bytes}
