"""What a reply is conditioned on: the joint embedding, how sure it is, and the verdict on a yes-or-no question."""

from __future__ import annotations

import asyncio

from core.errors import AppError, EngineFault
from core.telemetry import EventLog
from core.types import ChatRequest, Condition, FloatArray
from engine.prompting import last_question
from models.bundle import ModelBundle

Conditioned = tuple[Condition, bool | None]


class Conditioner:
    """Make the conditions of one model, off the event loop."""

    def __init__(self, bundle: ModelBundle, log: EventLog) -> None:
        self._adapter, self._verdicts, self._log = bundle.adapter, bundle.verdicts, log

    async def condition(self, request: ChatRequest, vector: FloatArray | None, confidence: float | None) -> Conditioned:
        """Return the condition of a reply about `vector` `(E,)`, or about text alone, and the verdict if any.

        Raises what the adapter refuses, and `EngineFault` for anything else that goes wrong; the log has the details.
        """
        try:
            return await asyncio.to_thread(self._make, last_question(request.messages), vector, confidence)
        except AppError:
            raise
        except Exception as error:
            self._log.fault("condition_failed", error, request_id=request.request_id)
            raise EngineFault("the adapter failed on this request; the log has the details") from error

    def _make(self, question: str, vector: FloatArray | None, confidence: float | None) -> Conditioned:
        agrees = None
        if vector is not None and self._verdicts is not None:
            agrees = self._verdicts.judge(question, vector)
        return self._adapter.condition(vector, confidence=confidence, agrees=agrees), agrees
