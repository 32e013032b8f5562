"""Chunks instead of records: what is yielded, what is polled, what may be committed."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    InvalidSessionTimeoutError,
)
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers.aiokafka import Consumer as AiokafkaConsumer
from faust.types import TP, ConsumerMessage

from touchstream.streams.chunk_transport import (
    POLL_WHILE_BUSY_SECONDS,
    SCHEME,
    BriskThread,
    Chunk,
    ChunkConsumer,
    ChunkTransport,
    ConsumerObserver,
    register,
)
from touchstream.streams.errors import EXIT_CONFIGURATION, EXIT_SOFTWARE

ZERO, ONE = TP("t", 0), TP("t", 1)


@dataclass(eq=False)
class FakeMessage:
    """What Faust acknowledges."""

    tp: TP
    offset: int
    topic: str = "t"
    acked: bool = False


@dataclass
class Fetched:
    """A record as aiokafka fetched it."""

    offset: int
    timestamp: int = 1_700_000_000_000
    timestamp_type: int = 0


@dataclass
class Polls:
    """Which partitions the base class was asked to poll, and for how long."""

    polled: list[set[TP]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)


def bare_consumer(**attributes: Any) -> Any:
    """A consumer without Kafka: nothing but the bookkeeping."""
    consumer: Any = object.__new__(ChunkConsumer)
    topics = SimpleNamespace(acks_enabled_for=lambda topic: True)
    vars(consumer).update(
        app=SimpleNamespace(topics=topics, consumer_generation_id=1),
        flow_active=True,
        _busy=set(),
        _held=set(),
        _acked=defaultdict(list),
        _acked_index=defaultdict(set),
        _committed_offset=defaultdict(lambda: None),
        _unacked_messages=set(),
        _waiting_for_ack=None,
        highwater=lambda tp: 100,
    )
    vars(consumer).update(attributes)
    return consumer


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> Polls:
    seen = Polls()

    async def poll(self: Any, active_partitions: set[TP], timeout: float) -> dict[TP, Any]:  # noqa: ASYNC109
        seen.polled.append(active_partitions)
        seen.timeouts.append(timeout)
        return {}

    async def sleep(self: Any, seconds: float) -> None:
        seen.slept.append(seconds)

    monkeypatch.setattr(AiokafkaConsumer, "_getmany", poll)
    monkeypatch.setattr(ChunkConsumer, "sleep", sleep)
    return seen


def test_committable_is_the_end_of_the_last_chunk_acknowledged() -> None:
    consumer = bare_consumer()
    for offset in (49, 120, 4000):  # the chunks' last offsets
        consumer.acknowledge(FakeMessage(ZERO, offset))
    assert consumer._new_offset(ZERO) == 4001


def test_nothing_is_committable_before_an_acknowledgement() -> None:
    assert bare_consumer()._new_offset(ZERO) is None


def test_nothing_new_is_committable_twice() -> None:
    consumer = bare_consumer()
    consumer.acknowledge(FakeMessage(ZERO, 49))
    assert [consumer._new_offset(ZERO), consumer._new_offset(ZERO)] == [50, None]


def test_partitions_are_committable_apart() -> None:
    consumer = bare_consumer()
    consumer.acknowledge(FakeMessage(ZERO, 49))
    consumer.acknowledge(FakeMessage(ONE, 9))
    assert (consumer._new_offset(ZERO), consumer._new_offset(ONE)) == (50, 10)


def test_same_chunk_read_again_is_committable_again() -> None:
    consumer = bare_consumer()
    for _ in range(2):
        consumer.acknowledge(FakeMessage(ZERO, 49))
        assert consumer._new_offset(ZERO) == 50


def test_chunk_that_faust_acknowledges_by_itself_is_not_committable() -> None:
    """Faust's Python streams acknowledge what they skip around a rebalance."""
    consumer = bare_consumer(_busy={ZERO})
    message = ConsumerMessage("t", 0, 49, 0.0, 0, [], None, None, None, 0, 0, ZERO)
    assert message.ack(consumer) is False
    assert (consumer._new_offset(ZERO), consumer._busy) == (None, {ZERO})


def test_offsets_between_chunks_are_no_gap() -> None:
    consumer = bare_consumer(_gap=defaultdict(set))
    asyncio.run(consumer._add_gap(ZERO, 50, 119))
    assert (consumer._gap, consumer._acked) == ({}, {})


def poll(consumer: Any, *partitions: TP, timeout: float = 1.0) -> Any:
    return asyncio.run(consumer._getmany(set(partitions), timeout))


def test_idle_partitions_are_polled(polls: Polls) -> None:
    poll(bare_consumer(), ZERO, ONE)
    assert (polls.polled, polls.timeouts) == ([{ZERO, ONE}], [1.0])


def test_busy_partition_is_not_polled(polls: Polls) -> None:
    poll(bare_consumer(_busy={ZERO}), ZERO, ONE)
    assert polls.polled == [{ONE}]


def test_poll_is_short_while_a_partition_is_busy(polls: Polls) -> None:
    """The busy one may become idle meanwhile."""
    poll(bare_consumer(_busy={ZERO}), ZERO, ONE)
    assert polls.timeouts == [POLL_WHILE_BUSY_SECONDS]


