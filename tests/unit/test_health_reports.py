"""Who tells the health what: lanes, the ClickHouse writer, the Kafka log, the Faust app."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from faust.types import TP

from touchstream.streams.app import FaustApp
from touchstream.streams.changelog import Changelog
from touchstream.streams.chunk_transport import Chunk
from touchstream.streams.clickhouse_writer import ClickHouseWriter, Pace
from touchstream.streams.effects import Effects
from touchstream.streams.health import Health, Phase
from touchstream.streams.kafka_log import KafkaLog, _to_end
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.lanes import Lanes
from touchstream.streams.log import Reading
from touchstream.streams.memory_log import MemoryLog, MemorySink
from touchstream.streams.records import Place, Record
from touchstream.streams.server_health import Server
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome
from touchstream.streams.state import State
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import FACTS
from touchstream.streams.telemetry import Telemetry

TOPIC = "touchpoints.web"
PLACE = (TOPIC, 0)


class Copy:
    """Inserts every record."""

    name = "copy"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        effects.insert(FACTS, (record.offset,))

    def project(self, partition: int, state: State, effects: Effects) -> None:
        pass


class Spy(Health):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__()

    def restoring(self, place: Place) -> None:
        self.told.append("restoring")

    def restored(self, place: Place) -> None:
        self.told.append("restored")

    def inserting(self, place: Place, waits: bool) -> None:
        self.told.append("inserting" if waits else "inserted")

    def computed(self, place: Place) -> None:
        self.told.append("computed")

    def stored(self, place: Place) -> None:
        self.told.append("stored")

    def acknowledged(self, place: Place, to: int) -> None:
        self.told.append(f"acknowledged {to}")

    def abandoned(self, place: Place) -> None:
        self.told.append("abandoned")


class World:
    """Log, sink and observer that write down what is asked of them, in the order of the health."""

    def __init__(self, health: Spy) -> None:
        self.health = health
        self.log = MemoryLog()

    async def append(self, topic: str, partition: int, entries: Any) -> int:
        self.health.told.append("append")
        return await self.log.append(topic, partition, entries)

    def read(self, topic: str, partition: int, start: int) -> Reading:
        self.health.told.append("read")
        return self.log.read(topic, partition, start)

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        self.health.told.append("insert")

    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None:
        pass

    def ports(self) -> Ports:
        return Ports(self, self, self, 1, {TOPIC: 1}, self.health)


def test_a_lane_says_when_it_restores_and_when_it_waits_for_clickhouse() -> None:
    async def main(health: Spy) -> None:
        world = World(health)
        lane = Lane(Copy(), TOPIC, 0, world.ports(), Changelog(world, "cx.state.copy", 0, 1))
        await lane.take()
        await lane.process([Record(TOPIC, 0, 0, 0, None, b"")])

    health = Spy()
    asyncio.run(main(health))
    restore = ["restoring", "read", "append", "restored"]
    assert health.told == [*restore, "inserting", "insert", "inserted", "append"]


class Done:
    """The consumer, as far as the app needs it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.thread_loop = loop
        self.observer: Any = None
        self.sought: list[tuple[TP, int]] = []
        self.is_new = True

    def acknowledge(self, message: Any) -> bool:
        return self.is_new

    def release(self, tp: TP) -> None:
        pass

    def committed_to(self, tp: TP) -> int:
        return 0

    async def seek_back(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))


async def started(path: Path, health: Health) -> tuple[FaustApp, Done]:
    async def close() -> None:
        pass

    ports = Ports(MemoryLog(), MemorySink(), World(Spy()), 1, {TOPIC: 1}, health)
    app = FaustApp(Settings(data_directory=path, topic_prefix="x."), ports, Telemetry(), close)
    app.run(Copy(), (TOPIC,), stateful=False)
    consumer: Any = Done(asyncio.get_running_loop())
    app.faust.consumer = consumer
    return app, consumer


def event() -> Any:
    record = SimpleNamespace(offset=6, timestamp=0, key=None, value=b"v")
    message = SimpleNamespace(tp=TP("x." + TOPIC, 0), offset=6)
    return SimpleNamespace(value=Chunk([record], 7), message=message)


def test_the_steps_of_a_chunk_are_told(tmp_path: Path) -> None:
    async def main(health: Spy) -> None:
        app, _ = await started(tmp_path, health)
        place, work = app._work(event())
        assert place == PLACE
        work.release()
        work.acknowledge()
        await app.seek_back(PLACE, 3)

    health = Spy()
    asyncio.run(main(health))
    assert health.told == ["computed", "stored", "acknowledged 7", "abandoned"]


def test_a_chunk_below_the_committed_offset_waits_for_no_commit(tmp_path: Path) -> None:
    """After a seek back Faust commits nothing until the log is caught up."""

    async def main(health: Spy) -> None:
        app, consumer = await started(tmp_path, health)
        consumer.is_new = False
        app._work(event())[1].acknowledge()

    health = Spy()
    asyncio.run(main(health))
    assert health.told == ["stored"]


