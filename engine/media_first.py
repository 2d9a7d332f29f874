"""Who goes first on a processor that the decoder and the encoders would each fill alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.5  # a step waits no longer, nor for a medium that takes longer


class MediaFirst:
    """Let steps of the decoder wait for a moment while new media are read and encoded.

    Replies that start together share every step from then on, and a step of many rows costs little more than one of
    few; and two teams of threads on the same cores wait for each other's stragglers at every product. So a burst of
    pictures is answered sooner as a whole when they are encoded first.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._began_s: dict[object, float] = {}

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
        """Return when no medium is fresh, and after `PATIENCE_S` in any case."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self._changed:
            while (left_s := min(deadline_s, self._fresh_until_s()) - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def _fresh_until_s(self) -> float:
        return max(self._began_s.values(), default=-PATIENCE_S) + PATIENCE_S
