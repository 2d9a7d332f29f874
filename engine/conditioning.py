"""What a reply is conditioned on: the joint embedding, how sure it is, and the verdict on a yes-or-no question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.errors import AppError, EngineFault
from core.telemetry import EventLog
from core.types import ChatRequest, Condition, FloatArray
from engine.prompting import last_question
from models.bundle import ModelBundle
from models.mini.part_names import Part

Conditioned = tuple[Condition, bool | None]


class Conditioner:
    """Make the conditions of one model, off the event loop."""

    def __init__(self, bundle: ModelBundle, log: EventLog) -> None:
        self._adapter, self._verdicts, self._log = bundle.adapter, bundle.verdicts, log

    async def condition(
        self,
        request: ChatRequest,
        vector: FloatArray | None,
        confidence: float | None,
        parts: Sequence[Part] = (),
    ) -> Conditioned:
        """Return the condition of a reply about `vector` `(E,)`, or about text alone, and the verdict if any.

        A question for a yes or a no is judged on each of the `parts` of a blend: yes when it is right about one, which
        the reply is then about; else it is about the heaviest.
        Raises what the adapter refuses, and `EngineFault` for anything else that goes wrong; the log has the details.
        """
        try:
            return await asyncio.to_thread(self._make, last_question(request.messages), vector, confidence, parts)
        except AppError:
            raise
        except Exception as error:
            self._log.fault("condition_failed", error, request_id=request.request_id)
            raise EngineFault("the adapter failed on this request; the log has the details") from error

    def _make(
        self, question: str, vector: FloatArray | None, confidence: float | None, parts: Sequence[Part]
    ) -> Conditioned:
        agrees = None
        if vector is not None and self._verdicts is not None:
            agrees = self._verdicts.judge(question, vector)
            if agrees is not None and parts:
                by_weight = sorted(parts, key=lambda part: -part.weight)
                agreeing = (part for part in by_weight if self._verdicts.judge(question, part.vector))
                told = next(agreeing, None)
                agrees, told = told is not None, told or by_weight[0]
                vector, confidence = told.vector, told.confidence
        return self._adapter.condition(vector, confidence=confidence, agrees=agrees), agrees
