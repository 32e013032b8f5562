"""Time that stands still while nothing runs, and the pulse of an event loop."""

import asyncio
import threading

from touchstream.streams.running_time import LONGEST_TICK_SECONDS, Pulse, RunningTime


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_goes_on_while_it_is_ticked() -> None:
    hand = Hand()
    running = RunningTime(hand)
    for _ in range(60):
        hand.now += 0.5
        running.tick()
    assert running() == 30.0


def test_time_goes_on_between_two_ticks() -> None:
    hand = Hand()
    running = RunningTime(hand)
    hand.now += 0.75
    assert running() == 0.75


def test_an_hour_without_a_tick_counts_as_one_tick() -> None:
    """A process that was frozen for an hour has not been idle for an hour."""
    hand = Hand()
    running = RunningTime(hand)
    hand.now += 3600
    assert running() == LONGEST_TICK_SECONDS
    running.tick()
    hand.now += 1
    assert running() == LONGEST_TICK_SECONDS + 1


def test_reading_the_time_does_not_tick() -> None:
    hand = Hand()
    running = RunningTime(hand)
    for _ in range(100):
        hand.now += 1
        running()
    assert running() == LONGEST_TICK_SECONDS


def test_a_loop_that_runs_answers() -> None:
    async def main() -> tuple[float, float]:
        hand, beats = Hand(), [0]
        pulse = Pulse(asyncio.get_running_loop(), hand, lambda: beats.append(1))
        hand.now += 10
        before = pulse.silent_seconds
        await asyncio.to_thread(pulse.ask)
        assert beats == [0, 1]
        return before, pulse.silent_seconds

    assert asyncio.run(main()) == (10, 0)


def test_a_blocked_loop_is_silent_and_is_asked_once() -> None:
    answers: list[int] = []

    async def main() -> float:
        hand = Hand()
        pulse = Pulse(asyncio.get_running_loop(), hand, lambda: answers.append(1))
        for _ in range(5):
            asker = threading.Thread(target=pulse.ask)
            asker.start()
            asker.join()  # blocks the loop
        hand.now += 40
        silent = pulse.silent_seconds
        await asyncio.sleep(0)
        return silent

    assert asyncio.run(main()) == 40
    assert answers == [1]


def test_a_loop_that_was_closed_is_silent() -> None:
    hand = Hand()
    loop = asyncio.new_event_loop()
    pulse = Pulse(loop, hand)
    loop.close()
    hand.now += 5
    pulse.ask()
    assert pulse.silent_seconds == 5
