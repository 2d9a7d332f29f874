"""Log events with fields, never sentences or payloads; milliseconds per stage."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class EventLog:
    """Write one JSON object per event to a standard logger, with bound fields such as the request id."""

    def __init__(self, name: str, **bound: Any) -> None:
        self._logger = logging.getLogger(name)
        self._bound = bound

    def bind(self, **fields: Any) -> EventLog:
        """Return a log whose every event also carries `fields`."""
        return EventLog(self._logger.name, **{**self._bound, **fields})

    def event(self, event_name: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Record one event; the name comes first, then bound and own fields."""
        if self._logger.isEnabledFor(level):
            self._logger.log(level, json.dumps({"event": event_name, **self._bound, **fields}, default=str))

    def fault(self, event_name: str, error: BaseException, **fields: Any) -> None:
        """Record an unexpected error with its traceback."""
        record = json.dumps({"event": event_name, **self._bound, **fields, "error": repr(error)}, default=str)
        self._logger.error(record, exc_info=error)


class StageTimer:
    """Collect the milliseconds of each named stage of one request; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to `name`, also when it raises."""
        started = self._clock()
        try:
            yield
        finally:
            elapsed_ms = (self._clock() - started) * 1000
            self.milliseconds[name] = round(self.milliseconds.get(name, 0.0) + elapsed_ms, 3)
