"""The worker process: how it stops, and what it leaves when something does not close."""

import asyncio
import logging

import faust
import pytest

from touchstream.streams import worker
from touchstream.streams.errors import EXIT_SOFTWARE
from touchstream.streams.settings import Settings


class Told:
    """A watchdog that remembers what it was told."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def stopping(self, exit_code: int) -> None:
        self.codes.append(exit_code)


@pytest.mark.parametrize(("crashed", "code"), [(False, 0), (True, EXIT_SOFTWARE)])
def test_the_watchdog_hears_of_the_stop_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, crashed: bool, code: int
) -> None:
    seen: list[list[int]] = []
    told = Told()

    async def stop(self: object) -> None:
        seen.append([*told.codes])

    monkeypatch.setattr(faust.Worker, "stop", stop)
    monkeypatch.setattr(worker.Worker, "crashed", crashed)
    stopping = object.__new__(worker.Worker)
    stopping._watchdog = told  # type: ignore[assignment]  # a fake
    asyncio.run(stopping.stop())
    assert seen == [[code]]


def test_what_does_not_close_in_time_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "CLOSE_SECONDS", 0.01)

    async def never() -> None:
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        asyncio.run(worker.in_time("Kafka", never()))
    assert "not closed in time: Kafka" in caplog.text


def test_limits_are_those_of_the_settings() -> None:
    loop = asyncio.new_event_loop()
    settings = Settings(ready_seconds=7, stuck_seconds=70)
    health, watchdog = worker.watched(settings, loop)
    loop.close()
    assert (health.limits.ready_seconds, health.limits.stuck_seconds) == (7, 70)
    assert (list(health.pulses), watchdog.stuck) == (["the worker"], [])
