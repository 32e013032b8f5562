"""Publishing an operation: to partition 0, acknowledged, with its place in the log."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.operations_log import publish_operation
from touchstream.streams.settings import Settings

SETTINGS = Settings(topic_prefix="t.")


class Broker:
    """Stands in for confluent-kafka's producer."""

    def __init__(self, *, offset: int | None = 7, problem: object = None) -> None:
        self.config: dict[str, Any] = {}
        self.records: list[tuple[str, bytes, int]] = []
        self.topics: dict[str, object] | None = {"t.cx.operations": object()}
        self._report = (problem, SimpleNamespace(offset=lambda: offset))
        self._silent = offset is None

    def __call__(self, config: dict[str, Any]) -> "Broker":
        self.config = config
        return self

    def produce(
        self, topic: str, *, value: bytes, partition: int, on_delivery: Callable[[Any, Any], None]
    ) -> None:
        self.records.append((topic, value, partition))
        if not self._silent:
            on_delivery(*self._report)

    def flush(self, timeout: float) -> int:
        return 0

    def list_topics(self, *, timeout: float) -> Any:
        if self.topics is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics=self.topics)


def test_an_operation_goes_to_partition_zero_and_has_a_number_from_one_on() -> None:
    broker = Broker(offset=0)
    assert publish_operation(SETTINGS, b"word", connect=broker) == 1
    assert broker.records == [("t.cx.operations", b"word", 0)]


def test_all_replicas_must_have_it() -> None:
    broker = Broker()
    publish_operation(SETTINGS, b"word", connect=broker)
    assert (broker.config["acks"], broker.config["enable.idempotence"]) == ("all", True)


@pytest.mark.parametrize("broker", [Broker(offset=None), Broker(problem="timed out")])
def test_what_is_not_acknowledged_is_an_error(broker: Broker) -> None:
    with pytest.raises(TransientError, match="did not acknowledge"):
        publish_operation(SETTINGS, b"word", connect=broker)


def test_a_missing_topic_says_what_to_do() -> None:
    broker = Broker()
    broker.topics = {}
    with pytest.raises(ConfigurationError, match="run `touchstream topics apply`"):
        publish_operation(SETTINGS, b"word", connect=broker)
    assert broker.records == []


def test_a_silent_kafka_says_where_it_was_looked_for() -> None:
    broker = Broker()
    broker.topics = None
    with pytest.raises(TransientError, match=r"does not answer at 127\.0\.0\.1:9092"):
        publish_operation(SETTINGS, b"word", connect=broker)
