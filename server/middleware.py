"""Plain ASGI middleware: request ids, traces, metrics, and the last safety net."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import InvalidRequest
from core.telemetry import EventLog
from server.error_handlers import error_response
from server.metrics import ServerMetrics
from server.trace import RequestTrace

REQUEST_ID_HEADER = "x-request-id"
MEMO_HEADER = "x-bindchat-memo"
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TraceMiddleware:
    """Give every request an id, count it, log one `request_finished`, and answer whatever nobody else did."""

    def __init__(self, app: ASGIApp, *, metrics: ServerMetrics, log: EventLog) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered_id = Headers(scope=scope).get(REQUEST_ID_HEADER)
        id_is_fine = offered_id is None or REQUEST_ID_PATTERN.fullmatch(offered_id) is not None
        request_id = offered_id if offered_id and id_is_fine else f"req-{uuid.uuid4().hex}"
        trace = RequestTrace(request_id=request_id, log=self._log.bind(request_id=request_id))
        scope.setdefault("state", {})["trace"] = trace
        answer = _AnswerWatch(send, trace)
        self._metrics.in_flight.inc()
        try:
            if id_is_fine:
                await self._app(scope, receive, answer.send)
            else:
                await error_response(_bad_request_id())(scope, receive, answer.send)
        except ClientDisconnect:
            trace.error_code = "client_disconnected"
        except Exception as error:
            trace.log.fault("request_failed", error)
            trace.error_code = "engine_fault"
            if answer.status is None:
                await error_response(error)(scope, receive, answer.send)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, trace, answer.status or 499)

    def _record(self, scope: Scope, trace: RequestTrace, status: int) -> None:
        duration_s = trace.elapsed_s()
        route = getattr(scope.get("route"), "path", "(unmatched)")
        method = scope["method"] if scope["method"] in KNOWN_METHODS else "(other)"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(duration_s)
        for stage, milliseconds in trace.timer.milliseconds.items():
            self._metrics.stage_seconds.labels(stage).observe(milliseconds / 1000)
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


class _AnswerWatch:
    """Add the request id, and the memo's part where it had one, to the answer and remember its status."""

    def __init__(self, send: Send, trace: RequestTrace) -> None:
        self._send = send
        self._trace = trace
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
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
