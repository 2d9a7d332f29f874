"""Plain ASGI middleware: request ids, traces, metrics, the last safety net, and API keys."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import InvalidRequest, Unauthorized
from core.telemetry import EventLog
from server.error_handlers import error_response
from server.metrics import ServerMetrics
from server.trace import RequestTrace

REQUEST_ID_HEADER = "x-request-id"
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROTECTED_PREFIXES = ("/v1/", "/tokenize", "/detokenize")


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
        answer = _AnswerWatch(send, request_id)
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
            **trace.facts,
        )


class ApiKeyMiddleware:
    """Ask for a bearer key wherever the model works; health and metrics stay open for the operator's probes."""

    def __init__(self, app: ASGIApp, *, api_keys: Sequence[SecretStr]) -> None:
        self._app = app
        self._keys = [key.get_secret_value().encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needs_key = self._keys and scope["type"] == "http" and scope["path"].startswith(PROTECTED_PREFIXES)
        if needs_key:
            authorization = Headers(scope=scope).get("authorization", "")
            if not self._knows(authorization):
                scope["state"]["trace"].error_code = Unauthorized.code
                refusal = Unauthorized("the API key is missing or wrong; send Authorization: Bearer KEY")
                await error_response(refusal)(scope, receive, send)
                return
            scope["state"]["trace"].owner = hashlib.sha256(_offered_key(authorization)).hexdigest()
        await self._app(scope, receive, send)

    def _knows(self, authorization: str) -> bool:
        matches = [hmac.compare_digest(_offered_key(authorization), key) for key in self._keys]
        return authorization.partition(" ")[0].lower() == "bearer" and any(matches)


class _AnswerWatch:
    """Add the request id to the answer and remember its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self._request_id
        await self._send(message)


def _offered_key(authorization: str) -> bytes:
    return authorization.partition(" ")[2].strip().encode()


def _bad_request_id() -> InvalidRequest:
    return InvalidRequest(
        "X-Request-ID must be 1 to 128 letters, digits, dots, dashes or underscores; leave it out to get one",
        param="X-Request-ID",
    )
