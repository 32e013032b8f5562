"""Touchpoints in, records out: with a producer that remembers, and on the embedded broker."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from touchstream.streams import Publisher
from touchstream.streams.admin import apply_topics
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.local.broker import broker_arguments
from touchstream.streams.local.ports import choose_ports
from touchstream.streams.publisher import producer_config, record_key
from touchstream.streams.settings import Settings
from touchstream.streams.validation import InvalidTouchpoint

SETTINGS = Settings(topic_prefix="eu.")
TOUCHPOINT = {
    "event_id": "e-1",
    "occurred_at": datetime(2026, 1, 2, tzinfo=UTC),
    "action": "page_viewed",
    "identifiers": [
        {"kind": "email", "value": "ann@example.com"},
        {"kind": "cookie", "value": "c"},
    ],
}
Report = Callable[[KafkaError | None, Any], None]


class FakeProducer:
    """Remembers what was produced; delivers on flush, or fails what `error` says."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.produced: list[tuple[str, bytes, bytes]] = []
        self.queue: list[Report] = []
        self.error: KafkaError | None = None
        self.raises: list[Exception] = []
        self.polled: list[float] = []
        self.stuck = 0
        self.topics: dict[str, Any] = {}

    def produce(self, topic: str, *, value: bytes, key: bytes, on_delivery: Report) -> None:
        if self.raises:
            raise self.raises.pop()
        self.produced.append((topic, key, value))
        self.queue.append(on_delivery)

    def poll(self, timeout: float) -> int:
        self.polled.append(timeout)
        return 0

    def flush(self, timeout: float) -> int:
        for report in self.queue:
            report(self.error, None)
        self.queue.clear()
        return self.stuck

    def list_topics(self, topic: str | None = None, *, timeout: float) -> Any:
        if self.raises:
            raise self.raises.pop()
        return SimpleNamespace(topics=self.topics)


def make(**options: Any) -> tuple[Publisher, FakeProducer]:
    made: list[FakeProducer] = []

    def connect(config: dict[str, Any]) -> FakeProducer:
        made.append(FakeProducer(config))
        return made[0]

    return Publisher(SETTINGS, connect=connect, **options), made[0]


def test_published_touchpoint_is_framed_keyed_and_delivered() -> None:
    publisher, producer = make()
    with publisher:
        publisher.publish("web", TOUCHPOINT)
    [(topic, key, value)] = producer.produced
    assert topic == "eu.touchpoints.web"
    assert key == record_key(TOUCHPOINT) and b"ann" not in key
    codec = TouchpointCodec(max_payload_bytes=SETTINGS.max_payload_bytes)
    assert codec.decode("web", value)["occurred_at"] == 1_767_312_000_000
    assert (publisher.delivered, publisher.failed) == (1, 0)


def test_producer_is_idempotent_and_overrides_reach_it() -> None:
    _, producer = make(kafka={"message.timeout.ms": 5})
    assert producer.config["acks"] == "all"
    assert producer.config["enable.idempotence"] is True
    assert producer.config["message.timeout.ms"] == 5


def test_records_up_to_the_payload_limit_fit_the_producer() -> None:
    settings = Settings(max_payload_bytes=4 << 20)
    assert producer_config(settings)["message.max.bytes"] > 4 << 20


def test_invalid_touchpoint_is_not_queued() -> None:
    publisher, producer = make()
    with pytest.raises(InvalidTouchpoint, match="action is missing"):
        publisher.publish("web", {k: v for k, v in TOUCHPOINT.items() if k != "action"})
    assert producer.produced == []


def test_channel_it_was_not_made_for_is_refused() -> None:
    publisher, _ = make(channels=["chat"])
    with pytest.raises(InvalidTouchpoint, match="channel is not one"):
        publisher.publish("web", TOUCHPOINT)


def test_full_queue_is_waited_for() -> None:
    publisher, producer = make()
    producer.raises = [BufferError("full"), BufferError("full")]
    publisher.publish("web", TOUCHPOINT)
    assert len(producer.produced) == 1
    assert producer.polled == [0.1, 0.1, 0]


