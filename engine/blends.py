"""Blends of unlike media: what each part is called, told to the decoder beside the last question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.types import ChatMessage, ChatRequest, Condition
from engine.prompting import last_question
from models.bundle import ModelBundle
from models.mini.part_names import CONTEXT, Part, PartNames, is_difference, told
from models.mini.part_names import NamedPart as NamedPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The named parts of a blend, none where it is taken for one thing; `messages` tell them, none where they do not.

    A question that is judged needs no telling: its verdict is about one of the parts. A reply to the messages is under
    `condition`, which knows nothing of the media.
    """

    parts: tuple[NamedPart, ...] = ()
    messages: tuple[ChatMessage, ...] = ()
    condition: Condition = None


class BlendReader:
    """Read blends for one model, off the event loop."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._part_names, self._verdicts = bundle.part_names, bundle.verdicts
        self._answer_condition = bundle.attribute_condition

    async def read(self, request: ChatRequest, parts: Sequence[Part]) -> Blend:
        """Return what the parts are called and the messages that say so; nothing for one thing and beside tools."""
        if self._part_names is None or not parts or request.tools:
            return Blend()
        return await asyncio.to_thread(self._read, self._part_names, request, parts)

    def _read(self, part_names: PartNames, request: ChatRequest, parts: Sequence[Part]) -> Blend:
        named = part_names.name(parts)
        messages, question = request.messages, last_question(request.messages)
        if len(named) < 2 and not is_difference(parts):
            return Blend()
        of_kind = part_names.of_kind(named, question)
        if not of_kind and self._verdicts is not None and self._verdicts.asked_for(question):
            return Blend(parts=named)
        text, condition = told(named, question), part_names.told
        if of_kind:
            text, condition = CONTEXT.format(told=of_kind, question=question.strip()), self._answer_condition
        place = max(place for place, message in enumerate(messages) if message.role == "user")
        turn = replace(messages[place], text=text)
        return Blend(parts=named, messages=(*messages[:place], turn, *messages[place + 1 :]), condition=condition)
