"""OpenAI's shapes of a text completion: the whole object and the chunks of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.types import ChatRequest, FinishReason
from server.completions import Reply

if TYPE_CHECKING:
    from engine.pipeline import ChoiceEvent


class TextReply(Reply):
    """Gather the events of a request of raw prompts; `echoes` holds what goes before each prompt's choices."""

    def __init__(self, request: ChatRequest, echoes: Sequence[str]) -> None:
        super().__init__(request)
        self._echoes = echoes

    def completion(self) -> dict[str, Any]:
        """Return the whole `text_completion` object."""
        choices = [
            _text_choice(index, self._echo(index) + "".join(choice.pieces), choice.finish)
            for index, choice in enumerate(self.choices)
        ]
        return {**self._head, "object": "text_completion", "choices": choices, "usage": self.usage()}

    def first_chunk_choices(self) -> list[dict[str, Any]]:
        """Return the echoed prompts, if any were asked for."""
        return [_text_choice(index, echo) for index in range(len(self.choices)) if (echo := self._echo(index))]

    def chunk_choices(self, choice_event: ChoiceEvent) -> list[dict[str, Any]]:
        """Return the text of one event; the last one of a choice says why it ended."""
        event = choice_event.event
        if not event.text and event.finish is None:
            return []
        return [_text_choice(choice_event.choice, event.text, event.finish)]

    def chunk(self, choices: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """Return one `text_completion` object of a stream."""
        return {**self._head, "object": "text_completion", "choices": list(choices), **extra}

    def _echo(self, choice: int) -> str:
        return self._echoes[choice // self._choices_per_prompt] if self._echoes else ""


def _text_choice(index: int, text: str, finish: FinishReason | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
