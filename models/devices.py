"""Where a decoder runs, and on how many of the processor's threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch

from core.errors import ConfigError

Row = TypeVar("Row")
Result = TypeVar("Result")


def decoder_device(wanted: str) -> str:
    """Return the device that `wanted` means, `auto` being a GPU if there is one. Raises `ConfigError` without one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda needs a GPU and a CUDA build of torch; use auto or cpu", param="device")
    return wanted


@dataclass(frozen=True, slots=True)
class ThreadShares:
    """Processor threads of the decoder's step loop and of the encoders."""

    decoder: int
    encoders: int


def share_threads(wanted: int | None) -> ThreadShares:
    """Divide the processor, `wanted` threads being the decoder's, and leave the calling thread, which loads, with one.

    Every thread that multiplies keeps a team of OpenMP threads for good. When all teams together have more members
    than there are processors they sleep after every product instead of spinning for a moment, which costs a third of
    the decoder's speed on two cores; hence small teams everywhere else.
    """
    use_threads(1)
    available = _default_threads()
    encoders = max(1, available // 4)
    return ThreadShares(decoder=wanted or max(1, available - (encoders - 1)), encoders=encoders)


def worker_threads() -> ThreadPoolExecutor:
    """Return threads for work off an event loop, in each of which torch multiplies on that thread alone.

    Left to themselves they take the decoder's number, and every one of them a team.
    """
    return ThreadPoolExecutor(_default_threads() + 4, "worker", use_threads, (1,))


def use_threads(count: int) -> None:
    """Let torch multiply on so many threads when the calling thread asks it to.

    A thread's first product takes over what any thread chose last, so that must be over before its own choice.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


def map_rows(function: Callable[[Row], Result], rows: Sequence[Row]) -> list[Result]:
    """Return what a function makes of each row, on as many threads as there are processors, each row on one of them.

    A single row keeps the caller's threads.
    """
    return [*map(function, rows)] if len(rows) == 1 else [*_row_threads().map(function, rows)]


@cache
def _row_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_default_threads(), "rows", use_threads, (1,))


def _default_threads() -> int:
    """Return `OMP_NUM_THREADS`, or how many processors this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
