"""The body of `POST /v1/batches`, the lines of its file, and the batch object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from pydantic import Field

from core.errors import InvalidRequest
from server.schemas.bodies import parse_body
from server.schemas.chat import Metadata
from server.schemas.parts import EdgeModel
from server.uploads import decode_json

MAX_LINES = 50_000
MAX_LISTED_ERRORS = 100
MAX_WINDOW_H = 168
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]


class OutputExpiry(EdgeModel):
    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=30 * 24 * 3600)


class BatchBody(EdgeModel):
    """`completion_window` is OpenAI's 24h or any other number of hours up to a week."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: str = Field(pattern=r"^[1-9][0-9]{0,2}h$")
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None

    @property
    def window_s(self) -> int:
        return int(self.completion_window[:-1]) * 3600


class BatchLine(EdgeModel):
    """One request of the file."""

    custom_id: str = Field(min_length=1, max_length=512)
    method: Literal["POST"]
    url: Endpoint
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """A checked line, or the sentence that says what is wrong with it; counted from 0."""

    number: int
    line: BatchLine | None
    error: str = ""


def parse_batch_body(body: dict[str, Any]) -> BatchBody:
    """Check a decoded JSON object. Raises `InvalidRequest` naming the field and what is allowed."""
    parsed = parse_body(BatchBody, body)
    if parsed.window_s > MAX_WINDOW_H * 3600:
        raise InvalidRequest(f"completion_window is at most {MAX_WINDOW_H}h", param="completion_window")
    return parsed


def read_lines(file: BinaryIO, endpoint: str, max_bytes: int) -> Iterator[NumberedLine]:
    """Yield every line of a batch file that is not blank; ids that repeat and other endpoints are errors."""
    seen: set[str] = set()
    number = 0
    while text := file.readline(max_bytes + 1):
        if len(text) > max_bytes:
            yield NumberedLine(number, None, f"the line is longer than {max_bytes} bytes")
            return
        if not text.strip():
            continue
        try:
            line = _checked_line(text, endpoint, seen)
        except InvalidRequest as error:
            yield NumberedLine(number, None, error.message)
        else:
            seen.add(line.custom_id)
            yield NumberedLine(number, line)
        number += 1


def _checked_line(text: bytes, endpoint: str, seen: set[str]) -> BatchLine:
    value = decode_json(text, param="the line")
    if not isinstance(value, dict):
        raise InvalidRequest("a line must be a JSON object with custom_id, method, url and body")
    line = parse_body(BatchLine, value)
    if line.url != endpoint:
        raise InvalidRequest(f"url is {line.url}, and the endpoint of the batch is {endpoint}")
    if line.custom_id in seen:
        raise InvalidRequest(f"custom_id {line.custom_id[:80]!r} is used twice")
    return line


def batch_object(body: BatchBody, batch_id: str, now_s: int) -> dict[str, Any]:
    """Return a batch that has not begun; times are seconds since 1970."""
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    return {
        "id": batch_id,
        "object": "batch",
        "endpoint": body.endpoint,
        "errors": None,
        "input_file_id": body.input_file_id,
        "completion_window": body.completion_window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now_s,
        "expires_at": now_s + body.window_s,
        **{f"{name}_at": None for name in times},
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": body.metadata,
    }


def errors_object(wrong: list[NumberedLine]) -> dict[str, Any]:
    """Return OpenAI's list of what is wrong with a batch's file."""
    found = [
        {"code": "invalid_line", "line": line.number + 1, "message": line.error, "param": None}
        for line in wrong[:MAX_LISTED_ERRORS]
    ]
    return {"object": "list", "data": found}


def outcome_line(custom_id: str, outcome_id: str, *, response: Any = None, error: Any = None) -> str:
    """Return one line of an output or error file."""
    outcome = {"id": outcome_id, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(outcome, ensure_ascii=False, separators=(",", ":"))
