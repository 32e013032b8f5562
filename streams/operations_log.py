"""The log of operations: what an operator says goes in, its place in the log comes out.

All records stand in partition 0, so that there is one order of them all.
"""

from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import KafkaException, Producer

from touchstream.streams.admin import unreachable
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.settings import Settings
from touchstream.streams.topics import BATCH_BYTES, OPERATIONS

TIMEOUT_SECONDS = 10.0


class OperationProducer(Protocol):
    """What is needed of confluent-kafka's Producer."""

    def produce(
        self, topic: str, *, value: bytes, partition: int, on_delivery: Callable[[Any, Any], None]
    ) -> None:
        """Queue a record."""

    def flush(self, timeout: float) -> int:
        """Wait for delivery; returns how many records are left."""

    def list_topics(self, *, timeout: float) -> Any:
        """Metadata of the cluster."""


def publish_operation(
    settings: Settings,
    value: bytes,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    connect: Callable[[dict[str, Any]], OperationProducer] = Producer,
) -> int:
    """Append one operation, acknowledged by all replicas; returns its number, from 1 on.

    TransientError when that cannot be said: it may or may not stand in the log then.
    """
    producer = connect(_config(settings, timeout_seconds))
    topic = settings.topic_prefix + OPERATIONS
    try:
        known = producer.list_topics(timeout=timeout_seconds).topics
    except KafkaException as error:
        raise unreachable(settings, error) from None
    if topic not in known:
        raise ConfigurationError(f"Kafka has no topic {topic}: run `touchstream topics apply`")
    delivered: list[tuple[Any, Any]] = []
    producer.produce(
        topic, value=value, partition=0, on_delivery=lambda *report: delivered.append(report)
    )
    producer.flush(timeout_seconds + 1)
    problem, message = delivered[0] if delivered else ("no answer", None)
    if problem is not None or message is None:
        raise TransientError(
            f"Kafka at {settings.kafka_bootstrap_servers} did not acknowledge the operation"
            f" ({problem}): look whether it took effect before you say it again"
        )
    return int(message.offset()) + 1


def _config(settings: Settings, timeout_seconds: float) -> dict[str, Any]:
    return {
        **kafka_config(settings),
        "acks": "all",
        "enable.idempotence": settings.kafka_idempotence,
        "message.timeout.ms": int(timeout_seconds * 1000),
        "message.max.bytes": BATCH_BYTES,
        "log_level": 0,
    }
