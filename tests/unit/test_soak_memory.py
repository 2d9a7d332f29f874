"""How the soak tells memory that grows from memory that only goes up and down."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from benchmarks.soak_memory import MIB, growth, usage_of

MINUTES = [i / 30 for i in range(150)]  # a sample every two seconds, five minutes


def with_requests(held: float, sample: int) -> float:
    """Return what is held, and what the requests of the moment take beside it."""
    return held + 20 * abs(math.sin(sample * 1.7)) + (90 if sample % 37 == 0 else 0)


def test_memory_that_requests_take_and_give_back_is_flat() -> None:
    grown = growth(MINUTES, [with_requests(1500, i) for i in range(150)])
    assert grown.is_flat or abs(grown.slope) < 1


@pytest.mark.parametrize("leak", [2.0, 10.0])
def test_a_leak_shows_below_what_requests_take(leak: float) -> None:
    grown = growth(MINUTES, [with_requests(1500 + leak * minute, i) for i, minute in enumerate(MINUTES)])
    assert not grown.is_flat
    assert grown.slope == pytest.approx(leak, rel=0.4)


def test_a_process_and_its_children_are_measured_by_name() -> None:
    waiting = [sys.executable, "-m", "timeit", "-s", "import sys; print('up', flush=True)", "sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # its command line can be read only once it runs
        usage = usage_of(os.getpid(), 0.0)
        child.communicate()
    own, *children = usage.processes
    assert (own.name, own.pid) == ("server", os.getpid())
    assert own.resident_bytes > own.anonymous_bytes > 10 * MIB
    assert (child.pid, "timeit") in {(process.pid, process.name) for process in children}
