"""OpenAI's shapes of an answer: the whole object, the chunks of a stream, and the usage of both."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import EngineFault, NotReady
from core.types import ChatRequest, TokenEvent, TokenLogprob, TokenUsage
from engine.decoding.tool_calls import ReplyPiece, ToolCallReader
from server.usage import usage_object

if TYPE_CHECKING:
    from engine.pipeline import ChoiceEvent


@dataclass(slots=True)
class ChoiceReply:
    """One choice as far as it has come; `fresh` is what the last event added, `finish` is in OpenAI's words."""

    reader: ToolCallReader | None = None  # there when the reply may call tools
    pieces: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    fresh: list[ReplyPiece] = field(default_factory=list)
    finish: str | None = None
    usage: TokenUsage | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def read(self, event: TokenEvent) -> None:
        """Take the text of one event in."""
        if self.reader is None:
            self.fresh = [ReplyPiece("text", event.text)] if event.text else []
        else:
            self.fresh = self.reader.push(event.text) + (self.reader.flush() if event.finish else [])
        for piece in self.fresh:
            if piece.kind == "text":
                self.pieces.append(piece.text)
            elif piece.kind == "call":
                self.calls.append(_call_object(piece))
            else:
                self.calls[piece.call]["function"]["arguments"] += piece.text
        self.finish = "tool_calls" if event.finish == "stop" and self.calls else event.finish


class Reply:
    """Gather the events of one request and give them OpenAI's shape."""

    def __init__(self, request: ChatRequest, *, with_bind: bool = False) -> None:
        self.bind: dict[str, Any] = {}
        self._with_bind = with_bind
        self.media_usage: dict[str, float] = {}  # what the prompt held besides tokens
        self.head: dict[str, Any] = {"id": request.request_id, "created": int(time.time()), "model": request.model}
        self._choices_per_prompt = request.num_choices
        self._has_logprobs = request.sampling.num_logprobs is not None
        grammar = request.sampling.grammar
        may_call = grammar is not None and grammar.kind == "tools"
        self.choices = [ChoiceReply(ToolCallReader() if may_call else None) for _ in range(request.num_replies)]

    def add(self, choice_event: ChoiceEvent) -> None:
        """Take one event in. Raises `NotReady` when the engine aborted the sequence."""
        event, choice = choice_event.event, self.choices[choice_event.choice]
        if event.finish == "abort":
            raise NotReady("the reply was stopped by the server and is incomplete")
        choice.read(event)
        choice.logprobs += logprob_entries(event)
        choice.usage = event.usage

    def check_complete(self) -> None:
        """Raise `EngineFault` when a choice never finished."""
        if unfinished := [index for index, choice in enumerate(self.choices) if choice.finish is None]:
            raise EngineFault(f"choices {unfinished} ended without a finish reason")

    def usage(self) -> dict[str, Any]:
        """Return token counts; a prompt is shared by its choices and counted once."""
        by_prompt = [
            [choice.usage for choice in self.choices[start : start + self._choices_per_prompt] if choice.usage]
            for start in range(0, len(self.choices), self._choices_per_prompt)
        ]
        return usage_object(by_prompt, self.media_usage)

    def completion(self) -> dict[str, Any]:
        """Return the whole `chat.completion` object."""
        choices = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": {"content": choice.logprobs, "refusal": None} if self._has_logprobs else None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(self.choices)
        ]
        bind = {"bind": self.bind} if self._with_bind else {}
        return {**self.head, "object": "chat.completion", "choices": choices, "usage": self.usage(), **bind}

    def first_chunk_choices(self) -> list[dict[str, Any]]:
        """Return what a stream says before the first event, one chunk each."""
        return [chunk_choice(index, {"role": "assistant", "content": ""}) for index in range(len(self.choices))]

    def chunk_choices(self, choice_event: ChoiceEvent) -> list[dict[str, Any]]:
        """Return what a stream says about one event, one chunk each."""
        index = choice_event.choice
        choice, entries = self.choices[index], logprob_entries(choice_event.event)
        deltas = [_delta(piece) for piece in choice.fresh] or ([{"content": ""}] if entries else [])
        said = [chunk_choice(index, delta) for delta in deltas]
        if entries:
            said[0]["logprobs"] = {"content": entries, "refusal": None}
        return said if choice.finish is None else [*said, chunk_choice(index, {}, choice.finish)]

    def chunk(self, choices: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """Return one `chat.completion.chunk` object; those that end a choice carry `bind` when it was asked for."""
        if self._with_bind and any(choice["finish_reason"] for choice in choices):
            extra["bind"] = self.bind
        return {**self.head, "object": "chat.completion.chunk", "choices": list(choices), **extra}


def chunk_choice(index: int, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return the part of a chunk that belongs to one choice."""
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _message(choice: ChoiceReply) -> dict[str, Any]:
    calls = {"tool_calls": choice.calls} if choice.calls else {}
    return {"role": "assistant", "content": choice.text or (None if calls else ""), "refusal": None, **calls}


def _call_object(piece: ReplyPiece) -> dict[str, Any]:
    return {"id": piece.call_id, "type": "function", "function": {"name": piece.text, "arguments": ""}}


def _delta(piece: ReplyPiece) -> dict[str, Any]:
    """Return OpenAI's delta: text, the head of a call with empty arguments, or more of its arguments."""
    if piece.kind == "text":
        return {"content": piece.text}
    call = _call_object(piece) if piece.kind == "call" else {"function": {"arguments": piece.text}}
    return {"tool_calls": [{"index": piece.call, **call}]}


def logprob_entries(event: TokenEvent) -> list[dict[str, Any]]:
    """Return OpenAI's entries for an event, of a scored prompt and its token; none unless they were asked for.

    A token is an entry when it is drawn, before its text leaves: a stop string may still withhold it. The first token
    of a prompt has no log-probability.
    """
    if event.drawn is None:
        return []
    entries = [
        {**_logprob_entry(token), "top_logprobs": [_logprob_entry(other) for other in likely]}
        for token, likely in (*event.prompt, (event.drawn, event.most_likely))
    ]
    if event.prompt:
        entries[0]["logprob"] = None
    return entries


def _logprob_entry(token: TokenLogprob) -> dict[str, Any]:
    token_bytes = None if token.token_bytes is None else list(token.token_bytes)
    return {"token": token.text, "logprob": token.logprob, "bytes": token_bytes}
