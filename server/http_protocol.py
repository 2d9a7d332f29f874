"""Uvicorn's HTTP protocol with bounds it lacks: connections, the size of a request's head, and the time for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.errors import AppError, DeadlineExceeded, InvalidRequest
from core.telemetry import EventLog
from server.error_handlers import error_body, error_row
from server.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """What one connection may cost before its request reaches the app."""

    max_connections: int
    max_head_bytes: int
    head_timeout_s: float


class BoundedProtocol(HttpToolsProtocol):
    """Close what never becomes a request. `limits` and `log` are set by `bounded_protocol`."""

    limits: HeadLimits
    log: EventLog

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._num_head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.max_connections:
            self.log.event("connection_refused", max_connections=self.limits.max_connections)
            transport.close()
        else:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # a request that was refused may go on arriving
        if self._in_head:
            self._num_head_bytes += len(data)
            if self._head_timer is None:
                self._start_head_timer()
        super().data_received(data)
        # One read may hold the end of the head and much of the body, so only a head that is still open counts.
        if self._in_head and self._num_head_bytes > self.limits.max_head_bytes:
            self._refuse(_head_too_large(self.limits.max_head_bytes))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._num_head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("the request is not well-formed HTTP", code="malformed_http"))

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._end_slow_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_slow_head(self) -> None:
        self._head_timer = None
        if self._num_head_bytes == 0:  # connected ahead of need, as browsers do
            self.transport.close()
            return
        self._refuse(DeadlineExceeded(f"the request's head did not arrive within {self.limits.head_timeout_s:g} s"))

    def _refuse(self, error: AppError) -> None:
        """Answer a connection whose request never came to be, then close it."""
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        status = error_row(type(error)).status
        self.log.event("head_refused", status=status, error_code=error.code)
        if self.cycle is None or self.cycle.response_complete:  # never into the middle of another answer
            body = json.dumps(error_body(error), ensure_ascii=False).encode()
            head = (
                f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def _head_too_large(max_bytes: int) -> AppError:
    return InvalidRequest(f"the request line and headers are over {max_bytes} bytes; send less", code="head_too_large")


def bounded_protocol(settings: Settings, log: EventLog) -> type[asyncio.Protocol]:
    """Return the protocol class that uvicorn makes one instance of for each connection."""
    limits = HeadLimits(
        max_connections=settings.max_connections,
        max_head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
    )
    members: dict[str, Any] = {"limits": limits, "log": log}
    return type("ConfiguredProtocol", (BoundedProtocol,), members)
