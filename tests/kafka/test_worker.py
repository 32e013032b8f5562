"""What a worker does with a Kafka that is not as it would like."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import oracle
import pytest
from brokers import KafkaCluster
from confluent_kafka import TopicPartition
from stacks import IMPATIENT, local_stack, records_of
from truth import PATIENCE_SECONDS, publish, wait_for_count, wait_for_more, wait_until_right

from touchstream.streams.admin import apply_topics
from touchstream.streams.clickhouse import connect
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.settings import Settings
from touchstream.streams.topics import IDENTITY, touchpoint_topic

pytestmark = pytest.mark.integration


def test_a_session_timeout_that_kafka_refuses_is_named(tmp_path: Path) -> None:
    strict = {"group.min.session.timeout.ms": "6000"}
    with (
        KafkaCluster(tmp_path / "kafka", properties=strict) as cluster,
        local_stack(tmp_path / "stack", IMPATIENT, workers=1, kafka=cluster) as stack,
        pytest.raises(ConfigurationError, match="TOUCHSTREAM_SESSION_TIMEOUT_SECONDS"),
    ):
        stack.wait(PATIENCE_SECONDS)


def test_what_retention_has_deleted_unread_is_gone_and_the_rest_is_processed(
    tmp_path: Path,
) -> None:
    published = [("web", visit(number)) for number in range(40)]
    with KafkaCluster(tmp_path / "kafka") as cluster:
        settings = cluster.settings(IMPATIENT)
        apply_topics(settings)
        publish(settings, published)
        asyncio.run(append_junk(settings, IDENTITY, 10))
        gone = delete_half(cluster, settings, touchpoint_topic("web"))
        assert 0 < gone < len(published)
        assert delete_half(cluster, settings, IDENTITY) == 5
        options = LocalOptions(tmp_path / "stack", 1, None, 0, 0)
        with LocalStack(settings, options) as stack, connect(stack.settings) as client:
            wait_for_count(client, len(published) - gone)
            letters = client.query("SELECT topic, count() FROM dead_letters GROUP BY topic")
            assert letters.result_rows == [(IDENTITY, 5)]


@pytest.mark.long
def test_a_worker_that_was_frozen_while_others_took_over_does_no_harm(tmp_path: Path) -> None:
    published = oracle.random_touchpoints(random.Random(3), people=2_000, number=3_000)
    with (
        KafkaCluster(tmp_path / "kafka") as cluster,
        local_stack(tmp_path / "stack", IMPATIENT, workers=2, kafka=cluster) as stack,
        connect(stack.settings) as client,
    ):
        publish(stack.settings, published[:1_000])
        wait_for_more(client, 0)
        frozen = stack.workers.pid(0)
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        try:
            publish(stack.settings, published[1_000:2_000])
            wait_for_count(client, 2_000)
        finally:
            os.kill(frozen, signal.SIGCONT)
        publish(stack.settings, published[2_000:])
        wait_until_right(client, published)


def visit(number: int) -> dict[str, Any]:
    """A touchpoint of somebody who does nothing else."""
    identifiers = [{"kind": "crm_id", "value": f"person {number}", "verified": True}]
    fields = {"action": "page_viewed", "identifiers": identifiers}
    return {**fields, "event_id": f"visit {number}", "occurred_at": 1_790_000_000_000}


async def append_junk(settings: Settings, topic: str, records: int) -> None:
    log = KafkaLog(settings)
    await log.append(topic, 0, [(b"key", b"junk", ())] * records)
    await log.close()


def delete_half(cluster: KafkaCluster, settings: Settings, topic: str) -> int:
    """Delete the older half of each partition, as retention does; returns how many records."""
    log = KafkaLog(settings)
    halves = {p: len(records_of(log, topic, p, 0)) // 2 for p in range(settings.partitions)}
    client, name = cluster.admin(), settings.topic_prefix + topic
    before = [TopicPartition(name, partition, half) for partition, half in halves.items()]
    for done in client.delete_records(before).values():
        done.result()
    return sum(halves.values())
