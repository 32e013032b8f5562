"""Waiting for workers: asked at least once, not longer than said."""

import pytest

from touchstream.streams.cli.waiting import INTERVAL_SECONDS, Deadline


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def deadline(clock: Clock, seconds: float) -> Deadline:
    return Deadline(seconds, clock=clock.time, sleep=clock.sleep)


def test_what_is_true_already_is_not_waited_for() -> None:
    clock = Clock()
    assert deadline(clock, 0).reached(lambda: True)
    assert clock.slept == []


def test_waiting_ends_when_it_comes_true() -> None:
    clock = Clock()
    assert deadline(clock, 5).reached(lambda: clock.now >= 100.25)
    assert clock.slept == [INTERVAL_SECONDS] * 3


def test_waiting_ends_with_the_time_and_two_conditions_share_it() -> None:
    clock = Clock()
    both = deadline(clock, 0.25)
    assert not both.reached(lambda: False)
    assert sum(clock.slept) == pytest.approx(0.25)
    assert not both.reached(lambda: False)
    assert sum(clock.slept) == pytest.approx(0.25)