def test_fatal_error_is_transient_with_what_to_do() -> None:
    publisher, producer = make()
    producer.raises = [KafkaException(KafkaError(KafkaError._FATAL, "fenced"))]
    with pytest.raises(TransientError, match="fenced.*start the publisher again"):
        publisher.publish("web", TOUCHPOINT)


def test_flush_counts_what_failed_once() -> None:
    publisher, producer = make()
    producer.error = KafkaError(KafkaError._MSG_TIMED_OUT)
    publisher.publish("web", TOUCHPOINT)
    with pytest.raises(TransientError, match="1 touchpoints were not delivered.*timed out"):
        publisher.flush()
    publisher.flush()
    assert (publisher.delivered, publisher.failed) == (0, 1)


def test_flush_counts_what_is_still_waiting() -> None:
    publisher, producer = make()
    producer.stuck = 3
    with pytest.raises(TransientError, match="3 touchpoints were not delivered"):
        publisher.flush(0.1)


def test_cause_of_a_failure_is_what_the_client_reported_last() -> None:
    publisher, producer = make()
    producer.config["error_cb"](KafkaError(KafkaError._TRANSPORT, "Connection refused"))
    producer.stuck = 1
    with pytest.raises(TransientError, match="Connection refused"):
        publisher.flush(0.1)


@pytest.mark.parametrize(
    ("error", "text"), [(None, None), (KafkaError(KafkaError._MSG_TIMED_OUT), "timed out")]
)
def test_delivery_is_reported(error: KafkaError | None, text: str | None) -> None:
    reports: list[tuple[str, str, str | None]] = []
    publisher, producer = make(on_delivery=lambda *report: reports.append(report))
    producer.error = error
    publisher.publish("web", TOUCHPOINT)
    producer.flush(0)
    [(channel, event_id, problem)] = reports
    assert (channel, event_id) == ("web", "e-1")
    assert problem is None if text is None else text in str(problem)


def test_error_in_the_block_is_not_hidden() -> None:
    publisher, producer = make()
    producer.stuck = 1
    with pytest.raises(ZeroDivisionError), publisher:
        raise ZeroDivisionError


def test_silent_kafka_is_transient() -> None:
    publisher, producer = make()
    producer.raises = [KafkaException(KafkaError(KafkaError._TRANSPORT, "no broker"))]
    with pytest.raises(TransientError, match="no broker.*KAFKA_BOOTSTRAP_SERVERS"):
        publisher.check_topics(1)


def test_missing_topic_is_named() -> None:
    publisher, producer = make(channels=["web", "chat"])
    producer.topics = {"eu.touchpoints.chat": None}
    with pytest.raises(ConfigurationError, match="no topic eu.touchpoints.web: run"):
        publisher.check_topics(1)


@contextmanager
def running_broker() -> Iterator[str]:
    [port] = choose_ports([(0, "")])
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(broker_arguments(port), stdout=quiet, stderr=quiet)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(timeout=30)


def read_values(settings: Settings, topic: str, count: int) -> list[bytes]:
    config = {"group.id": "test", "enable.auto.commit": False, **kafka_config(settings)}
    consumer = Consumer(config)  # assigned, not subscribed: joining a group takes long
    numbers = range(settings.partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
    values: list[bytes] = []
    try:
        while len(values) < count:
            messages = consumer.consume(count - len(values), timeout=30)
            assert messages, f"only {len(values)} of {count} records arrived"
            values += [message.value() or b"" for message in messages]
    finally:
        consumer.close()
    return values


@pytest.mark.integration
def test_touchpoints_arrive_on_the_embedded_broker() -> None:
    with running_broker() as servers:
        settings = Settings(kafka_bootstrap_servers=servers, kafka_idempotence=False)
        apply_topics(settings)
        with Publisher(settings, channels=["web"]) as publisher:
            publisher.check_topics(10)
            for number in range(500):
                publisher.publish("web", {**TOUCHPOINT, "event_id": str(number)})
        assert publisher.delivered == 500
        values = read_values(settings, "touchpoints.web", 500)
    codec = TouchpointCodec(max_payload_bytes=settings.max_payload_bytes)
    arrived = {codec.decode("web", value)["event_id"] for value in values}
    assert arrived == {str(number) for number in range(500)}
