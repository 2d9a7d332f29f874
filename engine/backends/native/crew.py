"""How several threads work through the stages of a step: whoever is free takes the next piece.

Every stage has two counters: how many of its pieces are taken, and how many are finished. A thread goes on to the next
stage when all are finished. One that the system has put to sleep between two pieces, or not yet woken, delays nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import types

from core.types import AnyArray
from engine.backends.native import machine_code as code
from engine.backends.native.cpu_kernels import helper
from engine.backends.native.machine_code import emitted

_LINE = 8  # numbers in a cache line; two threads that write to one would wait for each other
_TAKEN, _FINISHED = 0, _LINE
SECONDS_A_THREAD = 250e-6  # starting a helper takes a fifth of that, one after the other
_TURNS = 1024  # of a waiting loop before the system may run somebody else


def new_counters(num_stages: int) -> AnyArray:
    """Return the counters of a step, all zero."""
    return np.zeros((num_stages, 2 * _LINE), dtype=np.int64)


@emitted
def _count(typing_context: Any, address: Any) -> Any:
    """Add one to the number at an address and return what it was; no other thread comes between."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        pointer = builder.inttoptr(arguments[0], code.long.as_pointer())
        return builder.atomic_rmw("add", pointer, code.number(1), "seq_cst")

    return types.int64(address), generate


@emitted
def _current(typing_context: Any, address: Any) -> Any:
    """Return the number at an address as other threads have left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        pointer = builder.inttoptr(arguments[0], code.long.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(address), generate


@emitted
def _let_others_run(typing_context: Any) -> Any:
    """Offer the processor to whoever waits for one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        code.instruction(builder, "sched_yield", code.word, [])
        return context.get_dummy_value()

    return types.void(), generate


@helper
def take(counters: Any, stage: Any) -> Any:
    """Return the number of the next piece of a stage, which is this thread's; past the last one there is none."""
    return _count(np.intp(counters.ctypes.data) + 8 * (2 * _LINE * stage + _TAKEN))


@helper
def finish(counters: Any, stage: Any) -> None:
    """Say that a piece taken is finished."""
    _count(np.intp(counters.ctypes.data) + 8 * (2 * _LINE * stage + _FINISHED))


@helper
def wait(counters: Any, stage: Any, num_pieces: Any) -> None:
    """Return when all pieces of a stage are finished."""
    turns = 0
    while _current(np.intp(counters.ctypes.data) + 8 * (2 * _LINE * stage + _FINISHED)) < num_pieces:
        turns += 1
        if turns % _TURNS == 0:
            _let_others_run()


class Crew:
    """The threads of one engine: whoever calls, and helpers, one more for every `seconds_a_thread` of work."""

    def __init__(self, num_threads: int, *, seconds_a_thread: float = SECONDS_A_THREAD) -> None:
        self.num_threads = num_threads
        self._seconds_a_thread = seconds_a_thread
        self._helpers = ThreadPoolExecutor(max(1, num_threads - 1), thread_name_prefix="decode")

    def submit(self, work: Callable[..., None], *arguments: object) -> Future[None]:
        """Give a helper something of its own to do."""
        return self._helpers.submit(work, *arguments)

    def work(self, seconds: float, stages: Callable[..., None], *arguments: object) -> None:
        """Run compiled stages that would take one thread about so long; returns when all pieces are finished.

        A helper that comes late finds nothing to take and touches nothing, so it is not waited for.
        """
        for _ in range(min(self.num_threads, math.ceil(seconds / self._seconds_a_thread)) - 1):
            self.submit(stages, *arguments)
        stages(*arguments)
