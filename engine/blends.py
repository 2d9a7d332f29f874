"""Blends of unlike media: what each part is called, told to the decoder beside the last question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from core.types import ChatMessage, ChatRequest, Condition, Modality
from engine.encoding.service import JointEmbedding, joint_confidence
from engine.prompting import last_question, with_last_question
from models.bundle import ModelBundle
from models.mini.attribute_words import told as answered
from models.mini.part_names import NamedPart as NamedPart
from models.mini.part_names import Part, PartNames, is_difference, told


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

    async def read(self, request: ChatRequest, joint: JointEmbedding | None, *, concerns_media: bool) -> Blend:
        """Return what the parts are called and the messages that say so; nothing beside tools.

        Of pictures of one thing only what they do not tell or show is said, where that is asked for.
        """
        if self._part_names is None or joint is None or request.tools:
            return Blend()
        if joint.parts:
            if not concerns_media:
                return Blend()
            return await asyncio.to_thread(self._read, self._part_names, request, joint.parts)
        if self._answer_condition is None or any(medium.modality is not Modality.IMAGE for medium in joint.media):
            return Blend()
        confidence = joint_confidence(joint.media)
        whole = Part(medium=0, modality=Modality.IMAGE, vector=joint.vector, weight=1.0, confidence=confidence)
        return await asyncio.to_thread(self._read_one, self._part_names, request, whole, concerns_media)

    def _read_one(self, part_names: PartNames, request: ChatRequest, whole: Part, concerns_media: bool) -> Blend:
        question = last_question(request.messages)
        sentence = part_names.honest(whole, question, concerns_media=concerns_media)
        if not sentence:
            return Blend()
        messages = with_last_question(request.messages, answered(sentence, question))
        return Blend(messages=messages, condition=self._answer_condition)

    def _read(self, part_names: PartNames, request: ChatRequest, parts: Sequence[Part]) -> Blend:
        named = part_names.name(parts)
        question = last_question(request.messages)
        if len(named) < 2 and not is_difference(parts):
            return Blend()
        of_kind = part_names.of_kind(named, question)
        if not of_kind and self._verdicts is not None and self._verdicts.asked_for(question):
            return Blend(parts=named)
        text, condition = told(named, question), part_names.told
        if of_kind:
            text, condition = answered(of_kind, question), self._answer_condition
        return Blend(parts=named, messages=with_last_question(request.messages, text), condition=condition)
