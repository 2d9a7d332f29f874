"""Who goes first on a processor that the decoder and the encoders would each fill alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 1.0  # steps wait no longer at a stretch, nor for a medium that takes longer
EARNED = 0.5  # seconds of waiting that each second of decoding allows again


class MediaFirst:
    """Let steps of the decoder wait for a moment while new media are read and encoded.

    Replies that start together share every step from then on, and a step of many rows costs little more than one of
    few; and two teams of threads on the same cores wait for each other's stragglers at every product. So a burst of
    pictures is answered sooner as a whole when they are encoded first. Where media never cease, steps wait for a third
    of the time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._began_s: dict[object, float] = {}
        self._left_s, self._went_on_s = PATIENCE_S, time.monotonic()

    @contextmanager
    def medium(self) -> Iterator[None]:
        """Hold steps back inside the block; it may be entered from any thread."""
        ticket = object()
        with self._changed:
            self._began_s[ticket] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._began_s[ticket]
                self._changed.notify_all()

    def wait(self) -> None:
        """Return when no medium is new, or when steps have waited enough."""
        began_s = time.monotonic()
        left_s = min(self._left_s + EARNED * (began_s - self._went_on_s), PATIENCE_S)
        with self._changed:
            while (until_s := min(began_s + left_s, self._new_until_s())) > time.monotonic():
                self._changed.wait(until_s - time.monotonic())
        self._went_on_s = time.monotonic()
        self._left_s = max(0.0, left_s - (self._went_on_s - began_s))

    def _new_until_s(self) -> float:
        return max(self._began_s.values(), default=-PATIENCE_S) + PATIENCE_S
