"""The body of an agent: whatever ends it ends the process, before anything is acknowledged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from touchstream.streams.app import FaustApp
from touchstream.streams.chunk_transport import Chunk
from touchstream.streams.dead_letters import Reason
from touchstream.streams.effects import Effects
from touchstream.streams.errors import EXIT_SOFTWARE, PoisonError
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.memory_log import MemoryLog, MemorySink
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome
from touchstream.streams.state import State
from touchstream.streams.telemetry import Telemetry

TOPIC = "touchpoints.web"
EVERY_KIND = (RuntimeError(), MemoryError(), SystemExit(), KeyboardInterrupt(), StopIteration())


class Quiet:
    """A stage that does nothing, but rejects records without a value."""

    name = "quiet"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        if record.value is None:
            raise PoisonError(Reason.NULL_VALUE, "no value")

    def project(self, partition: int, state: State, effects: Effects) -> None:
        pass


class Unobserved:
    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None:
        pass


@dataclass
class FakeConsumer:
    """What of the consumer an agent uses."""

    acknowledged: list[int] = field(default_factory=list)
    released: int = 0
    held: int = 0
    error: BaseException | None = None

    def acknowledge(self, message: Any) -> bool:
        if self.error:
            raise self.error
        self.acknowledged.append(message.offset)
        return True

    def committed_to(self, tp: Any) -> int:
        return 0

    def release(self, tp: Any) -> None:
        self.released += 1

    def hold(self, tp: Any) -> None:
        self.held += 1


@dataclass
class Body:
    """The body of an agent, and what it did."""

    app: FaustApp
    consumer: FakeConsumer = field(default_factory=FakeConsumer)
    exits: list[int] = field(default_factory=list)

    async def run(self, *events: Any) -> None:
        """Give the body events, or errors that the stream raises."""
        consumer: Any = self.consumer
        self.app.faust.consumer = consumer
        agent = next(a for a in self.app.faust.agents.values() if a.name == "quiet")
        await agent.fun(SimpleNamespace(noack=lambda: SimpleNamespace(events=lambda: give(events))))

    def stop_worker(self) -> None:
        self.app.faust._stopped.set()


async def give(events: tuple[Any, ...]) -> AsyncIterator[Any]:
    for event in events:
        if isinstance(event, BaseException):
            raise event
        yield event
    await asyncio.sleep(0)


def event(offset: int, value: bytes | None = b"v") -> Any:
    record = SimpleNamespace(offset=offset, timestamp=0, key=None, value=value)
    message = SimpleNamespace(tp=SimpleNamespace(topic=TOPIC, partition=0), offset=offset)
    return SimpleNamespace(value=Chunk([record], offset + 1), message=message)


BAD = SimpleNamespace(value=None, message=event(0).message)
"""An event that is no chunk."""


@pytest.fixture
def body(tmp_path: Path) -> Body:
    async def close() -> None:
        pass

    async def make() -> Body:
        exits: list[int] = []
        ports = Ports(MemoryLog(), MemorySink(), Unobserved(), 4, {TOPIC: 1})
        settings = Settings(data_directory=tmp_path, dead_letter_limit=2)
        app = FaustApp(settings, ports, Telemetry(), close, end_process=exits.append)
        app.run(Quiet(), (TOPIC,), stateful=False)
        return Body(app, exits=exits)

    return asyncio.run(make())


def test_event_that_is_no_chunk_ends_the_process(body: Body) -> None:
    with pytest.raises(AttributeError):
        asyncio.run(body.run(BAD, event(1)))
    assert (body.exits, body.consumer.acknowledged) == ([EXIT_SOFTWARE], [])


@pytest.mark.parametrize("error", EVERY_KIND, ids=repr)
def test_whatever_the_lanes_raise_ends_the_process(
    body: Body, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: Any) -> None:
        raise error

    monkeypatch.setattr(body.app.lanes, "put", put)
    with pytest.raises(BaseException):  # noqa: B017  what it is, is the parameter
        asyncio.run(body.run(event(0), event(1)))
    assert (body.exits, body.consumer.acknowledged) == ([EXIT_SOFTWARE], [])


@pytest.mark.parametrize("error", [*EVERY_KIND, asyncio.CancelledError()], ids=repr)
def test_whatever_the_stream_raises_ends_the_process(body: Body, error: BaseException) -> None:
    """After a cancellation, too, Faust starts the agent again without the chunk it had."""
    with pytest.raises(BaseException):  # noqa: B017  what it is, is the parameter
        asyncio.run(body.run(error))
    assert body.exits == [EXIT_SOFTWARE]


def test_stream_that_ends_ends_the_process(body: Body) -> None:
    asyncio.run(body.run())
    assert body.exits == [EXIT_SOFTWARE]


def test_body_is_cancelled_when_the_worker_stops(body: Body) -> None:
    async def stop() -> None:
        body.stop_worker()
        await body.run(asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stop())
    assert body.exits == []


def test_body_ends_when_the_worker_stops(body: Body) -> None:
    async def stop() -> None:
        body.stop_worker()
        await body.run()

    asyncio.run(stop())
    assert body.exits == []


def test_an_error_ends_the_process_while_the_worker_stops_too(body: Body) -> None:
    async def stop() -> None:
        body.stop_worker()
        await body.run(BAD)

    with pytest.raises(AttributeError):
        asyncio.run(stop())
    assert body.exits == [EXIT_SOFTWARE]


def test_process_ends_even_when_the_log_fails(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    def critical(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("touchstream.streams.app.log.critical", critical)
    with pytest.raises(MemoryError):
        asyncio.run(body.run(BAD))
    assert body.exits == [EXIT_SOFTWARE]


def test_chunk_is_acknowledged_by_its_lane(body: Body) -> None:
    async def run() -> None:
        body.stop_worker()
        await body.run(event(0), event(1))
        await body.app.lanes.stop(10)

    asyncio.run(run())
    assert (body.exits, body.consumer.acknowledged) == ([], [0, 1])


def test_partition_is_held_at_the_limit_on_dead_letters(
    body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        body.stop_worker()
        await body.run(event(0, None), event(1, None))
        await body.app.lanes.stop(10)

    asyncio.run(run())
    consumer = body.consumer
    assert (consumer.released, consumer.held, consumer.acknowledged) == (1, 1, [0, 1])
    assert "not read any more: topic=touchpoints.web partition=0 rejected_in_a_row=2" in caplog.text
    place = {"agent": "quiet", "topic": TOPIC, "partition": "0"}
    registry = body.app._telemetry.registry
    assert registry.get_sample_value("touchstream_held", place) == 1


@pytest.mark.parametrize("error", [RuntimeError(), MemoryError(), asyncio.CancelledError()])
def test_failing_acknowledgement_ends_the_process(body: Body, error: BaseException) -> None:
    async def run() -> None:
        body.stop_worker()
        body.consumer.error = error
        await body.run(event(0))
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert (body.exits, body.consumer.acknowledged) == ([EXIT_SOFTWARE], [])
