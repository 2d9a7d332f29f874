"""A server inside a command, for as long as the command needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from core.errors import ConfigError
from server.app import create_app
from server.configuration import load_settings
from server.runner import ChatServer, running_in_thread
from server.settings import Settings
from server.wiring import build_service


@contextmanager
def own_server(model: str | None, console: Console, **settings: Any) -> Iterator[str]:
    """Yield the address of a server that only this command can reach, with the operator's other settings."""
    chosen = load_settings({**settings, "host": "127.0.0.1", "port": 0, "model": model})
    open_to_us = {"api_key_file": None, "api_keys": (), "admin_keys": ()}
    with inner_server(chosen.model_copy(update=open_to_us), console) as url:
        yield url


@contextmanager
def inner_server(settings: Settings, console: Console) -> Iterator[str]:
    """Yield the address of a ready server that lives as long as the block."""
    loaded = threading.Event()
    server = ChatServer(create_app(settings, build_service, lambda context, load_s: loaded.set()))
    with running_in_thread(server):
        with console.status(f"loading {settings.model}"):
            loaded.wait()
        if server.context.load_error is not None:
            raise ConfigError(f"{settings.model} could not be loaded: {server.context.load_error}")
        yield server.url
