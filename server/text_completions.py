"""OpenAI's shapes of a text completion: the whole object and the chunks of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from core.types import ChatRequest
from server.completions import Reply, logprob_entries

if TYPE_CHECKING:
    from engine.pipeline import ChoiceEvent


class TextReply(Reply):
    """Gather the events of a request of raw prompts; `echoes` holds what goes before each prompt's choices."""

    def __init__(self, request: ChatRequest, echoes: Sequence[str]) -> None:
        super().__init__(request)
        self._echoes = echoes
        self._num_chars_sent = [0] * len(self.choices)

    def completion(self) -> dict[str, Any]:
        """Return the whole `text_completion` object."""
        choices = [
            {
                **_text_choice(index, self._echo(index) + choice.text, choice.finish),
                "logprobs": _logprobs(choice.logprobs, offset=0) if self._has_logprobs else None,
            }
            for index, choice in enumerate(self.choices)
        ]
        return {**self.head, "object": "text_completion", "choices": choices, "usage": self.usage()}

    def first_chunk_choices(self) -> list[dict[str, Any]]:
        """Return the echoed prompts, if any were asked for."""
        return [_text_choice(index, echo) for index in range(len(self.choices)) if (echo := self._echo(index))]

    def chunk_choices(self, choice_event: ChoiceEvent) -> list[dict[str, Any]]:
        """Return the text of one event; the last one of a choice says why it ended."""
        event, index = choice_event.event, choice_event.choice
        entries = logprob_entries(event)
        if not event.text and event.finish is None and not entries:
            return []
        said = _text_choice(index, event.text, event.finish)
        if entries:
            said["logprobs"] = _logprobs(entries, offset=self._num_chars_sent[index])
            self._num_chars_sent[index] += sum(len(entry["token"]) for entry in entries)
        return [said]

    def chunk(self, choices: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """Return one `text_completion` object of a stream."""
        return {**self.head, "object": "text_completion", "choices": list(choices), **extra}

    def _echo(self, choice: int) -> str:
        return self._echoes[choice // self._choices_per_prompt] if self._echoes else ""


def _text_choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _logprobs(entries: Sequence[dict[str, Any]], *, offset: int) -> dict[str, Any]:
    """Return the completions form of a chat's entries; offsets count characters from the start, the echo's if any."""
    tokens = [entry["token"] for entry in entries]
    starts = list(accumulate((len(token) for token in tokens), initial=offset))[:-1]
    return {
        "tokens": tokens,
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [_likely(entry) for entry in entries],
        "text_offset": starts,
    }


def _likely(entry: dict[str, Any]) -> dict[str, float] | None:
    """Return the most likely tokens of a place, None for the first of a prompt, which nothing precedes.

    Of tokens with the same text, as parts of characters have, the likeliest stays.
    """
    if entry["logprob"] is None:
        return None
    return {likely["token"]: likely["logprob"] for likely in reversed(entry["top_logprobs"])}
