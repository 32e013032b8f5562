"""Pushing rolling values on time, showing them, and stopping; duties of one worker."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from touchstream.streams.duties import PLACE, Duties
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.metric_push import MetricPush, MetricPusher, Pushed, PushedGauges
from touchstream.streams.settings import Settings

AS_OF = datetime(2026, 1, 1, 12, tzinfo=UTC)
NPS = Pushed("nps", "24h", "all", "", 12, 25.0)
NOTHING = Pushed("csat", "24h", "channel", "web", 0, None)


class Engine(MetricPush):
    """Instead of ClickHouse: each push takes the next time, or fails."""

    def __init__(self, *outcomes: float | Exception) -> None:
        super().__init__(Settings())
        self.outcomes = list(outcomes)
        self.now = 0.0
        self.begun: list[float] = []
        self.closed = False
        self.done = asyncio.Event()

    def push(self, as_of: datetime) -> list[Pushed]:
        self.begun.append(self.now)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        self.now += outcome
        return [NPS, NOTHING]

    def close(self) -> None:
        self.closed = True

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self.outcomes:
            self.done.set()
            await asyncio.Event().wait()


def run(
    engine: Engine, seconds: float = 5.0, look: Callable[[CollectorRegistry], object] = id
) -> None:
    """Push until the outcomes are used up, look, then stop."""
    registry = CollectorRegistry()

    async def turn() -> None:
        settings = Settings(push_seconds=seconds)
        gauges = PushedGauges(registry)
        pusher = MetricPusher(
            settings, gauges, push=engine, sleep=engine.sleep, clock=lambda: engine.now
        )
        task = asyncio.create_task(pusher.run())
        done = asyncio.create_task(engine.done.wait())
        await asyncio.wait([task, done], return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        look(registry)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pusher.close()

    asyncio.run(turn())
    assert value(registry, "metric_push_seconds") is None
    assert engine.closed


def value(registry: CollectorRegistry, name: str, *labels: str) -> float | None:
    names = ("metric", "window", "dimension", "member")
    return registry.get_sample_value(f"touchstream_{name}", dict(zip(names, labels, strict=False)))


def test_a_push_begins_every_few_seconds() -> None:
    engine = Engine(0.1, 0.2, 0.1)
    run(engine)
    assert engine.begun == pytest.approx([0, 5, 10])


def test_a_slow_push_takes_at_most_a_tenth_of_the_time() -> None:
    engine = Engine(3, 1, 0.1)
    run(engine)
    assert engine.begun == pytest.approx([0, 30, 40])


def test_zero_seconds_is_never() -> None:
    engine = Engine(1)
    engine.outcomes.clear()
    run(engine, seconds=0)
    assert engine.begun == []


def test_failures_are_tried_again_ever_later_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    away, wrong = TransientError("away"), ConfigurationError("no such table")
    engine = Engine(away, wrong, away, away, away, away, 0.1, 0.1)
    run(engine)
    assert engine.begun == pytest.approx([0, 10, 30, 70, 130, 190, 250, 255])
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING, logging.ERROR, *[logging.WARNING] * 4]


def test_what_was_pushed_is_shown_until_it_stops() -> None:
    def look(registry: CollectorRegistry) -> None:
        assert value(registry, "metric_value", "nps", "24h", "all", "") == 25
        assert value(registry, "metric_n", "nps", "24h", "all", "") == 12
        assert value(registry, "metric_value", "csat", "24h", "channel", "web") is None
        assert value(registry, "metric_n", "csat", "24h", "channel", "web") == 0
        assert value(registry, "metric_push_seconds") == pytest.approx(0.5)
        moment = value(registry, "metric_push_timestamp_seconds")
        assert moment is not None
        assert abs(moment - datetime.now(UTC).timestamp()) < 60

    run(Engine(0.5), look=look)


def test_gauges_show_only_the_latest_push() -> None:
    registry = CollectorRegistry()
    gauges = PushedGauges(registry)
    gauges.show([NPS, NOTHING], AS_OF, 1)
    gauges.show([NOTHING], AS_OF, 1)
    text = generate_latest(registry).decode()
    assert "nps" not in text
    assert "# HELP touchstream_metric_value " in text
    assert value(registry, "metric_push_timestamp_seconds") == AS_OF.timestamp()


def test_duties_run_while_the_partition_is_held() -> None:
    seen: list[str] = []

    async def duty() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def broken() -> None:
        raise ValueError("broken")

    async def turn() -> None:
        duties = Duties()
        duties.add(duty)
        duties.add(broken)
        duties.assign([("cx.customer", 1), ("cx.identity", 0)])
        await asyncio.sleep(0)
        assert seen == []
        duties.assign([PLACE])
        await asyncio.sleep(0)
        duties.assign([PLACE, ("cx.customer", 1)])
        await asyncio.sleep(0)
        await duties.revoke([("cx.customer", 1)])
        assert seen == ["begun"]
        await duties.revoke([PLACE])
        assert seen == ["begun", "ended"]
        duties.assign([PLACE])
        await asyncio.sleep(0)
        await duties.stop()
        await duties.stop()

    asyncio.run(turn())
    assert seen == ["begun", "ended"] * 2
