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
