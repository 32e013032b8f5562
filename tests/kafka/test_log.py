"""What the log rests on, on a real broker: large batches, idempotence, compaction, retention."""

import asyncio
import random
import struct
import time
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Place
from brokers import KafkaCluster
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from stacks import records_of

from touchstream.streams.admin import apply_topics
from touchstream.streams.app import FETCH_BYTES
from touchstream.streams.changelog import Changelog
from touchstream.streams.kafka_config import aiokafka_config
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.log import Entry
from touchstream.streams.settings import Settings
from touchstream.streams.topics import BATCH_BYTES, CUSTOMER, IDENTITY, state_topic

STATE = state_topic("stitch")
PATIENCE_SECONDS = 60.0
PRODUCER_ID_AT = 43
"""Where the producer's id stands in the header of a record batch; -1: not idempotent."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture
def settings(cluster: KafkaCluster) -> Settings:
    settings = cluster.settings(Settings(partitions=1))
    apply_topics(settings)
    return settings


async def append(settings: Settings, topic: str, *batches: list[Entry]) -> None:
    log = KafkaLog(settings)
    for batch in batches:
        await log.append(topic, 0, batch)
    await log.close()


def largest_batch() -> list[Entry]:
    """As large as a lane makes them, and no compression would help."""
    value = random.Random(1).randbytes(BATCH_BYTES // 16 - 64)
    return [(b"key %d" % n, value, ()) for n in range(16)]


def test_the_largest_batch_is_stored_and_restored(settings: Settings) -> None:
    batch = largest_batch()
    asyncio.run(append(settings, STATE, batch))
    records = records_of(KafkaLog(settings), STATE, 0, 0)
    assert [(record.key, record.value) for record in records] == [entry[:2] for entry in batch]


def test_the_largest_batch_reaches_a_worker_though_it_fetches_less(settings: Settings) -> None:
    async def consumed() -> list[bytes]:
        consumer = AIOKafkaConsumer(
            **aiokafka_config(settings),
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        consumer.assign([Place(settings.topic_prefix + IDENTITY, 0)])
        await consumer.start()
        try:
            return [(await consumer.getone()).key for _ in batch]
        finally:
            await consumer.stop()

    batch = largest_batch()
    asyncio.run(append(settings, IDENTITY, batch))
    assert asyncio.run(consumed()) == [key for key, _, _ in batch]


@pytest.mark.parametrize("is_on", [True, False])
def test_batches_carry_the_id_of_an_idempotent_producer(
    cluster: KafkaCluster, settings: Settings, is_on: bool
) -> None:
    chosen = settings.model_copy(update={"kafka_idempotence": is_on})
    asyncio.run(append(chosen, CUSTOMER, [(b"key", b"value", ())]))
    folder = cluster.brokers[0].data / f"{settings.topic_prefix}{CUSTOMER}-0"
    header = (folder / f"{0:020}.log").read_bytes()[:61]
    [producer] = struct.unpack_from(">q", header, PRODUCER_ID_AT)
    assert (producer >= 0) is is_on


def configure(cluster: KafkaCluster, topic: str, **values: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    client = cluster.admin()
    [done] = client.incremental_alter_configs([resource]).values()
    done.result()


def key_of(number: int) -> bytes:
    return b"key %d" % (number % 7)


def value_of(number: int) -> bytes:
    return (b"%d" % number) * 1_000


def test_a_compacted_changelog_is_restored_and_written_on(
    cluster: KafkaCluster, settings: Settings
) -> None:
    eager = {"min_compaction_lag_ms": "0", "min_cleanable_dirty_ratio": "0.01"}
    configure(cluster, settings.topic_prefix + STATE, segment_bytes=str(1 << 20), **eager)

    async def write(first: int, last: int) -> Changelog:
        log = KafkaLog(settings)
        changelog = Changelog(log, STATE, 0, 7)
        await changelog.take()
        assert changelog.image.applied == first - 1
        for number in range(first, last):
            await changelog.append({key_of(number): value_of(number)}, number)
        await log.close()
        return changelog

    written = asyncio.run(write(0, 1_500))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(left := records_of(KafkaLog(settings), STATE, 0, 0)) > 2_000:
        assert time.monotonic() < deadline, f"nothing is compacted: {len(left)} records"
        time.sleep(0.2)
    assert left[-1].offset == written.image.end - 1 == 3_000
    restored = asyncio.run(write(1_500, 1_507))
    assert restored.image.values == {
        b"key %d" % (n % 7): b"%d" % n * 1000 for n in range(1500, 1507)
    }
    assert restored.image.end == 3_000 + 1 + 1 + 14, "nothing was repeated or repaired"


def test_reading_begins_where_retention_has_left_something(
    cluster: KafkaCluster, settings: Settings
) -> None:
    batches: list[list[Entry]] = [[(b"%d" % n, b"", ())] for n in range(10)]
    asyncio.run(append(settings, IDENTITY, *batches))
    client = cluster.admin()
    before = TopicPartition(settings.topic_prefix + IDENTITY, 0, 6)
    [done] = client.delete_records([before]).values()
    done.result()
    for start in (0, 3):
        records = records_of(KafkaLog(settings), IDENTITY, 0, start)
        assert [record.offset for record in records] == [6, 7, 8, 9]