@pytest.mark.parametrize(("busy", "seconds"), [({ZERO}, POLL_WHILE_BUSY_SECONDS), (set(), 1.0)])
def test_without_an_idle_partition_nothing_is_polled(
    polls: Polls, busy: set[TP], seconds: float
) -> None:
    assert poll(bare_consumer(_busy=busy), *busy) == {}
    assert (polls.polled, polls.slept) == ([], [seconds])


def test_releasing_makes_a_partition_idle(polls: Polls) -> None:
    consumer = bare_consumer(_busy={ZERO, ONE})
    consumer.release(ZERO)
    poll(consumer, ZERO, ONE)
    assert polls.polled == [{ZERO}]


def test_acknowledging_does_not_release_the_chunk_behind(polls: Polls) -> None:
    consumer = bare_consumer(_busy={ZERO})
    consumer.acknowledge(FakeMessage(ZERO, 49))
    poll(consumer, ZERO, ONE)
    assert polls.polled == [{ONE}]


def test_held_partition_is_not_polled_when_it_is_released(polls: Polls) -> None:
    consumer = bare_consumer(_busy={ZERO})
    consumer.hold(ZERO)
    consumer.release(ZERO)
    poll(consumer, ZERO, ONE)
    assert polls.polled == [{ONE}]


def test_chunk_read_again_below_the_committed_offset_is_not_committable() -> None:
    """After a seek back to the marker there is nothing to commit until the log is caught up."""
    consumer = bare_consumer(_committed_offset={ZERO: 100})
    consumer.acknowledge(FakeMessage(ZERO, 49))
    assert consumer._new_offset(ZERO) is None


@pytest.mark.parametrize(("known", "offset"), [(100, 100), (None, 0)])
def test_committed_offset_is_where_a_partition_begins(known: int | None, offset: int) -> None:
    assert bare_consumer(_committed_offset={ZERO: known}).committed_to(ZERO) == offset


def test_seeking_back_makes_a_partition_idle() -> None:
    sought: list[tuple[TP, int]] = []

    async def seek(tp: TP, offset: int) -> None:
        sought.append((tp, offset))

    consumer = bare_consumer(_busy={ZERO, ONE}, seek=seek)
    asyncio.run(consumer.seek_back(ZERO, 7))
    assert (sought, consumer._busy) == ([(ZERO, 7)], {ONE})


def test_revocation_makes_all_partitions_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    revoked: list[set[TP]] = []

    async def on_partitions_revoked(self: Any, tps: set[TP]) -> None:
        revoked.append(tps)

    monkeypatch.setattr(AiokafkaConsumer, "on_partitions_revoked", on_partitions_revoked)
    consumer = bare_consumer(_busy={ZERO, ONE}, _held={ONE})
    asyncio.run(consumer.on_partitions_revoked({ZERO}))
    assert (consumer._busy, consumer._held, revoked) == (set(), set(), [{ZERO}])


Records = dict[TP, list[Fetched]]
RECORDS: Records = {ZERO: [Fetched(5), Fetched(6), Fetched(9)], ONE: [Fetched(0)]}


class Stopped(Exception):
    pass


def fetching(
    records: Records | None, active: set[TP] | None = None, error: Exception | None = None
) -> Any:
    """A consumer whose next poll has this outcome."""
    seeks: list[None] = []

    async def wait_next_records(timeout: float) -> Any:  # noqa: ASYNC109
        if error:
            raise error
        return records, active

    async def perform_seek() -> None:
        seeks.append(None)

    return bare_consumer(
        _wait_next_records=wait_next_records,
        perform_seek=perform_seek,
        seeks=seeks,
        consumer_stopped_errors=(Stopped,),
        _stopped=asyncio.Event(),
        _crashed=asyncio.Event(),
    )


def yielded(consumer: Any) -> dict[TP, Any]:
    async def collect() -> dict[TP, Any]:
        return {tp: message async for tp, message in consumer.getmany(1.0)}

    return asyncio.run(collect())


def test_run_of_records_is_one_message() -> None:
    chunks = {tp: message.value for tp, message in yielded(fetching(RECORDS)).items()}
    assert chunks == {tp: Chunk(run, 100) for tp, run in RECORDS.items()}


def test_message_stands_at_the_last_record_of_its_run() -> None:
    message = yielded(fetching(RECORDS))[ZERO]
    assert (message.topic, message.partition, message.offset) == ("t", 0, 9)
    assert (message.timestamp, message.generation_id) == (1_700_000_000.0, 1)


def test_partition_with_a_chunk_is_busy() -> None:
    consumer = fetching(RECORDS)
    yielded(consumer)
    assert consumer._busy == {ZERO, ONE}


def test_empty_run_is_no_chunk() -> None:
    consumer = fetching({ZERO: [], ONE: [Fetched(0)]})
    assert (set(yielded(consumer)), consumer._busy) == ({ONE}, {ONE})


def test_partition_that_is_not_ours_gives_no_chunk() -> None:
    assert set(yielded(fetching(RECORDS, {ONE}))) == {ONE}


