"""How the C library shares memory out among the threads of a process, and gives back to the system what is free."""

from __future__ import annotations

import asyncio
import ctypes
import os

M_ARENA_MAX = -8  # its number in glibc's malloc.h
TRIM_EVERY_S = 60.0


def share_one_heap() -> None:
    """Let every thread allocate from one heap, unless MALLOC_ARENA_MAX says how many there may be.

    glibc gives threads heaps of their own, up to eight per processor, and keeps in each the most that its thread ever
    held: memory that others cannot use, and that grows for as long as a thread may still meet a larger request. Heaps
    that exist already stay, so call it before threads are started. Other C libraries have one heap anyway.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(M_ARENA_MAX, 1)


async def keep_trimming(every_s: float = TRIM_EVERY_S) -> None:
    """Trim the heap now and then until cancelled.

    Free pages between two that are in use stay resident otherwise, and what differs from request to request, such as
    the size of a picture, leaves ever more of them.
    """
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(trim_heap)


def trim_heap() -> None:
    """Give the free pages of the heap back to the system; they are zeros when they are next used. Glibc only."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)  # keeps nothing at the end of the heap; meanwhile the interpreter is free for other threads
