"""Steps of the decoder wait for new media, and for nothing else."""

from __future__ import annotations

import threading
import time

import pytest

from engine import media_first
from engine.media_first import MediaFirst


def waiting(first: MediaFirst) -> threading.Thread:
    thread = threading.Thread(target=first.wait)
    thread.start()
    return thread


def test_a_step_goes_on_when_the_last_new_medium_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_first, "PATIENCE_S", 60.0)
    first = MediaFirst()
    first.wait()
    with first.medium():
        with first.medium():
            step = waiting(first)
        assert step.is_alive()
    step.join(10)
    assert not step.is_alive()


def test_no_step_waits_for_a_medium_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    first = MediaFirst()
    with first.medium():
        now_s = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now_s + 2 * media_first.PATIENCE_S)
        step = waiting(first)
        step.join(10)
        assert not step.is_alive()


def test_where_media_never_cease_steps_wait_for_a_third_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(media_first, "time", clock)
    first = MediaFirst()
    monkeypatch.setattr(first, "_changed", clock)
    for step in range(200):
        with first.medium():
            clock.now_s += 0.01  # of decoding
            first.wait()
        if step == 99:  # the patience of the beginning is used up
            began_s = clock.now_s
    assert 100 * 0.01 / (clock.now_s - began_s) == pytest.approx(2 / 3, abs=0.01)


class Clock:
    """A clock, and a condition on which waiting takes the time that it may take at most."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, timeout_s: float) -> None:
        self.now_s += timeout_s

    def notify_all(self) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
