"""A partition followed from its beginning: all of it first, then what comes, and the bad ends."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from touchstream.streams.admin import apply_topics
from touchstream.streams.errors import (
    EXIT_SOFTWARE,
    ConfigurationError,
    TouchstreamError,
    TransientError,
)
from touchstream.streams.follower import Follower, follower_config
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.local.broker import broker_answers, broker_arguments
from touchstream.streams.local.ports import choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.topics import OPERATIONS

SETTINGS = Settings(topic_prefix="eu.", group="cx")
PATIENCE_SECONDS = 30.0


class FakeMessage:
    """A message of confluent-kafka; it is falsy without a value, as that one is."""

    def __init__(self, offset: int, value: bytes | None = b"", error: int | None = None) -> None:
        self._offset, self._value, self._error = offset, value, error

    def __len__(self) -> int:
        return len(self._value or b"")

    def error(self) -> KafkaError | None:
        return None if self._error is None else KafkaError(self._error)

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 + self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self._value


END = FakeMessage(0, error=KafkaError._PARTITION_EOF)


class FakeConsumer:
    """Gives what it was filled with; `asked_for_more` says that all of it was taken."""

    def __init__(self, *messages: FakeMessage) -> None:
        self._messages: deque[FakeMessage] = deque()
        self._lock = threading.Lock()
        self.config: dict[str, Any] = {}
        self.assigned: list[TopicPartition] = []
        self.closed = False
        self.asked_for_more = threading.Event()
        self.fill(*messages)

    def fill(self, *messages: FakeMessage) -> None:
        with self._lock:
            self.asked_for_more.clear()
            self._messages.extend(messages)

    def __call__(self, config: dict[str, Any]) -> Any:
        self.config = config
        return self

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def poll(self, timeout: float) -> FakeMessage | None:
        with self._lock:
            if self._messages:
                return self._messages.popleft()
            self.asked_for_more.set()
            return None

    def close(self) -> None:
        self.closed = True


class World:
    """A follower over a fake consumer, what it applied, and how it ended the process."""

    def __init__(self, *messages: FakeMessage) -> None:
        self.consumer = FakeConsumer(*messages)
        self.applied: list[Record] = []
        self.exits: list[int] = []
        self.ended = threading.Event()
        self.follower = Follower(
            SETTINGS, (OPERATIONS, 0), self.apply, end_process=self.end, connect=self.consumer
        )

    def apply(self, record: Record) -> None:
        if record.value == b"bad":
            raise ValueError("bad")
        self.applied.append(record)

    def end(self, code: int) -> None:
        self.exits.append(code)
        self.ended.set()

    def follow(self, *messages: FakeMessage) -> list[int]:
        """Let it follow these; returns the offsets applied so far."""
        self.consumer.fill(*messages)
        assert self.consumer.asked_for_more.wait(PATIENCE_SECONDS)
        self.follower.stop()
        return [record.offset for record in self.applied]


def test_all_that_is_there_is_applied_before_start_returns() -> None:
    world = World(FakeMessage(0), FakeMessage(1), END)
    world.follower.start()
    assert [record.offset for record in world.applied] == [0, 1]
    world.follower.stop()


def test_record_has_the_logical_topic_its_time_and_its_value() -> None:
    world = World(FakeMessage(4, b"v"), FakeMessage(5, None), END)
    world.follower.start()
    world.follower.stop()
    assert world.applied == [
        Record(OPERATIONS, 0, 4, 1004, None, b"v"),
        Record(OPERATIONS, 0, 5, 1005, None, None),
    ]


def test_what_comes_later_is_applied_too() -> None:
    world = World(FakeMessage(0), END)
    world.follower.start()
    assert world.follow(FakeMessage(1), END, FakeMessage(2), END) == [0, 1, 2]


def test_partition_is_read_from_its_beginning_without_a_group() -> None:
    world = World(END)
    world.follower.start()
    world.follower.stop()
    (assigned,) = world.consumer.assigned
    assert (assigned.topic, assigned.partition, assigned.offset) == ("eu.cx.operations", 0, -2)
    assert world.consumer.config["enable.auto.commit"] is False


def test_stop_closes_the_consumer() -> None:
    world = World(END)
    world.follower.start()
    world.follower.stop()
    assert (world.consumer.closed, world.exits) == (True, [])


def test_stop_without_start_does_nothing() -> None:
    World().follower.stop()


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (None, TransientError, "Kafka said nothing of cx.operations"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ConfigurationError, "touchstream topics apply"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, TransientError, "reading cx.operations failed"),
    ],
)
def test_start_fails_when_the_partition_cannot_be_read(
    message: int | None, error: type[TouchstreamError], text: str
) -> None:
    world = World(*([] if message is None else [FakeMessage(0, error=message)]))
    with pytest.raises(error, match=text):
        world.follower.start()
    assert world.consumer.closed


@pytest.mark.parametrize(
    "message",
    [FakeMessage(1, b"bad"), FakeMessage(0, error=KafkaError.TOPIC_AUTHORIZATION_FAILED)],
    ids=["record that cannot be applied", "partition that cannot be read"],
)
def test_process_ends_when_following_is_not_possible(message: FakeMessage) -> None:
    world = World(END)
    world.follower.start()
    world.consumer.fill(message)
    assert world.ended.wait(PATIENCE_SECONDS)
    world.follower.stop()
    assert (world.exits, world.consumer.closed) == ([EXIT_SOFTWARE], True)


def test_configuration_is_that_of_kafka_and_of_the_group() -> None:
    config = follower_config(SETTINGS)
    assert config["bootstrap.servers"] == SETTINGS.kafka_bootstrap_servers
    assert config["group.id"] == "cx-follower"


@contextmanager
def running_broker(log: Path) -> Iterator[Settings]:
    [port] = choose_ports([(0, "")])
    broker = Child(Command("broker", broker_arguments(port), log))
    try:
        broker.wait_until(broker_answers(port), within_seconds=PATIENCE_SECONDS)
        servers = f"127.0.0.1:{port}"
        yield Settings(kafka_bootstrap_servers=servers, kafka_idempotence=False)
    finally:
        broker.stop()


def publish(settings: Settings, *values: bytes) -> None:
    producer = Producer(kafka_config(settings))
    for value in values:
        producer.produce(settings.topic_prefix + OPERATIONS, value, partition=0)
    assert producer.flush(PATIENCE_SECONDS) == 0


@pytest.mark.integration
def test_partition_of_the_embedded_broker_is_followed(tmp_path: Path) -> None:
    values: SimpleQueue[bytes | None] = SimpleQueue()
    with running_broker(tmp_path / "broker.log") as settings:
        apply_topics(settings)
        publish(settings, b"one", b"", b"two")
        follower = Follower(settings, (OPERATIONS, 0), lambda record: values.put(record.value))
        follower.start()
        seen = [values.get_nowait() for _ in range(values.qsize())]
        publish(settings, b"three")
        seen.append(values.get(timeout=PATIENCE_SECONDS))
        follower.stop()
    assert seen == [b"one", b"", b"two", b"three"]


@pytest.mark.integration
def test_empty_partition_of_the_embedded_broker_lets_a_worker_start(tmp_path: Path) -> None:
    with running_broker(tmp_path / "broker.log") as settings:
        apply_topics(settings)
        follower = Follower(settings, (OPERATIONS, 0), lambda record: None)
        follower.start()
        follower.stop()
