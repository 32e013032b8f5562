"""Everything is read again, into nothing and into what is there already: rows 16 and 20."""

import random
import subprocess
import sys

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition
from load import touchpoints
from rig import Rig, RigOf, wait_for
from stacks import records_of
from truth import seen

from touchstream.streams.admin import admin_client
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.stack import prepare_topics_and_tables
from touchstream.streams.topics import CUSTOMER, IDENTITY, STATES, TOUCHPOINTS

pytestmark = pytest.mark.integration
TABLES = (
    "touchpoint_facts",
    "identity_states",
    "customer_states",
    "metric_panes",
    "session_states",
)


def stop_workers(loaded: Rig) -> None:
    """All of them; their group has no members afterwards."""
    loaded.stack.workers.stop()
    client, group = admin_client(loaded.settings), loaded.settings.group

    def is_empty() -> bool:
        return not client.describe_consumer_groups([group])[group].result().members

    wait_for(is_empty, "the group has members")


def test_16_state_is_wiped_and_everything_computed_again(rig_of: RigOf, rng: random.Random) -> None:
    """As `docs/operations.md` says: rebuilding from scratch."""
    with rig_of(workers=2, repeats=True) as loaded:
        loaded.publish(touchpoints(rng, 40))
        loaded.check()
        before = seen(loaded.client)
        loaded.witness.end()
        stop_workers(loaded)
        client, prefix = admin_client(loaded.settings), loaded.settings.topic_prefix
        gone = [prefix + topic for topic in (IDENTITY, CUSTOMER, *STATES)]
        for done in client.delete_topics(gone).values():
            done.result()
        wait_for(lambda: not {*gone} & {*client.list_topics().topics}, "topics do not go")
        forget_offsets(loaded)
        loaded.client.command(f"DROP DATABASE {loaded.settings.clickhouse_database}")
        prepare_topics_and_tables(loaded.settings)
        loaded.start_workers(2)
        loaded.ledger.check(loaded.client)
        assert seen(loaded.client) == before


def checksums(loaded: Rig) -> dict[str, object]:
    """Every column of every row that readers see."""
    return {
        table: loaded.client.query(
            f"SELECT count(), groupBitXor(cityHash64(*)) FROM {table} FINAL"
        ).result_rows
        for table in TABLES
    }


def test_20_all_offsets_go_back_to_the_beginning_under_a_second_migration(
    rig_of: RigOf, rng: random.Random
) -> None:
    with rig_of(workers=2, repeats=True) as loaded:
        loaded.publish(touchpoints(rng, 40))
        loaded.check()
        stop_workers(loaded)
        before, offsets = checksums(loaded), committed(loaded)
        forget_offsets(loaded)
        assert set(committed(loaded)) == {OFFSET_INVALID}
        loaded.start_workers(2)
        command = [sys.executable, "-P", "-m", "touchstream.streams.cli", "migrate"]
        environment = worker_environment(loaded.settings, 0)
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
        wait_for(lambda: is_read_again(loaded, offsets), "not everything is read again", 180)
        assert checksums(loaded) == before
        more = touchpoints(rng, 5, "more ")
        loaded.publish(more)
        loaded.check()


def places_of(loaded: Rig, offset: int) -> list[TopicPartition]:
    """Every partition that has touchpoints, or messages between agents."""
    prefix, numbers = loaded.settings.topic_prefix, range(loaded.settings.partitions)
    topics = (*TOUCHPOINTS, IDENTITY, CUSTOMER)
    return [
        TopicPartition(prefix + topic, number, offset) for topic in topics for number in numbers
    ]


def forget_offsets(loaded: Rig) -> None:
    """Without its group, which has no members, everything is read from the first offset."""
    client, group = admin_client(loaded.settings), loaded.settings.group
    client.delete_consumer_groups([group])[group].result()


def committed(loaded: Rig) -> list[int]:
    """How far the group is in each of them."""
    consumer = Consumer({**kafka_config(loaded.settings), "group.id": loaded.settings.group})
    try:
        return [each.offset for each in consumer.committed(places_of(loaded, 0), timeout=30)]
    finally:
        consumer.close()


def is_read_again(loaded: Rig, before: list[int]) -> bool:
    """Whether the group is as far as before, and at the end of what ingest has sent again."""
    now, log = committed(loaded), KafkaLog(loaded.settings)
    places = places_of(loaded, 0)
    if any(offset < then for offset, then in zip(now, before, strict=True)):
        return False
    ends = [
        records_of(log, topic, place.partition, max(offset, 0))
        for place, offset in zip(places, now, strict=True)
        if (topic := place.topic.removeprefix(loaded.settings.topic_prefix)) in (IDENTITY, CUSTOMER)
    ]
    return not any(ends)
