"""Questions about colour and setting: the expert that they call for, and what it saw worded as their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.types import ChatMessage, ChatRequest, Condition, FloatArray
from engine.experts.service import ExpertReport
from engine.prompting import last_question, with_last_question
from models.bundle import ModelBundle
from models.mini.attribute_questions import AttributeQuestion, attribute_question
from models.mini.attribute_words import BACKGROUND, answer, told
from models.mini.kinds import Kinds
from models.mini.verdicts import CLEARLY_OTHER

EXPERT = "attributes"
RATHER_THAN_NAMED = 1.0  # log-odds of what is asked about where the picture has another thing's name


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeContext:
    """Messages that tell the answer beside the question, its condition, which no medium changes, and the reports."""

    messages: tuple[ChatMessage, ...] = ()
    condition: Condition = None
    reports: list[ExpertReport]


class AttributeTeller:
    """Tell one model what the expert saw, for models that have a condition for it."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._condition, self._verdicts = bundle.attribute_condition, bundle.verdicts
        self._kinds = bundle.part_names.kinds if bundle.part_names is not None else Kinds({})

    def called_for(self, request: ChatRequest, *, concerns_media: bool) -> tuple[str, ...]:
        """Return the expert when the last question is about a colour or setting that this model must be told.

        `concerns_media` is what the model's own judge says; a question that points does so in any case.
        """
        question = self._question(request) if self._condition is not None else None
        return (EXPERT,) if question is not None and (concerns_media or question.points) else ()

    async def tell(
        self, request: ChatRequest, reports: Sequence[ExpertReport], vector: FloatArray | None
    ) -> AttributeContext | None:
        """Return the messages that tell the answer, or None where the experts' texts join as they are.

        That is where others speak too, or where nothing of the kind is asked. `vector` `(E,)` is what is shown.
        """
        question = self._question(request)
        speaking = [place for place, report in enumerate(reports) if report.text]
        if self._condition is None or question is None or len(speaking) != 1 or vector is None:
            return None
        (place,) = speaking
        attributes = reports[place].attributes
        if attributes is None:
            return None
        relation = self._kinds.relation(question.thing, attributes.name)
        needed = CLEARLY_OTHER if relation == "unclear" else RATHER_THAN_NAMED if attributes.name else 0.0
        is_shown = relation == "same" or await asyncio.to_thread(self._is_shown, question, vector, needed)
        sentence = answer(attributes, question, is_shown=is_shown, is_rival=relation == "rival")
        messages = with_last_question(request.messages, told(sentence, last_question(request.messages)))
        said = [replace(report, in_prompt=sentence if i == place else "") for i, report in enumerate(reports)]
        return AttributeContext(messages=messages, condition=self._condition, reports=said)

    def _question(self, request: ChatRequest) -> AttributeQuestion | None:
        if request.tools or request.raw_prompts:
            return None
        return attribute_question(last_question(request.messages))

    def _is_shown(self, question: AttributeQuestion, vector: FloatArray, needed: float) -> bool:
        """Judge whether the thing that is asked about is what the picture shows, or may be a part of it."""
        if not question.thing or question.thing in BACKGROUND or self._verdicts is None:
            return True
        return self._verdicts.is_shown(question.thing, vector, above=needed)
