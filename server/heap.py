"""How the C library shares memory out among the threads of a process."""

from __future__ import annotations

import ctypes
import os

M_ARENA_MAX = -8  # its number in glibc's malloc.h


def share_one_heap() -> None:
    """Let every thread allocate from one heap, unless MALLOC_ARENA_MAX says how many there may be.

    glibc gives threads heaps of their own, up to eight per processor, and keeps in each the most that its thread ever
    held: memory that others cannot use, and that grows for as long as a thread may still meet a larger request. Heaps
    that exist already stay, so call it before threads are started. Other C libraries have one heap anyway.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
