"""Brokers are killed, stopped and frozen under load: nothing is lost, nothing counts twice."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oracle
import pytest
from broker import Broker
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from stacks import IMPATIENT, local_stack
from truth import count, wait_for_more, wait_until_right

from touchstream.streams.clickhouse import connect
from touchstream.streams.publisher import Publisher
from touchstream.streams.topics import IDENTITY, state_topic, touchpoint_topic

pytestmark = pytest.mark.integration
Fault = Callable[[Broker], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "killed": Broker.killed,
    "stopped": Broker.stopped,
    "frozen": Broker.frozen,
}
LEADERS = (touchpoint_topic("web"), IDENTITY, state_topic("profile"))
"""Whoever leads partition 0 of one of these is the victim, one after the other."""


@dataclass(frozen=True)
class Load:
    """The whole product on a cluster, and somebody who publishes."""

    cluster: KafkaCluster
    prefix: str
    client: Client
    publisher: Publisher

    def publish(self, touchpoints: Sequence[oracle.Published]) -> None:
        for channel, touchpoint in touchpoints:
            self.publisher.publish(channel, touchpoint)

    def publish_and_see_work(self, touchpoints: Sequence[oracle.Published]) -> None:
        """Return while the workers are busy."""
        before = count(self.client)
        self.publish(touchpoints)
        self.publisher.flush()
        wait_for_more(self.client, before)


@contextmanager
def load(folder: Path, *, brokers: int) -> Iterator[Load]:
    with (
        KafkaCluster(folder / "kafka", brokers=brokers) as cluster,
        local_stack(folder / "stack", IMPATIENT, workers=2, kafka=cluster) as stack,
        connect(stack.settings) as client,
        Publisher(stack.settings) as publisher,
    ):
        yield Load(cluster, stack.settings.topic_prefix, client, publisher)


def seldom(fault: str) -> Any:
    return pytest.param(fault, marks=pytest.mark.long)


def halves(parts: int) -> tuple[list[oracle.Published], list[list[list[oracle.Published]]]]:
    """Touchpoints, and the same in parts of two halves: before a fault and during it."""
    number = 1_000 * parts
    published = oracle.random_touchpoints(random.Random(parts), people=2_000, number=number)
    step = 2 * parts
    return published, [[published[n::step], published[n + parts :: step]] for n in range(parts)]


@pytest.mark.parametrize("fault", ["killed", seldom("stopped"), seldom("frozen")])
def test_a_leader_that_fails_loses_and_repeats_nothing(tmp_path: Path, fault: str) -> None:
    published, parts = halves(len(LEADERS))
    with load(tmp_path, brokers=3) as loaded:
        for topic, (before, during) in zip(LEADERS, parts, strict=True):
            loaded.publish_and_see_work(before)
            victim = loaded.cluster.leader(name := loaded.prefix + topic, 0)
            with FAULTS[fault](victim):
                loaded.publish(during)
                loaded.cluster.wait_for_other_leader(name, 0, victim)
            loaded.cluster.wait_until_in_sync()
        loaded.publisher.flush()
        wait_until_right(loaded.client, published)


@pytest.mark.parametrize("fault", ["killed", seldom("stopped")])
def test_the_only_broker_starts_again_and_nothing_is_lost(tmp_path: Path, fault: str) -> None:
    published, parts = halves(2)
    with load(tmp_path, brokers=1) as loaded:
        for before, during in parts:
            loaded.publish_and_see_work(before)
            with FAULTS[fault](loaded.cluster.brokers[0]):
                loaded.publish(during)
            loaded.cluster.wait_until_in_sync()
        loaded.publisher.flush()
        wait_until_right(loaded.client, published)