def test_the_first_chunk_of_a_lane_is_computed_before_it_is_stored() -> None:
    from touchstream.streams.lanes import Work

    async def main(health: Spy) -> None:
        world, done = World(health), asyncio.Event()
        lanes = Lanes(world.ports(), Done(asyncio.get_running_loop()))  # type: ignore[arg-type]
        work = Work(
            [Record(TOPIC, 0, 0, 0, None, b"")], done.set, lambda: health.told.append("release")
        )
        lanes.put(Copy(), False, PLACE, work)
        await done.wait()
        await lanes.stop(1)

    health = Spy()
    asyncio.run(main(health))
    assert health.told == ["restoring", "restored", "release", "inserting", "insert", "inserted"]


def test_assignment_and_what_the_consumer_does_reach_the_health(tmp_path: Path) -> None:
    async def main() -> None:
        health = Health()
        app, consumer = await started(tmp_path, health)
        tps = {TP("x." + TOPIC, 0)}
        await app._on_revoked(app.faust, set())
        assert health.phase is Phase.REBALANCING
        assert consumer.observer is app
        assert list(health.pulses) == ["the consumer"]
        await app._on_assigned(app.faust, tps)
        app.polled()
        app.received(TP("x." + TOPIC, 0))
        assert health.progress_seconds > 0
        health.computed(PLACE)
        health.stored(PLACE)
        health.acknowledged(PLACE, 7)
        assert health.commit_seconds > 0
        app.committed({TP("x." + TOPIC, 0): 7})
        assert health.commit_seconds == 0
        await app._on_revoked(app.faust, tps)
        assert health.report()["partitions"]["assigned"] == 0

    asyncio.run(main())


class Refusing:
    """An inserter that raises what it is told to, then stores."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.waiting: list[float] = []
        self.server: Server | None = None

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        assert self.server is not None
        self.waiting.append(self.server.silent_seconds)
        if self.errors:
            raise self.errors.pop(0)

    def close(self) -> None:
        pass


class Unobserved:
    def inserted(self, table: Table, rows: int, seconds: float) -> None:
        pass

    def retried(self, table: Table, error: Exception) -> None:
        pass


async def insert(inserter: Refusing, server: Server) -> None:
    async def sleep(seconds: float) -> None:
        pass

    inserter.server = server
    writer = ClickHouseWriter(
        Settings(),
        Unobserved(),
        lambda *_: None,
        inserter=inserter,  # type: ignore[arg-type]  # a fake
        pace=Pace(sleep=sleep),
        server=server,
    )
    await writer.insert({FACTS: [(0,)]})
    await writer.close()


def test_retries_of_an_insert_are_told_until_it_is_stored() -> None:
    server = Server("clickhouse")
    asyncio.run(insert(Refusing(OperationalError("away"), OperationalError("away")), server))
    assert (server.failures, server.retried_seconds, server.silent_seconds) == (2, 0, 0)


def test_an_insert_under_way_is_a_call_to_clickhouse() -> None:
    inserter = Refusing()
    asyncio.run(insert(inserter, Server("clickhouse")))
    assert inserter.waiting[0] > 0


def test_a_clickhouse_that_refuses_a_row_answers() -> None:
    server = Server("clickhouse")
    refused = [OperationalError("away"), *[DatabaseError("cannot parse", code=27)] * 2]
    asyncio.run(insert(Refusing(*refused), server))
    assert (server.failures, server.retried_seconds) == (1, 0)


class Broker(KafkaLog):
    """A log whose appends fail as told."""

    def __init__(self, health: Health, *errors: Exception) -> None:
        super().__init__(Settings(), health)
        self.errors = list(errors)
        self.silent: list[float] = []

    async def _append_once(self, topic: str, partition: int, entries: Any) -> int:
        self.silent.append(self._health.kafka.silent_seconds)
        if self.errors:
            raise self.errors.pop(0)
        return 17


def test_retries_of_an_append_are_told_until_it_is_stored() -> None:
    health = Health()
    log = Broker(health, KafkaConnectionError(), KafkaConnectionError())
    assert asyncio.run(log.append("cx.identity", 0, [])) == 17
    kafka = health.kafka
    assert (kafka.failures, kafka.retried_seconds, kafka.silent_seconds) == (2, 0, 0)
    assert min(log.silent) > 0


def test_an_append_that_is_too_large_is_no_trouble_of_kafka() -> None:
    health = Health()
    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(Broker(health, MessageSizeTooLargeError()).append("cx.identity", 0, []))
    assert (health.kafka.failures, health.kafka.silent_seconds) == (0, 0)


class Partition:
    """A consumer that hands out what is in a partition, a few messages at a time."""

    def __init__(self, *polls: int) -> None:
        self.polls = list(polls)

    def consume(self, number: int, seconds: float) -> list[Any]:
        if not self.polls:
            return [SimpleNamespace(error=lambda: SimpleNamespace(code=lambda: -191))]
        message = SimpleNamespace(
            error=lambda: None,
            partition=lambda: 0,
            offset=lambda: 0,
            timestamp=lambda: (1, 0),
            key=lambda: None,
            value=lambda: b"",
        )
        return [message] * self.polls.pop(0)


def test_reading_a_state_tells_progress_with_everything_that_comes() -> None:
    told: list[int] = []
    partition: Any = Partition(3, 0, 0, 2)
    batches = _to_end(partition, "cx.state.stitch", lambda: told.append(1))
    assert [len(records) for records in batches] == [3, 0, 0, 2, 0]
    assert len(told) == 3  # two polls with records, one with the end
