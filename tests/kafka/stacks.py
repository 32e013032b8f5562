"""What a test runs on: the broker that was chosen, alone or below the whole product."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from brokers import KafkaCluster

from touchstream.streams.admin import apply_topics
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.broker import broker_answers, broker_arguments
from touchstream.streams.local.ports import LOOPBACK, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings

PARTITIONS = 4
IMPATIENT = Settings(session_timeout_seconds=3, rebalance_timeout_seconds=2)
"""Partitions of a killed worker are given away after the session timeout."""


def local_stack(
    folder: Path,
    settings: Settings,
    *,
    workers: int,
    kafka: KafkaCluster | None,
    on_restart: Callable[[str], None] = logging.warning,
) -> LocalStack:
    """Workers, an embedded ClickHouse, and `kafka` or else an embedded broker, on free ports."""
    if kafka:
        settings = kafka.settings(settings)
    options = LocalOptions(folder, workers, None if kafka else 0, 0, 0)
    return LocalStack(settings, options, on_restart=on_restart)


def records_of(log: KafkaLog, topic: str, partition: int, start: int = 0) -> list[Record]:
    """Everything from `start` to the end of a partition."""
    return [record for batch in log.batches(topic, partition, start) for record in batch]


@contextmanager
def broker_alone(folder: Path, kafka: KafkaCluster | None) -> Iterator[Settings]:
    """Settings of a broker with all topics and nothing else: no ClickHouse, no workers."""
    with ExitStack() as running:
        if kafka:
            settings = kafka.settings(Settings(partitions=PARTITIONS))
        else:
            settings = running.enter_context(_embedded(folder))
        apply_topics(settings)
        yield settings


@contextmanager
def _embedded(folder: Path) -> Iterator[Settings]:
    [port] = choose_ports([(0, "")])
    broker = Child(Command("broker", broker_arguments(port), folder / "broker.log"))
    try:
        broker.wait_until(broker_answers(port), within_seconds=60)
        address = f"{LOOPBACK}:{port}"
        yield Settings(
            kafka_bootstrap_servers=address, kafka_idempotence=False, partitions=PARTITIONS
        )
    finally:
        broker.stop()
