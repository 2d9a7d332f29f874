"""Run the app under uvicorn: bind, announce, and drain on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from core.errors import ConfigError
from server.context import AppContext
from server.heap import share_one_heap
from server.http_protocol import bounded_protocol
from server.settings import Settings

STOP_MARGIN_S = 10  # for error frames to reach their clients after the drain
# The decoder's thread takes the interpreter lock back hundreds of times a step; Python's own 5 ms let the event loop
# hold up a whole step.
SWITCH_INTERVAL_S = 0.0002


class ChatServer(uvicorn.Server):
    """A uvicorn server that lets running replies finish for `drain_timeout_s`, then ends them with an honest error."""

    def __init__(self, app: FastAPI, *, on_bound: Callable[[str], None] = lambda url: None) -> None:
        self.context: AppContext = app.state.context
        self._on_bound = on_bound
        self.bound = threading.Event()
        settings = self.context.settings
        _check_tls(settings)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here trusts an address that a header claims
                ws="none",
                http=bounded_protocol(settings, self.context.log),
                ssl_certfile=settings.tls_cert_file,
                ssl_keyfile=settings.tls_key_file,
                timeout_graceful_shutdown=int(settings.drain_timeout_s) + STOP_MARGIN_S,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        share_one_heap()
        super().run(sockets=sockets)

    def check_address(self) -> None:
        """Raise `ConfigError` when the address is taken or is none of this machine's, before a model is loaded."""
        settings = self.context.settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            socket.create_server((settings.host, settings.port), family=family).close()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); choose another address "
                "or --port, or end what uses it",
                param="port",
            ) from error

    @property
    def bound_port(self) -> int:
        """Return the port in use, also when 0 was asked for."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Return the address that clients use."""
        host = self.context.settings.host
        scheme = "https" if self.context.settings.tls_cert_file else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.bound_port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            if threading.current_thread() is threading.main_thread():  # only there may signals be handled
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.context.reload_keys)
            self.bound.set()
            self._on_bound(self.url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests at once. Uvicorn would raise the signal again at the end; a clean stop exits with 0."""
        self.context.draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.context.draining = True
        self.context.log.event("drain_started", running_replies=len(self.context.streams))
        deadline = asyncio.get_running_loop().call_later(
            self.context.settings.drain_timeout_s, self.context.end_requests
        )
        try:
            await super().shutdown(sockets=sockets)
        finally:
            deadline.cancel()


@contextmanager
def running_in_thread(server: ChatServer) -> Iterator[ChatServer]:
    """Run a server beside the caller for the length of a block. Raises `ConfigError` when its port cannot be bound."""
    thread = threading.Thread(target=server.run, name="chat-server")
    thread.start()
    try:
        while not server.bound.wait(0.1):
            if not thread.is_alive():
                settings = server.context.settings
                raise ConfigError(f"cannot listen on {settings.host}:{settings.port}; choose another port")
        yield server
    finally:
        server.should_exit = True
        thread.join()


def _check_tls(settings: Settings) -> None:
    """Raise `ConfigError` for a certificate without its key, a key without certificate, and files that are missing."""
    for name, other in (("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")):
        path = getattr(settings, name)
        if path is not None and getattr(settings, other) is None:
            raise ConfigError(f"{name} needs {other} beside it; https takes both", param=other)
        if path is not None and not path.is_file():
            raise ConfigError(f"{name} {path} is not a file", param=name)
