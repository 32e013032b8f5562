"""Publishing: valid touchpoints in, records on the channels' topics out, each delivered once.

    with Publisher(load_settings()) as publisher:
        publisher.publish("web", {"event_id": "1", "occurred_at": datetime.now(UTC), ...})

`publish` checks and queues; `flush`, which leaving the `with` block calls, waits until the broker
has everything and raises TransientError when it has not. An idempotent producer retries without
making duplicates; what a publisher sends again after a crash is recognised by its event_id.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from hashlib import blake2b
from types import TracebackType
from typing import Any, Protocol, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CHANNELS, touchpoint_topic
from touchstream.streams.validation import InvalidTouchpoint, Touchpoint, validate_touchpoint

OnDelivery = Callable[[str, str, str | None], None]
"""Called with channel, event id, and what went wrong, if anything did."""

FLUSH_SECONDS = 60.0
FULL_QUEUE_SECONDS = 0.1
_log = logging.getLogger("touchstream.publisher")


class KafkaProducer(Protocol):
    """What the publisher needs of confluent-kafka's Producer."""

    def produce(
        self, topic: str, *, value: bytes, key: bytes, on_delivery: Callable[[Any, Any], None]
    ) -> None:
        """Queue a record; BufferError when the queue is full."""

    def poll(self, timeout: float) -> int:
        """Call delivery reports back."""

    def flush(self, timeout: float) -> int:
        """Wait for the queue to empty; returns how many records are left."""

    def list_topics(self, topic: str | None = None, *, timeout: float) -> Any:
        """Metadata of the cluster."""


class Publisher:
    """Publishes touchpoints; one instance serves one thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        channels: Collection[str] = CHANNELS,
        on_delivery: OnDelivery | None = None,
        kafka: Mapping[str, Any] | None = None,
        connect: Callable[[dict[str, Any]], KafkaProducer] = Producer,
    ) -> None:
        """Connect for `channels`; `kafka` overrides producer settings, in librdkafka's names."""
        self.delivered = 0
        self.failed = 0
        self._servers = settings.kafka_bootstrap_servers
        self._codec = TouchpointCodec.from_settings(settings, channels=channels)
        prefix = settings.topic_prefix
        self._topics = {channel: prefix + touchpoint_topic(channel) for channel in channels}
        self._on_delivery = on_delivery
        self._reported = 0
        self._error = ""
        config = {**producer_config(settings), **(kafka or {}), "error_cb": self._note_error}
        self._producer = connect({"logger": _log, **config})

    def publish(self, channel: str, touchpoint: Touchpoint) -> None:
        """Check and queue one touchpoint; InvalidTouchpoint names the field that is wrong.

        Waits while the local queue is full, at most until its oldest record times out.
        """
        validate_touchpoint(channel, touchpoint)
        if channel not in self._topics:
            raise InvalidTouchpoint(channel, "channel", "is not one this publisher is for")
        value = self._codec.encode(channel, touchpoint)
        report = partial(self._count, channel, touchpoint["event_id"])
        self._queue(self._topics[channel], record_key(touchpoint), value, report)

    def flush(self, timeout_seconds: float = FLUSH_SECONDS) -> None:
        """Wait until all is delivered; TransientError says how many touchpoints are not."""
        waiting = self._producer.flush(timeout_seconds)
        lost = self.failed - self._reported
        self._reported = self.failed
        if waiting or lost:
            cause = f" ({self._error})" if self._error else ""
            raise TransientError(
                f"{waiting + lost} touchpoints were not delivered to Kafka at {self._servers}"
                f"{cause}: check TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS and publish them again"
            )

    def check_topics(self, timeout_seconds: float) -> None:
        """Raise TransientError if Kafka is silent, ConfigurationError if it lacks the topics."""
        try:
            known = self._producer.list_topics(timeout=timeout_seconds).topics
        except KafkaException as error:
            self._producer.poll(0)  # what the client learned about the brokers
            cause = self._error or error.args[0].str()
            raise TransientError(
                f"Kafka at {self._servers} does not answer ({cause}): "
                "check TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS"
            ) from None
        missing = [topic for topic in self._topics.values() if topic not in known]
        if missing:
            raise ConfigurationError(
                f"Kafka at {self._servers} has no topic {', '.join(missing)}: "
                "run `touchstream topics apply`"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Deliver what is queued; after an error, without hiding it."""
        if kind is None:
            self.flush()
        else:
            self._producer.flush(FULL_QUEUE_SECONDS)

    def _queue(
        self, topic: str, key: bytes, value: bytes, report: Callable[[Any, Any], None]
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, on_delivery=report)
            except BufferError:
                self._producer.poll(FULL_QUEUE_SECONDS)
                continue
            except KafkaException as error:
                raise TransientError(
                    f"Kafka refuses more touchpoints ({error.args[0].str()}): "
                    "start the publisher again"
                ) from None
            self._producer.poll(0)
            return

    def _count(self, channel: str, event_id: str, error: KafkaError | None, _message: Any) -> None:
        if error is None:
            self.delivered += 1
        else:
            self.failed += 1
            self._error = self._error or error.str()
        if self._on_delivery:
            self._on_delivery(channel, event_id, None if error is None else error.str())

    def _note_error(self, error: KafkaError) -> None:
        self._error = error.str()


def producer_config(settings: Settings) -> dict[str, Any]:
    """Producer settings: everything acknowledged by all replicas, once and in order."""
    return {
        **kafka_config(settings),
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 20,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",  # as Java's clients: a key has one partition for all
        "message.timeout.ms": 120_000,
        "message.max.bytes": max(1_000_000, settings.max_payload_bytes + 65_536),
    }


def record_key(touchpoint: Touchpoint) -> bytes:
    """Key of the record: a hash of the first identifier, so that no address stands in keys."""
    first = touchpoint["identifiers"][0]
    return blake2b(f"{first['kind']}:{first['value']}".encode(), digest_size=16).digest()
