"""The log in Kafka: record batches through aiokafka, reads to the end through confluent-kafka."""

import asyncio
import logging
import random
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from touchstream.streams.errors import TransientError
from touchstream.streams.health import Health
from touchstream.streams.kafka_config import aiokafka_config, kafka_config
from touchstream.streams.log import Entry, Reading, value_of
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.topics import BATCH_BYTES

log = logging.getLogger(__name__)
REQUEST_BYTES = BATCH_BYTES + (1 << 19)
READ_AT_ONCE = 1_000
READ_AHEAD_KIB = 16 << 10
"""What a reader may have fetched and not given out; all partitions of a worker read at a time."""
LONGEST_BACKOFF_SECONDS = 5.0
T = TypeVar("T")
Batches = Generator[list[Record], None, None]


class KafkaLog:
    """Appends are retried until the broker takes them; a repetition is skipped by its readers."""

    def __init__(self, settings: Settings, health: Health | None = None) -> None:
        """`health` learns of calls, retries and reads."""
        self._settings = settings
        self._health = health or Health()
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection."""
        if self._producer:
            await self._producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **aiokafka_config(self._settings),
                    acks="all",
                    enable_idempotence=self._settings.kafka_idempotence,
                    max_batch_size=REQUEST_BYTES,
                    max_request_size=REQUEST_BYTES,
                    request_timeout_ms=20_000,
                )
                await producer.start()
                self._producer = producer
        return self._producer

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Append one record batch; returns the offset of its first record."""
        backoff = 0.05
        while True:
            try:
                with self._health.kafka.call():
                    offset = await self._append_once(topic, partition, entries)
            except MessageSizeTooLargeError:
                raise
            except AioKafkaError as error:
                if not is_retriable(error):
                    raise
                self._health.kafka.failed()
                log.warning("append tried again: topic=%s error=%r", topic, error)
            else:
                self._health.kafka.answered()
                return offset
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    async def _append_once(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        producer = self._producer or await self._connected()
        batch = producer.create_batch()
        for key, value, headers in entries:
            if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
                raise MessageSizeTooLargeError(f"a record for {topic} is larger than a batch")
        name = self._settings.topic_prefix + topic
        delivered = await (await producer.send_batch(batch, name, partition=partition))
        return int(delivered.offset)

    async def read(self, topic: str, partition: int, start: int) -> Reading:
        """Read from `start` to the end of the partition, in threads."""
        batches = self.batches(topic, partition, start)
        try:
            while (records := await _in_thread(lambda: next(batches, None))) is not None:
                yield records
        finally:
            await _in_thread(batches.close)

    def batches(self, topic: str, partition: int, start: int) -> Batches:
        """Read from `start` to the end: to the fetch's own end of partition.

        Asking the broker for the latest offset instead is wrong on brokers that answer with the
        base of the last batch. Batches may be empty, so that each comes soon.
        """
        name = self._settings.topic_prefix + topic
        consumer = Consumer(
            {
                **kafka_config(self._settings),
                "group.id": f"{self._settings.group}-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": READ_AHEAD_KIB,
            }
        )
        consumer.assign([TopicPartition(name, partition, start or OFFSET_BEGINNING)])
        try:
            yield from _to_end(consumer, topic, self._health.read)
        finally:
            consumer.close()


async def _in_thread(call: Callable[[], T]) -> T:
    """Run in a thread, to the end even when cancelled: it may have what nobody else may touch."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    finally:
        await asyncio.wait([running])


def is_retriable(error: AioKafkaError) -> bool:
    """Whether an append may be tried again: also one that the client has held back too long."""
    return error.retriable or isinstance(error, KafkaTimeoutError)


def _to_end(consumer: Consumer, topic: str, progress: Callable[[], object]) -> Batches:
    is_over = False
    while not is_over:
        messages = consumer.consume(READ_AT_ONCE, 0.1)
        if messages:
            progress()
        records: list[Record] = []
        for message in messages:
            error: KafkaError | None = message.error()
            if error is None:
                records.append(_record(topic, message))
            elif error.code() == KafkaError._PARTITION_EOF:
                is_over = True
                break
            elif error.fatal() or not error.retriable():
                raise TransientError(f"reading {topic} failed: {error}")
        yield records


def _record(topic: str, message: Message) -> Record:
    partition: Any = message.partition()
    offset: Any = message.offset()
    at_ms = message.timestamp()[1]
    value = message.value()
    if value is None:
        headers: Any = message.headers() or []
        value = value_of(value, headers)
    return Record(topic, partition, offset, at_ms, message.key(), value)
