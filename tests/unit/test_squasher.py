"""The squash as a duty of one worker: its pace, failures and stopping."""

import asyncio
import logging

import pytest

from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.settings import Settings
from touchstream.streams.squash import Squash, Squashed, Squasher

NOTHING = Squashed(0, 0, 0)
FULL = Squashed(10, 10, 0, is_full=True)


class Engine(Squash):
    """Instead of ClickHouse: each batch takes the next time and ends as told."""

    def __init__(self, *outcomes: tuple[float, Squashed | Exception]) -> None:
        super().__init__(Settings())
        self.outcomes = list(outcomes)
        self.now = 0.0
        self.begun: list[float] = []
        self.closed = False
        self.done = asyncio.Event()

    def batch(self) -> Squashed:
        self.begun.append(self.now)
        seconds, outcome = self.outcomes.pop(0)
        self.now += seconds
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self.closed = True

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self.outcomes:
            self.done.set()
            await asyncio.Event().wait()


def run(engine: Engine, seconds: float = 600.0) -> None:
    """Squash until the outcomes are used up, then stop."""

    async def turn() -> None:
        settings = Settings(squash_seconds=seconds)
        squasher = Squasher(settings, squash=engine, sleep=engine.sleep, clock=lambda: engine.now)
        task = asyncio.create_task(squasher.run())
        done = asyncio.create_task(engine.done.wait())
        await asyncio.wait([task, done], return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await squasher.close()

    asyncio.run(turn())
    assert engine.closed


def test_a_squash_comes_at_a_slow_pace() -> None:
    engine = Engine((1, NOTHING), (1, NOTHING), (1, NOTHING))
    run(engine)
    assert engine.begun == [0, 601, 1202]


def test_after_a_full_batch_the_next_comes_sooner_and_takes_a_tenth_of_the_time() -> None:
    engine = Engine((2, FULL), (3, FULL), (1, NOTHING), (1, NOTHING))
    run(engine)
    assert engine.begun == [0, 20, 50, 651]


def test_a_slow_batch_takes_a_tenth_of_the_time_too() -> None:
    engine = Engine((100, NOTHING), (1, NOTHING))
    run(engine)
    assert engine.begun == [0, 1000]


def test_a_full_batch_that_could_settle_nothing_is_not_tried_again_at_once() -> None:
    engine = Engine((1, Squashed(10, 0, 0, is_full=True)), (1, NOTHING))
    run(engine)
    assert engine.begun == [0, 601]


def test_zero_seconds_is_never() -> None:
    engine = Engine()
    run(engine, seconds=0)
    assert engine.begun == []


def test_failures_are_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    away, wrong = TransientError("away"), ConfigurationError("no such table")
    engine = Engine((1, away), (1, wrong), (1, NOTHING))
    run(engine)
    assert engine.begun == [0, 601, 1202]
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
