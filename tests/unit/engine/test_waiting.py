from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.backends.native.waiting import AGING_S, MIN_PREFILL_TOKENS, PrefillPacer, WaitingQueue


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def sequence(name: str, priority: int) -> Any:
    return SimpleNamespace(name=name, request=SimpleNamespace(priority=priority), arrived_s=0.0)


def test_waiting_makes_up_for_priority_so_nothing_starves() -> None:
    clock = Clock()
    queue = WaitingQueue(clock)
    queue.add(sequence("patient", 2))
    clock.now_s = 1.9 * AGING_S
    queue.add(sequence("urgent", 0))
    assert queue.first().name == "urgent"  # type: ignore[union-attr]
    clock.now_s = 2.5 * AGING_S
    assert queue.first().name == "patient"  # type: ignore[union-attr]


def test_an_empty_queue_has_no_first_sequence() -> None:
    assert WaitingQueue(Clock()).first() is None


def test_prompt_tokens_beside_running_replies_stretch_a_step_no_further_than_agreed() -> None:
    pacer = PrefillPacer(256)
    assert pacer.budget(0) == 256
    for _ in range(20):
        pacer.observe(4, 0, 0.010)
        pacer.observe(4, 32, 0.010 + 32 * 0.0005)
    assert pacer.budget(4) == 20, "10 ms of prompt at 0.5 ms a token beside a step of 10 ms"
    for _ in range(60):
        pacer.observe(4, 20, 10.0)
    assert pacer.budget(4) == MIN_PREFILL_TOKENS, "a prompt always moves on"


def test_the_bound_on_prompt_tokens_holds_for_a_fast_machine_too() -> None:
    pacer = PrefillPacer(16)
    for _ in range(5):
        pacer.observe(1, 0, 1.0)
        pacer.observe(1, 16, 1.001)
    assert pacer.budget(1) == 16
