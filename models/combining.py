"""Calls of many threads made in one: a network of few rows costs the reading of its weights, however few they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")


class Combined(Generic[Row, Result]):
    """Work on rows, called with one row by each of several threads; rows that come while it is busy share a call.

    Nobody waits for company: the first caller works on its own row at once. An error of the work reaches every caller
    that shared it.
    """

    def __init__(self, work: Callable[[Sequence[Row]], Sequence[Result]]) -> None:
        self._work = work
        self._busy = threading.Lock()
        self._queue = threading.Lock()
        self._waiting: list[tuple[Row, Future[Result]]] = []

    def __call__(self, row: Row) -> Result:
        mine: Future[Result] = Future()
        with self._queue:
            self._waiting.append((row, mine))
        with self._busy:
            if not mine.done():
                self._serve()
        return mine.result()

    def _serve(self) -> None:
        with self._queue:
            calls, self._waiting = self._waiting, []
        try:
            results = self._work([row for row, _ in calls])
            for (_, future), result in zip(calls, results, strict=True):
                future.set_result(result)
        except BaseException as error:
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)
