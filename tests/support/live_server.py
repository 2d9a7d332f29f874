"""A real server on a loopback port with the tiny model, run in a thread for the length of a block."""

from __future__ import annotations

import base64
import io
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image

from server.app import ServiceBuilder, create_app
from server.context import AppContext
from server.runner import ChatServer, running_in_thread
from server.settings import Settings
from server.wiring import build_service

UploadedPart = tuple[str, tuple[str | None, bytes, str]]
MODEL = "tiny"
LONG = 900  # tokens; long enough to be interrupted, short enough for the context of 1024
CHAT = "/v1/chat/completions"


class EventRecorder(logging.Handler):
    """Collect log events as they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.lines.append(self.format(record))
            self._changed.notify_all()

    def wait_for(self, event_name: str, **fields: Any) -> dict[str, Any]:
        """Return the first event of that name with those fields, waiting for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._matching(event_name, fields), timeout=120)
            return self._matching(event_name, fields)[0]

    def _matching(self, event_name: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        events = [json.loads(line.splitlines()[0]) for line in self.lines if line.startswith('{"event"')]
        return [e for e in events if e["event"] == event_name and fields.items() <= e.items()]


@dataclass(frozen=True, slots=True)
class LiveServer:
    """Where a running server is reached, and its insides for what HTTP does not show."""

    url: str
    context: AppContext
    stop: Callable[[], None]
    events: EventRecorder = field(default_factory=EventRecorder)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, **options)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def post(self, **options: Any) -> httpx.Response:
        """Post to the chat endpoint."""
        with self.client() as client:
            return client.post(CHAT, **options)

    def chat(self, content: Any = "hello", **fields: Any) -> httpx.Response:
        """Post one user message as JSON."""
        return self.post(json=chat_body(content, **fields))

    def upload(self, fields: Mapping[str, str], *files: UploadedPart) -> httpx.Response:
        """Post a form."""
        texts = [(name, (None, value)) for name, value in fields.items()]
        return self.post(files=[*texts, *files])

    @contextmanager
    def stream(self, content: Any = "hello", **fields: Any) -> Iterator[Iterator[str]]:
        """Open a streamed reply and yield its lines; leaving the block closes the connection."""
        with (
            self.client() as client,
            client.stream("POST", CHAT, json=chat_body(content, stream=True, **fields)) as answer,
        ):
            assert answer.status_code == 200
            yield answer.iter_lines()

    def wait_until_idle(self) -> None:
        """Ask `/ready` until no slot is in use."""
        with self.client() as client:
            while client.get("/ready").json()["slots_in_use"] > 0:
                continue


@contextmanager
def live_server(build: ServiceBuilder = build_service, *, wait: bool = True, **chosen: Any) -> Iterator[LiveServer]:
    """Run a server for the length of a block; `wait` until it is ready."""
    defaults = {"port": 0, "model": MODEL, "dtype": "float32", "num_threads": 1, "max_slots": 4, "drain_timeout_s": 0}
    settings = Settings(**{**defaults, **chosen})
    loaded = threading.Event()
    server = ChatServer(create_app(settings, build, on_loaded=lambda context, seconds: loaded.set()))
    events = EventRecorder()
    logger = logging.getLogger("bindchat")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(events)
    try:
        with running_in_thread(server):
            assert not wait or loaded.wait(300)  # mini loads in seconds, on a busy machine in minutes
            yield LiveServer(server.url, server.context, lambda: server.handle_exit(signal.SIGTERM, None), events)
    finally:
        logger.removeHandler(events)
        logger.setLevel(level)


def raw_connection(server: LiveServer, content: bytes) -> socket.socket:
    """Send bytes over a bare socket, whose end is in the test's hand."""
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port or 80), timeout=120)
    connection.sendall(content)
    return connection


def chat_body(content: Any = "hello", **fields: Any) -> dict[str, Any]:
    """Return a short greedy request."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "temperature": 0,
        "ignore_eos": True,
        **fields,
    }


def picture(colour: tuple[int, int, int] = (200, 30, 30), *, container: str = "PNG", side_px: int = 24) -> bytes:
    """Return a one-colour picture file."""
    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px), colour).save(file, container)
    return file.getvalue()


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def image_part(content: bytes, **siblings: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_uri(content)}, **siblings}


def image_file(content: bytes, field_name: str = "image", media_type: str = "image/png") -> UploadedPart:
    return (field_name, ("photo", content, media_type))


def reply_text(answer: httpx.Response) -> str:
    """Return the text of the first choice of a whole reply."""
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def assert_refused(answer: httpx.Response, status: int, *words: str, param: str | None = None) -> None:
    """Check the status, the one error body, and that the sentence holds every word."""
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    (key,) = answer.json()
    error = answer.json()[key]
    assert key == "error"
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"]
    assert [word for word in words if word not in error["message"]] == [], error["message"]
    if param is not None:
        assert error["param"] == param


def stream_frames(lines: Iterator[str]) -> list[Any]:
    """Return what every server-sent event carries: parsed JSON, or the bare word `[DONE]`."""
    payloads = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]
