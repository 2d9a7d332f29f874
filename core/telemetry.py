"""Log events with fields, never sentences or payloads; milliseconds per stage; measurements for metrics and traces."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
    """Collect the milliseconds of each named stage of one request; `clock` returns seconds.

    `started_ns` is when each began first, since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.milliseconds: dict[str, float] = {}
        self.started_ns: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to `name`, also when it raises."""
        started = self._clock()
        self.started_ns.setdefault(name, time.time_ns())
        try:
            yield
        finally:
            elapsed_ms = (self._clock() - started) * 1000
            self.milliseconds[name] = round(self.milliseconds.get(name, 0.0) + elapsed_ms, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One thing that was measured: the seconds of a stage (`is_duration`), or an amount such as bytes.

    `started_ns` is since 1970.
    """

    name: str
    value: float
    labels: Mapping[str, str]
    started_ns: int
    is_duration: bool = False


class Measurements:
    """Carry measurements from the layers that make them to quick listeners, called in any thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Measurement], None]] = []

    def listen(self, listener: Callable[[Measurement], None]) -> None:
        self._listeners.append(listener)

    @contextmanager
    def timed(self, name: str, **labels: str) -> Iterator[None]:
        """Tell the seconds spent inside the block, also when it raises."""
        started_ns, started_s = time.time_ns(), time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started_s
            self._tell(Measurement(name=name, value=seconds, labels=labels, started_ns=started_ns, is_duration=True))

    def count(self, name: str, amount: float, **labels: str) -> None:
        """Tell an amount."""
        self._tell(Measurement(name=name, value=amount, labels=labels, started_ns=time.time_ns()))

    def _tell(self, measurement: Measurement) -> None:
        for listener in self._listeners:
            listener(measurement)
