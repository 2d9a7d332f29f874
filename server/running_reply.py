"""One reply from its first event to its last, with what it leaves in the trace and the metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from core.errors import Forbidden
from core.types import ChatRequest
from server.choice_stream import ChoiceStream
from server.completions import Reply
from server.context import AppContext, Service
from server.media_reports import cache_object, expert_object, medium_object, part_object
from server.trace import RequestTrace
from server.usage import media_usage

if TYPE_CHECKING:
    from engine.pipeline import Preparation


class RunningReply:
    """A reply being generated; `aclose` must be awaited once, whatever happened."""

    def __init__(
        self,
        context: AppContext,
        service: Service,
        trace: RequestTrace,
        request: ChatRequest,
        shape: Callable[[ChatRequest], Reply] = Reply,
    ) -> None:
        self.reply = shape(request)
        self.keep: Callable[[Reply], Awaitable[None]] | None = None  # takes the reply before the client hears its end
        self.reply.head["system_fingerprint"] = service.facts.fingerprint
        self.trace = trace
        self.settings = context.settings
        self._metrics = context.metrics
        trace.facts.update(
            completion_id=request.request_id,
            model=request.model,
            stream=request.stream,
            num_choices=request.num_replies,
            num_media=sum(len(message.media) for message in request.messages),
        )
        self._opened_s = self._first_s = time.perf_counter()
        self._opened_ns = self._first_ns = time.time_ns()
        if request.priority < 0 and not trace.key.is_admin:
            raise Forbidden("a priority below 0 goes before other clients and needs an admin key; send 0 or more")
        owned = replace(request, tenant=trace.owner, priority=request.priority + trace.priority)
        self.stream: ChoiceStream = context.open_stream(
            service.pipeline.stream(owned, self._note_preparation), self._note_first_event, request.deadline_s
        )

    async def wait_first(self) -> None:
        """Wait until the reply has begun, or kept silent for too long. Closes it and raises what it failed with."""
        try:
            await self.stream.wait_first(self.settings.first_event_wait_s)
        except BaseException:
            await self.aclose()
            raise

    async def collect(self) -> Reply:
        """Read every event and return the whole reply. Raises what the reply failed with."""
        while (event := await self.stream.next_event()) is not None:
            self.reply.add(event)
        await self.complete()
        return self.reply

    async def complete(self) -> None:
        """Check that every choice has ended, and keep the reply where that was asked for."""
        self.reply.check_complete()
        if self.keep is not None:
            await self.keep(self.reply)

    async def aclose(self) -> None:
        """Free the slot and record what was read and written."""
        await self.stream.aclose()
        if "first_event" in self.trace.timer.milliseconds:
            self.trace.timer.milliseconds["rest_of_reply"] = _milliseconds(time.perf_counter() - self._first_s)
            self.trace.timer.started_ns["rest_of_reply"] = self._first_ns
        usage = self.reply.usage()
        self._metrics.prompt_tokens.inc(usage["prompt_tokens"])
        self._metrics.completion_tokens.inc(usage["completion_tokens"])
        self.trace.facts.update(
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            finish_reasons=[choice.finish for choice in self.reply.choices],
        )

    def _note_preparation(self, preparation: Preparation) -> None:
        stages_ms = self.trace.timer.milliseconds
        stages_ms.update(preparation.stages_ms)
        self.trace.timer.started_ns.update(preparation.started_ns)
        media = [medium_object(report) for report in preparation.media]
        self.reply.media_usage = media_usage(preparation.media)
        self.reply.bind.update(media=media, conditioned=preparation.is_conditioned)
        self.reply.bind["stages_ms"] = stages_ms  # later stages are still to come
        self.reply.bind["cache"] = None if preparation.cache is None else cache_object(preparation.cache)
        if preparation.experts:
            self.reply.bind["experts"] = [expert_object(report) for report in preparation.experts]
        if preparation.parts:
            self.reply.bind["parts"] = [part_object(named) for named in preparation.parts]
        if preparation.verdict is not None:
            self.reply.bind["verdict"] = "yes" if preparation.verdict else "no"
        self.trace.memo = preparation.memo

    def _note_first_event(self) -> None:
        self._first_s, self._first_ns = time.perf_counter(), time.time_ns()
        self.trace.timer.started_ns["first_event"] = self._opened_ns
        self.trace.timer.milliseconds["first_event"] = _milliseconds(self._first_s - self._opened_s)
        self._metrics.first_token_seconds.observe(self.trace.elapsed_s())
        self.trace.facts["first_token_ms"] = _milliseconds(self.trace.elapsed_s())


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