def test_poll_without_an_answer_gives_nothing() -> None:
    assert yielded(fetching(None)) == {}


def test_records_fetched_while_the_flow_is_stopped_are_left() -> None:
    consumer = fetching(RECORDS)
    consumer.flow_active = False
    assert (yielded(consumer), consumer._busy, len(consumer.seeks)) == ({}, set(), 1)


def test_partition_that_goes_while_its_records_are_given_back_does_no_harm() -> None:
    consumer = fetching(RECORDS)
    consumer.flow_active = False

    async def perform_seek() -> None:
        raise IllegalStateError("No current assignment for partition")

    consumer.perform_seek = perform_seek
    assert (yielded(consumer), consumer._busy) == ({}, set())


def test_records_of_an_old_generation_are_left() -> None:
    consumer = fetching(RECORDS)

    async def collect_while_rebalancing() -> list[TP]:
        found = []
        async for tp, _ in consumer.getmany(1.0):
            found.append(tp)
            consumer.app.consumer_generation_id += 1
        return found

    assert asyncio.run(collect_while_rebalancing()) == [ZERO]
    assert consumer._busy == {ZERO}


def test_failing_consumer_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    assert yielded(fetching(None, error=ConnectionError())) == {}
    assert exits == [EXIT_SOFTWARE]


def test_a_session_timeout_that_kafka_refuses_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    yielded(fetching(None, error=InvalidSessionTimeoutError()))
    assert exits[0] == EXIT_CONFIGURATION


@pytest.mark.parametrize("error", [None, GroupAuthorizationFailedError("group")])
def test_a_worker_that_cannot_join_its_group_ends(error: Exception | None) -> None:
    crashes: list[BaseException] = []

    async def crash(reason: BaseException) -> None:
        crashes.append(reason)

    def check_errors() -> None:
        if error:
            raise error

    coordinator = SimpleNamespace(check_errors=check_errors)
    thread: Any = object.__new__(BriskThread)
    thread.consumer = SimpleNamespace(crash=crash)
    for client in (None, SimpleNamespace(_coordinator=coordinator)):
        thread._consumer = client
        asyncio.run(thread.check_group())
    assert crashes == ([error] if error else [])


@pytest.mark.parametrize(("stopping", "exits"), [(False, [EXIT_SOFTWARE]), (True, [])])
def test_a_worker_that_is_not_told_what_is_committed_begins_again(
    monkeypatch: pytest.MonkeyPatch, stopping: bool, exits: list[int]
) -> None:
    async def wait_for_ever(self: Any) -> None:
        await asyncio.Event().wait()

    found: list[int] = []
    monkeypatch.setattr("os._exit", found.append)
    monkeypatch.setattr(AiokafkaConsumer, "perform_seek", wait_for_ever)
    conf = SimpleNamespace(broker_request_timeout=0.01)
    app = SimpleNamespace(conf=conf, should_stop=stopping)
    asyncio.run(bare_consumer(app=app).perform_seek())
    assert found == exits


def test_stopping_consumer_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    with pytest.raises(Stopped):
        yielded(fetching(None, error=Stopped()))
    assert exits == []


class Heard(ConsumerObserver):
    """Writes down what the consumer tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def polled(self) -> None:
        self.told.append("polled")

    def received(self, tp: TP) -> None:
        self.told.append(tp)

    def committed(self, offsets: Mapping[TP, int]) -> None:
        self.told.append(offsets)


def test_polls_and_chunks_are_told() -> None:
    consumer = fetching(RECORDS)
    consumer.observer = Heard()
    yielded(consumer)
    assert consumer.observer.told == ["polled", ZERO, ONE]


def test_polls_without_records_are_told() -> None:
    consumer = fetching({})
    consumer.observer = Heard()
    yielded(consumer)
    assert consumer.observer.told == ["polled"]


@pytest.mark.parametrize(("done", "told"), [(True, [{ZERO: 50}]), (False, [])])
def test_commits_are_told_when_kafka_has_them(
    monkeypatch: pytest.MonkeyPatch, done: bool, told: list[Any]
) -> None:
    async def commit(self: Any, offsets: Mapping[TP, int]) -> bool:
        return done

    monkeypatch.setattr(AiokafkaConsumer, "_commit", commit)
    consumer = bare_consumer(observer=Heard())
    assert asyncio.run(consumer._commit({ZERO: 50})) is done
    assert consumer.observer.told == told


@pytest.mark.parametrize(("stops", "exits"), [(False, [EXIT_SOFTWARE]), (True, [])])
def test_failing_consumer_thread_ends_the_process_unless_it_stops_anyway(
    monkeypatch: pytest.MonkeyPatch, stops: bool, exits: list[int]
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("os._exit", seen.append)
    thread: Any = object.__new__(BriskThread)
    thread.app = SimpleNamespace(should_stop=stops)
    asyncio.run(thread.crash(ConnectionError()))
    assert seen == exits


def test_transport_is_known_to_faust() -> None:
    register()
    assert TRANSPORTS.by_url(f"{SCHEME}://127.0.0.1:9092") is ChunkTransport
