"""Threads that call at the same time share one piece of work."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.combining import Combined


class Doubler:
    """Doubles numbers; the first call waits until `others` more callers stand in line."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.calls.append([*rows])
        self.began.set()
        assert self.may_go_on.wait(10)
        if 13 in rows:
            raise ValueError("thirteen")
        return [2 * row for row in rows]


class TellingLock:
    """A lock that tells how often it was let go, here: how many callers have entered the line."""

    def __init__(self) -> None:
        self._lock, self.let_go = threading.Lock(), threading.Semaphore(0)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self.let_go.release()


def tell(combined: Combined[int, int], monkeypatch: pytest.MonkeyPatch) -> TellingLock:
    lock = TellingLock()
    monkeypatch.setattr(combined, "_queue", lock)
    return lock


def wait_for(lock: TellingLock, times: int) -> None:
    for _ in range(times):
        assert lock.let_go.acquire(timeout=10)


def test_rows_that_come_while_it_works_share_the_next_call_and_each_gets_its_own_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doubler = Doubler()
    combined = Combined(doubler)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(combined, 1)
        assert doubler.began.wait(10)
        line = tell(combined, monkeypatch)
        others = [pool.submit(combined, row) for row in (2, 3, 4)]
        wait_for(line, 3)
        doubler.may_go_on.set()
        assert [first.result(10), *(other.result(10) for other in others)] == [2, 4, 6, 8]
    assert [sorted(rows) for rows in doubler.calls] == [[1], [2, 3, 4]]


def test_an_error_reaches_all_who_shared_the_call_and_nobody_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    doubler = Doubler()
    combined = Combined(doubler)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(combined, 1)
        assert doubler.began.wait(10)
        line = tell(combined, monkeypatch)
        others = [pool.submit(combined, row) for row in (13, 5)]
        wait_for(line, 2)
        doubler.may_go_on.set()
        assert first.result(10) == 2
        for other in others:
            with pytest.raises(ValueError, match="thirteen"):
                other.result(10)
    assert combined(6) == 12
