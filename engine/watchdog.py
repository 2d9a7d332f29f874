"""Whether the step loop still moves."""

from __future__ import annotations

from collections.abc import Callable

from core.types import BackendStats


class Watchdog:
    """Tell whether a loop that has work still makes steps; `clock` returns seconds."""

    def __init__(self, stall_after_s: float, clock: Callable[[], float]) -> None:
        self._stall_after_s = stall_after_s
        self._clock = clock
        self._num_steps = -1
        self._moved_s = clock()
        self.stalled_s = 0.0

    def observe(self, stats: BackendStats) -> bool:
        """Return False once the same step count has been seen, with work at hand, for `stall_after_s`."""
        idle = stats.slots_in_use == 0 and stats.queue_length == 0
        if idle or stats.num_steps != self._num_steps:
            self._num_steps, self._moved_s = stats.num_steps, self._clock()
        self.stalled_s = self._clock() - self._moved_s
        return self.stalled_s < self._stall_after_s
