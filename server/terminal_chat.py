"""A streaming chat in the terminal, over the same HTTP API that everyone uses."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from core.errors import AppError, InvalidRequest

HELP = "/image, /audio, /video or /points PATH attaches to the next message, /clear forgets, /exit leaves"
KINDS = {"/image": "image", "/audio": "audio", "/video": "video", "/points": "point_cloud"}
READ_TIMEOUT_S = 600.0


class ChatSession:
    """One conversation with a server: what was said, and the media waiting for the next message."""

    def __init__(self, client: httpx.Client, model: str | None) -> None:
        self._client = client
        self._model = model
        self._messages: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []

    def attach(self, path: Path, kind: str = "image") -> None:
        """Attach a medium to the next message. Raises `InvalidRequest` when it cannot be read."""
        self._waiting.append(media_part(kind, path))

    def clear(self) -> None:
        """Forget everything said and attached."""
        self._messages.clear()
        self._waiting.clear()

    def send(self, text: str) -> Iterator[str]:
        """Yield the reply as it comes. Raises `InvalidRequest` with the server's sentence when it refuses.

        A refused message is forgotten, so the conversation stays answerable.
        """
        content = [{"type": "text", "text": text}, *self._waiting]
        self._waiting = []
        self._messages.append({"role": "user", "content": content})
        body = {"messages": self._messages, "stream": True, **({"model": self._model} if self._model else {})}
        pieces: list[str] = []
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
                for piece in _text_pieces(answer):
                    pieces.append(piece)
                    yield piece
        except (httpx.HTTPError, AppError) as error:
            self._messages.pop()
            raise InvalidRequest(str(error)) from error
        self._messages.append({"role": "assistant", "content": "".join(pieces)})


def media_part(kind: str, path: Path) -> dict[str, Any]:
    """Return the content part of a file; `kind` is image, audio, video or point_cloud.

    Raises `InvalidRequest` when it cannot be read.
    """
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}; give the path of a file") from None
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    uri = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": uri}}


def open_client(url: str, api_key: str | None) -> httpx.Client:
    """Return a client for a server's address."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(10.0, read=READ_TIMEOUT_S))


def run_terminal_chat(session: ChatSession, read_line: Callable[[], str], write: Callable[[str], None]) -> None:
    """Talk until `/exit` or the end of the input; `read_line` raises `EOFError` there."""
    write(HELP + "\n")
    while True:
        try:
            line = read_line().strip()
        except EOFError:
            return
        if line in ("/exit", "/quit"):
            return
        try:
            _obey(session, line, write)
        except InvalidRequest as error:
            write(f"! {error.message}\n")


def _obey(session: ChatSession, line: str, write: Callable[[str], None]) -> None:
    command, _, argument = line.partition(" ")
    if command in KINDS:
        session.attach(Path(argument.strip()), KINDS[command])
        write("attached to your next message\n")
    elif command == "/clear":
        session.clear()
    elif command.startswith("/"):
        write(HELP + "\n")
    elif line:
        for piece in session.send(line):
            write(piece)
        write("\n")


def _text_pieces(answer: httpx.Response) -> Iterator[str]:
    """Yield the text of a stream. Raises `InvalidRequest` for an error answer and for an error frame."""
    if answer.status_code != 200:
        raise InvalidRequest(error_sentence(answer.read(), answer.status_code))
    for line in answer.iter_lines():
        payload = line.removeprefix("data: ")
        if payload == line or payload == "[DONE]":
            continue
        frame = json.loads(payload)
        if "error" in frame:
            raise InvalidRequest(frame["error"]["message"])
        yield from (choice["delta"].get("content", "") for choice in frame["choices"])


def error_sentence(body: bytes, status: int) -> str:
    """Return what an error body says, or that it says nothing."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered with status {status} and no reason"
