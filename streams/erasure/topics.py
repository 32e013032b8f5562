"""What Kafka has of customers that are to be erased, topic by topic.

Messages between agents go as soon as they are processed. Dead letters and alerts of others are
written again behind those that go. Of state, Kafka's compaction removes what newer values replace;
touchpoints as they were published go with their retention.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from touchstream.streams.admin import admin_client
from touchstream.streams.errors import TransientError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.settings import Settings
from touchstream.streams.topics import BATCH_BYTES, CUSTOMER, IDENTITY

BETWEEN_AGENTS = (IDENTITY, CUSTOMER)
TIMEOUT_SECONDS = 20.0
DELETE_SECONDS = 10.0
READ_AT_ONCE = 10_000
READ_SECONDS = 0.05
MOST_QUEUED = 100
"""Records that wait to be written; each may have some megabytes."""
Test = Callable[[Message], bool]


class Rewritten(NamedTuple):
    """What became of a topic."""

    removed: int
    kept: int
    """Records of others that were written again, because they stood before one that went."""


class ErasureTopics:
    """Reads and changes topics; nothing here joins the group of the workers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ends(self) -> dict[tuple[str, int], int]:
        """Where the topics between agents end now, counted by reading on from what is processed.

        Brokers may answer the question for it with the base of the last batch.
        """
        found = self.applied()
        for topic in BETWEEN_AGENTS:
            starts = {p: offset for (name, p), offset in found.items() if name == topic}
            for record in self.scan(topic, starts):
                found[topic, _partition(record)] = _offset(record) + 1
        return found

    def applied(self) -> dict[tuple[str, int], int]:
        """How far workers have processed the topics between agents; offset 0 when never."""
        places = [(topic, p) for topic in BETWEEN_AGENTS for p in range(self._settings.partitions)]
        wanted = [TopicPartition(self._name(topic), p) for topic, p in places]
        consumer = self._consumer(self._settings.group)
        try:
            committed = consumer.committed(wanted, timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise TransientError(f"Kafka does not say what is processed: {error}") from None
        finally:
            consumer.close()
        return {place: max(found.offset, 0) for place, found in zip(places, committed, strict=True)}

    def truncate(self) -> list[str]:
        """Delete the processed messages between agents; what could not be deleted, in words."""
        upto = [
            TopicPartition(self._name(topic), partition, offset)
            for (topic, partition), offset in self.applied().items()
            if offset
        ]
        return self._delete_before(upto)

    def rewrite(self, topic: str, goes: Test) -> tuple[Rewritten, list[str]]:
        """Delete the records that go; those of others before them are written again first."""
        last: dict[int, int] = {}
        removed = 0
        for record in self.scan(topic):
            if goes(record):
                last[_partition(record)] = _offset(record)
                removed += 1
        kept = sum(
            self._append(topic, partition, self._others(topic, partition, goes, offset))
            for partition, offset in last.items()
        )
        before = [TopicPartition(self._name(topic), p, offset + 1) for p, offset in last.items()]
        return Rewritten(removed, kept), self._delete_before(before)

    def _others(self, topic: str, partition: int, goes: Test, last: int) -> Iterator[Message]:
        """Records that stay, up to the offset of the last one that goes."""
        for record in self.scan(topic, {partition: 0}):
            if _offset(record) > last:
                return
            if not goes(record):
                yield record

    def scan(self, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Message]:
        """Every record of a topic, or of some partitions from an offset on, to their ends.

        A partition's records come in order.
        """
        starts = starts or dict.fromkeys(range(self._settings.partitions), 0)
        consumer = self._consumer(f"{self._settings.group}-reader")
        consumer.assign([TopicPartition(self._name(topic), *start) for start in starts.items()])
        unread = len(starts)
        try:
            while unread:
                for message in consumer.consume(READ_AT_ONCE, READ_SECONDS):
                    error = message.error()
                    if error is None:
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:
                        unread -= 1
                    elif error.fatal() or not error.retriable():
                        raise TransientError(f"reading {topic} failed: {error}")
        finally:
            consumer.close()

    def _append(self, topic: str, partition: int, records: Iterable[Message]) -> int:
        """Append records to a partition, all of them; returns how many."""
        producer = Producer(
            {
                **kafka_config(self._settings),
                "acks": "all",
                "enable.idempotence": self._settings.kafka_idempotence,
                "message.max.bytes": BATCH_BYTES,
            }
        )
        failed: list[KafkaError] = []
        number = 0
        for number, record in enumerate(records, 1):
            producer.produce(
                self._name(topic),
                record.value(),
                record.key(),
                partition,
                on_delivery=lambda error, _: failed.append(error) if error else None,
                headers=record.headers(),
            )
            if number % MOST_QUEUED == 0:
                producer.flush(TIMEOUT_SECONDS)
        if producer.flush(TIMEOUT_SECONDS) or failed:
            raise TransientError(f"Kafka did not take records of {topic} again: nothing is deleted")
        return number

    def _delete_before(self, places: list[TopicPartition]) -> list[str]:
        problems = set()
        admin = admin_client(self._settings)
        deleted = admin.delete_records(places, request_timeout=DELETE_SECONDS) if places else {}
        for place, future in deleted.items():
            try:
                future.result()
            except KafkaException as error:
                problems.add(f"{place.topic}: {error.args[0].str()}")
        return sorted(problems)

    def _consumer(self, group: str) -> Consumer:
        return Consumer(
            {
                **kafka_config(self._settings),
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
            }
        )

    def _name(self, topic: str) -> str:
        return self._settings.topic_prefix + topic


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def _partition(message: Message) -> int:
    partition = message.partition()
    assert partition is not None
    return partition
