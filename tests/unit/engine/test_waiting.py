from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.backends.native.waiting import AGING_S, MIN_PREFILL_TOKENS, ROW_BLOCK, STRETCH, PrefillPacer, WaitingQueue


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


def settle(pacer: PrefillPacer, *, step_s: float, token_s: float, num_steps: int = 60) -> int:
    """Run steps beside four replies that take as long as given, and return the budget that comes of it."""
    pacer.observe(4, 0, step_s)
    for _ in range(num_steps):
        tokens = pacer.budget(4)
        pacer.observe(4, tokens, step_s + tokens * token_s)
    return pacer.budget(4)


def test_prompt_tokens_beside_running_replies_stretch_a_step_no_further_than_agreed() -> None:
    pacer = PrefillPacer(256)
    assert pacer.budget(0) == 256
    tokens = settle(pacer, step_s=0.020, token_s=0.0003)
    assert STRETCH * 0.020 - ROW_BLOCK * 0.0003 < 0.020 + tokens * 0.0003 <= STRETCH * 0.020
    least = settle(pacer, step_s=0.020, token_s=10.0)
    assert MIN_PREFILL_TOKENS <= least < MIN_PREFILL_TOKENS + ROW_BLOCK, "a prompt always moves on"
    assert settle(pacer, step_s=0.020, token_s=0.0003) == tokens, "and fast again later"


@pytest.mark.parametrize("num_replies", [1, 4, 9, 15, 16, 31])
def test_a_step_with_prompt_tokens_has_a_number_of_rows_that_has_been_seen_before(num_replies: int) -> None:
    pacer = PrefillPacer(256)
    pacer.observe(num_replies, 0, 0.020)
    for seconds in (0.021, 0.050, 0.030, 0.200):
        tokens = pacer.budget(num_replies)
        assert tokens >= MIN_PREFILL_TOKENS
        assert (num_replies + tokens) % ROW_BLOCK == 0
        pacer.observe(num_replies, tokens, seconds)


@pytest.mark.parametrize(
    ("unread", "is_let_in"),
    [([12] * 2, True), ([32] * 9, True), ([12], False), ([33] * 3, False), ([128] * 4, True), ([129] * 4, False)],
)
def test_short_prompts_are_let_in_at_once_when_they_are_half_as_many_as_the_replies(
    unread: list[int], is_let_in: bool
) -> None:
    pacer = PrefillPacer(256)
    pacer.observe(4, 0, 0.020)
    assert (pacer.budget(4, unread) == 256) is is_let_in
    assert pacer.budget(4, [200, *unread]) < 256, "not beside a long one"


@pytest.mark.parametrize(("num_unread", "is_let_in"), [(8, True), (7, False)])
def test_a_burst_is_let_in_at_once_when_it_is_a_quarter_as_many_as_the_replies(
    num_unread: int, is_let_in: bool
) -> None:
    pacer = PrefillPacer(256)
    pacer.observe(32, 0, 0.020)
    assert (pacer.budget(32, [43] * num_unread) == 256) is is_let_in


@pytest.mark.parametrize(("num_replies", "expected_s"), [(4, 0.007), (8, 0.012)])
def test_many_replies_wait_longer_for_a_part_of_a_prompt(num_replies: int, expected_s: float) -> None:
    pacer = PrefillPacer(256)
    pacer.observe(num_replies, 0, 0.020)
    assert pacer.wait_s(num_replies) == pytest.approx(expected_s)


def test_a_prompt_waits_one_step_where_the_time_without_it_is_unknown() -> None:
    pacer = PrefillPacer(256)
    pacer.observe(1, 0, 0.010)
    assert pacer.budget(1) > 0
    assert pacer.budget(9) == 0
    pacer.observe(9, 0, 0.020)
    assert pacer.budget(10) > 0


def test_the_bound_on_prompt_tokens_holds_for_a_fast_machine_too() -> None:
    pacer = PrefillPacer(16)
    for _ in range(5):
        pacer.observe(1, 0, 1.0)
        pacer.observe(1, 16, 1.001)
    assert pacer.budget(1) == 15, "one whole block with the reply"
