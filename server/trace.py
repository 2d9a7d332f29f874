"""What one HTTP request leaves behind: an id, milliseconds per stage, counts; never prompts or bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from core.telemetry import EventLog, StageTimer
from server.api_keys import ANYONE, ApiKey


@dataclass(slots=True, kw_only=True)
class RequestTrace:
    """Filled while a request runs, written once when it ends."""

    request_id: str
    log: EventLog
    started_s: float = field(default_factory=time.perf_counter)
    timer: StageTimer = field(default_factory=StageTimer)
    key: ApiKey = ANYONE
    priority: int = 0  # added to what the request asks for: batches wait behind live clients
    error_code: str | None = None
    memo: str | None = None  # whether the media were remembered: hit, miss or partial
    facts: dict[str, Any] = field(default_factory=dict)  # model, tokens, number of media and so on

    @property
    def owner(self) -> str:
        """Return whose files and cached results the request may use: the name of its API key, empty without keys."""
        return self.key.name

    def note_memo(self, uses: Iterable[str | None]) -> None:
        """Take in whether the media of several inputs were remembered."""
        known = {use for use in uses if use is not None}
        self.memo = None if not known else known.pop() if len(known) == 1 else "partial"

    def elapsed_s(self) -> float:
        """Return the seconds since the request's first byte."""
        return time.perf_counter() - self.started_s


def trace_of(request: Request) -> RequestTrace:
    """Return the trace that the middleware opened."""
    trace: RequestTrace = request.scope["state"]["trace"]
    return trace
