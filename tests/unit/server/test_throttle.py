"""Limits per key, with a clock in the test's hand."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from core.errors import RateLimited
from server.api_keys import ApiKey
from server.throttle import KeyThrottle


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


ANN, BOB = ApiKey(name="ann"), ApiKey(name="bob", requests_per_minute=1, max_concurrent=1)


def test_a_minutes_worth_may_come_at_once_and_then_refills_evenly() -> None:
    clock = Clock()
    throttle = KeyThrottle(requests_per_minute=6, max_concurrent=None, clock=clock)
    for _ in range(6):
        with throttle.admitted(ANN):
            continue
    with pytest.raises(RateLimited, match="6 requests a minute") as refused, throttle.admitted(ANN):
        raise AssertionError("the seventh was admitted")
    assert refused.value.retry_after_s == 10
    clock.now_s = 9.9
    with pytest.raises(RateLimited) as refused, throttle.admitted(ANN):
        raise AssertionError("a tenth of a second early")
    assert refused.value.retry_after_s == 1
    clock.now_s = 10.1
    with throttle.admitted(ANN):
        assert throttle is not None


def test_a_request_counts_against_the_concurrent_ones_until_it_ends() -> None:
    throttle = KeyThrottle(requests_per_minute=None, max_concurrent=2, clock=Clock())
    with ExitStack() as running:
        running.enter_context(throttle.admitted(ANN))
        running.enter_context(throttle.admitted(ANN))
        with pytest.raises(RateLimited, match="2 requests of this key"), throttle.admitted(ANN):
            raise AssertionError("the third was admitted")
    with throttle.admitted(ANN):
        assert throttle is not None


def test_a_key_has_its_own_limits_and_never_another_keys() -> None:
    throttle = KeyThrottle(requests_per_minute=None, max_concurrent=None, clock=Clock())
    with throttle.admitted(BOB):
        with pytest.raises(RateLimited, match="max_concurrent"), throttle.admitted(BOB):
            raise AssertionError("two at a time")
        with throttle.admitted(ANN), throttle.admitted(ANN):
            assert throttle is not None
    with pytest.raises(RateLimited, match="1 requests a minute"), throttle.admitted(BOB):
        raise AssertionError("two a minute")


def test_a_refusal_for_too_many_at_a_time_costs_nothing_of_the_minute() -> None:
    throttle = KeyThrottle(requests_per_minute=2, max_concurrent=1, clock=Clock())
    with throttle.admitted(ANN):
        for _ in range(5):
            with pytest.raises(RateLimited, match="max_concurrent"), throttle.admitted(ANN):
                raise AssertionError("two at a time")
    with throttle.admitted(ANN):
        assert throttle is not None


def test_a_batch_leaves_room_for_its_own_client_where_there_is_any() -> None:
    throttle = KeyThrottle(requests_per_minute=3, max_concurrent=2, clock=Clock())
    with throttle.admitted(ANN, leaving=1):
        with pytest.raises(RateLimited, match="max_concurrent"), throttle.admitted(ANN, leaving=1):
            pass
        with throttle.admitted(ANN):
            pass
    with pytest.raises(RateLimited, match="a minute"), throttle.admitted(ANN, leaving=1):
        pass  # one token is left, and it is not for batches
    with throttle.admitted(ANN):
        pass
    with throttle.admitted(BOB, leaving=1):  # a share of one is not divided
        pass
