"""Call an endpoint of the same app without a socket, as one of its clients."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api_keys import ApiKey
from server.context import AppContext
from server.middleware import TraceMiddleware
from server.trace import RequestTrace

BATCH_PRIORITY = 3  # waits behind live clients, for half a minute at most (the engine ages what waits)


@dataclass(frozen=True, slots=True)
class InnerAnswer:
    """What an endpoint answered."""

    status: int
    request_id: str
    body: Any


class InnerClient:
    """Post JSON bodies in the name of a key. Traces, metrics and error bodies are those of a call over HTTP."""

    def __init__(self, app: FastAPI, context: AppContext) -> None:
        self._app = app
        handled = ExceptionMiddleware(AsyncExitStackMiddleware(app.router), handlers=app.exception_handlers)
        self._entry = TraceMiddleware(_AsKey(handled), **context.watch)

    async def post(self, path: str, body: dict[str, Any], key: ApiKey) -> InnerAnswer:
        """Return the answer of `path` to `body`; cancelling the call is a client that leaves."""
        content = json.dumps(body).encode()
        exchange = _Exchange(content)
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))],
            "app": self._app,
            "inner_key": key,
        }
        await self._entry(scope, exchange.receive, exchange.send)
        return InnerAnswer(
            exchange.status, exchange.headers.get(b"x-request-id", b"").decode(), json.loads(exchange.sent)
        )


class _AsKey:
    """Let the owner's key stand in the trace, where the key of an HTTP client would."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace: RequestTrace = scope["state"]["trace"]
        trace.key, trace.priority = scope["inner_key"], BATCH_PRIORITY
        await self._app(scope, receive, send)


class _Exchange:
    """One request body going in, one answer coming out."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content
        self.status = 500
        self.headers: dict[bytes, bytes] = {}
        self.sent = b""

    async def receive(self) -> Message:
        if self._content is None:
            await asyncio.Event().wait()  # the client stays until the answer has come
        content, self._content = self._content, None
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        elif message["type"] == "http.response.body":
            self.sent += message.get("body", b"")
