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


def wait_for_line(combined: Combined[int, int], length: int) -> None:
    while len(combined._waiting) < length:
        threading.Event().wait(0.001)


def test_rows_that_come_while_it_works_share_the_next_call_and_each_gets_its_own_result() -> None:
    doubler = Doubler()
    combined = Combined(doubler)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(combined, 1)
        assert doubler.began.wait(10)
        others = [pool.submit(combined, row) for row in (2, 3, 4)]
        wait_for_line(combined, 3)
        doubler.may_go_on.set()
        assert [first.result(10), *(other.result(10) for other in others)] == [2, 4, 6, 8]
    assert [sorted(rows) for rows in doubler.calls] == [[1], [2, 3, 4]]


def test_an_error_reaches_all_who_shared_the_call_and_nobody_after_them() -> None:
    doubler = Doubler()
    combined = Combined(doubler)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(combined, 1)
        assert doubler.began.wait(10)
        others = [pool.submit(combined, row) for row in (13, 5)]
        wait_for_line(combined, 2)
        doubler.may_go_on.set()
        assert first.result(10) == 2
        for other in others:
            with pytest.raises(ValueError, match="thirteen"):
                other.result(10)
    assert combined(6) == 12
