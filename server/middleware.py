"""Plain ASGI middleware: request ids, traces, metrics, and the last safety net."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import AppError, DeadlineExceeded, InvalidRequest, NotReady
from core.telemetry import EventLog
from server.error_handlers import error_body, error_response, is_fault
from server.metrics import ServerMetrics
from server.trace import RequestTrace
from server.tracing import RequestTracer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

REQUEST_ID_HEADER = "x-request-id"
MEMO_HEADER = "x-bindchat-memo"
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TraceMiddleware:
    """Give every request an id, count it, log one `request_finished`, and answer whatever nobody else did.

    `unanswered` bounds the time until an answer begins; what bounds a stream after that is its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: ServerMetrics,
        log: EventLog,
        unanswered: Unanswered,
        tracer: RequestTracer | None = None,
    ) -> None:
        self._app = app
        self._tracer = tracer
        self._metrics = metrics
        self._log = log
        self._unanswered = unanswered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered_id = Headers(scope=scope).get(REQUEST_ID_HEADER)
        id_is_fine = offered_id is None or REQUEST_ID_PATTERN.fullmatch(offered_id) is not None
        request_id = offered_id if offered_id and id_is_fine else f"req-{uuid.uuid4().hex}"
        trace = RequestTrace(request_id=request_id, log=self._log.bind(request_id=request_id))
        scope.setdefault("state", {})["trace"] = trace
        answer = _AnswerWatch(send, trace, self._unanswered)
        with nullcontext() if self._tracer is None else self._tracer.span(scope, trace) as span:
            self._metrics.in_flight.inc()
            try:
                await self._answer(scope, receive, answer, id_is_fine=id_is_fine)
            finally:
                self._metrics.in_flight.dec()
                self._record(scope, trace, answer.status or 499, span)

    async def _answer(self, scope: Scope, receive: Receive, answer: _AnswerWatch, *, id_is_fine: bool) -> None:
        """Have one request answered, by an error body if by nobody else."""
        trace: RequestTrace = scope["state"]["trace"]
        try:
            async with self._unanswered.bounded(answer.deadline):
                if id_is_fine:
                    await self._app(scope, receive, answer.send)
                else:
                    await error_response(_bad_request_id())(scope, receive, answer.send)
        except ClientDisconnect:
            trace.error_code = "client_disconnected"
        except Exception as error:
            outcome = self._unanswered.reason() if answer.deadline.expired() else error
            if is_fault(outcome):
                trace.log.fault("request_failed", outcome)
            trace.error_code = error_body(outcome)["error"]["code"]
            if answer.status is None:
                await error_response(outcome)(scope, receive, answer.send)

    def _record(self, scope: Scope, trace: RequestTrace, status: int, span: Span | None) -> None:
        duration_s = trace.elapsed_s()
        route = getattr(scope.get("route"), "path", "(unmatched)")
        method = scope["method"] if scope["method"] in KNOWN_METHODS else "(other)"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(duration_s)
        if status >= 400:
            self._metrics.rejects.labels(trace.error_code or "client_disconnected").inc()
        for stage, milliseconds in trace.timer.milliseconds.items():
            self._metrics.stage_seconds.labels(stage).observe(milliseconds / 1000)
        if self._tracer is not None and span is not None:
            self._tracer.describe(span, trace, method=method, route=route, status=status)
        trace.log.event(
            "request_finished",
            method=method,
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 3),
            stages_ms=trace.timer.milliseconds,
            error_code=trace.error_code,
            key=trace.key.name,
            **trace.facts,
        )


class Unanswered:
    """The requests whose answers have not begun, each within `deadline_s`, and all until `end`."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._deadlines: set[asyncio.Timeout] = set()
        self._is_stopping = False

    def new_deadline(self) -> asyncio.Timeout:
        return asyncio.timeout(0 if self._is_stopping else self._deadline_s)

    @asynccontextmanager
    async def bounded(self, deadline: asyncio.Timeout) -> AsyncIterator[None]:
        """Hold the block to a deadline that `lift` and `end` may still move."""
        async with deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    def lift(self, deadline: asyncio.Timeout) -> None:
        """Let an answer that has begun take its time."""
        if deadline in self._deadlines and not deadline.expired():
            self._deadlines.discard(deadline)
            deadline.reschedule(None)

    def end(self) -> None:
        """End every request that still waits: the server stops."""
        self._is_stopping = True
        now_s = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now_s)

    def reason(self) -> AppError:
        """Return why a deadline has ended a request."""
        if self._is_stopping:
            return NotReady("the server is stopping; send the request to another one")
        return DeadlineExceeded(f"the request took longer than {self._deadline_s:g} s; ask for less")


class _AnswerWatch:
    """Add the request id, and the memo's part where it had one, remember the status, and lift the deadline."""

    def __init__(self, send: Send, trace: RequestTrace, unanswered: Unanswered) -> None:
        self._send = send
        self._trace = trace
        self._unanswered = unanswered
        self.deadline = unanswered.new_deadline()
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._unanswered.lift(self.deadline)
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_HEADER] = self._trace.request_id
            if self._trace.memo is not None:
                headers[MEMO_HEADER] = self._trace.memo
        await self._send(message)


def _bad_request_id() -> InvalidRequest:
    return InvalidRequest(
        "X-Request-ID must be 1 to 128 letters, digits, dots, dashes or underscores; leave it out to get one",
        param="X-Request-ID",
    )
