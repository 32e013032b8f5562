"""Apache Kafka on loopback: one broker or three, each a process to kill, freeze and start again.

    with KafkaCluster(folder, brokers=3) as cluster:
        settings = cluster.settings(Settings())
        with cluster.leader(settings.topic_prefix + "touchpoints.web", 0).killed():
            ...  # the other two go on
        cluster.wait_until_in_sync()

Every broker is a controller too (KRaft). With three brokers a topic has three replicas unless it
says otherwise, of which two must have a record before it is acknowledged. Data lies in the folder
and outlives a broker, not the cluster; logs stay. Whatever happens inside, nothing is left running.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from broker import READY_SECONDS, Broker, Properties, configuration
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, TopicMetadata  # type: ignore[attr-defined]

from touchstream.streams.local.ports import LOOPBACK, choose_ports
from touchstream.streams.settings import Settings

BROKERS = {"embedded": 0, "kafka1": 1, "kafka3": 3}
"""How many of Apache Kafka, by what `--broker` says."""
ANSWER_SECONDS = 2.0
POLL_SECONDS = 0.1
NOBODY = -1
"""Instead of a leader."""
SILENT = logging.getLogger("tests.kafka.silent")
SILENT.disabled = True  # librdkafka reports every connection that a dead broker refuses


class KafkaCluster:
    """Runs from `with` to its end."""

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        properties: Properties | None = None,
        told: Callable[[int], int] = lambda port: port,
    ) -> None:
        """`properties` override the brokers'; `told` maps a broker's port to that of its proxy."""
        ports = choose_ports([(0, "")] * 3 * brokers)
        self.brokers = [
            Broker(node + 1, folder / f"broker-{node + 1}", (client, inner, controller), client)
            for node, (client, inner, controller) in enumerate(
                zip(ports[::3], ports[1::3], ports[2::3], strict=True)
            )
        ]
        self._properties = dict(properties or {})
        self._told = told

    @property
    def bootstrap_servers(self) -> str:
        """Where clients begin; they are told the same addresses afterwards."""
        return ",".join(f"{LOOPBACK}:{broker.told}" for broker in self.brokers)

    @property
    def inner_servers(self) -> str:
        """Addresses of brokers that answer, past any proxy: for tests that look on."""
        answering = [each for each in self.brokers if each.is_running and not each.is_frozen]
        return ",".join(f"{LOOPBACK}:{broker.inner_port}" for broker in answering)

    def settings(self, given: Settings) -> Settings:
        """Use this cluster, with topics and a group that nobody has used before."""
        name = uuid4().hex[:8]
        return given.model_copy(
            update={
                "kafka_bootstrap_servers": self.bootstrap_servers,
                "replication_factor": len(self.brokers),
                "topic_prefix": f"{name}.",
                "group": name,
            }
        )

    def __enter__(self) -> "KafkaCluster":
        try:
            for broker in self.brokers:
                broker.told = self._told(broker.port)
            for broker in self.brokers:
                broker.format({**configuration(broker, self.brokers), **self._properties})
            for broker in self.brokers:
                broker.start()
            self.wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def wait_until_ready(self) -> None:
        """Wait until every broker that runs is one of the cluster."""
        for broker in self.brokers:
            if broker.is_running:
                broker.wait_until(partial(self._knows, broker.node))

    def wait_until_in_sync(self) -> None:
        """Wait until every partition has all of its replicas, so that any broker may fail next."""
        self.wait_until_ready()
        for topics in self._answers():
            if not any(lacks_replicas(topic) for topic in topics.values()):
                return
        raise TimeoutError("partitions lack replicas")

    def leader(self, topic: str, partition: int) -> Broker:
        """Who leads a partition, as soon as anybody does."""
        found: dict[int, Broker] = {broker.node: broker for broker in self.brokers}
        for topics in self._answers():
            leader = topics[topic].partitions[partition].leader
            if leader in found:
                return found[leader]
        raise TimeoutError(f"nobody leads {topic}[{partition}]")

    def wait_for_other_leader(self, topic: str, partition: int, than: Broker) -> None:
        """Wait until a partition has another leader than this one."""
        for topics in self._answers():
            if topics[topic].partitions[partition].leader not in (than.node, NOBODY):
                return
        raise TimeoutError(f"{than.node} still leads {topic}[{partition}]")

    def delete_topics(self, prefix: str) -> None:
        """Delete what a test leaves; three brokers on one machine feel a thousand partitions."""
        client = self.admin()
        known = client.list_topics(timeout=READY_SECONDS).topics
        names = [each for each in known if each.startswith(prefix)]
        for done in client.delete_topics(names).values():
            done.result(READY_SECONDS)

    def wait_until_forgotten(self, topic: str) -> None:
        """Wait until no broker shows a deleted topic; they learn of it one by one."""
        for broker in self.brokers:
            broker.wait_until(partial(self._has_forgotten, broker, topic))

    def admin(self) -> AdminClient:
        """Administrative client, past any proxy."""
        return AdminClient({"bootstrap.servers": self.inner_servers}, logger=SILENT)

    def _answers(self) -> Iterator[dict[str, TopicMetadata]]:
        """All topics, asked again and again for a while, as often as the cluster answers."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with suppress(KafkaException):  # asked again
                yield self.admin().list_topics(timeout=ANSWER_SECONDS).topics
            time.sleep(POLL_SECONDS)

    def _has_forgotten(self, broker: Broker, topic: str) -> bool:
        asked = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{broker.inner_port}"}, logger=SILENT)
        return topic not in asked.list_topics(timeout=ANSWER_SECONDS).topics

    def _knows(self, node: int) -> bool:
        try:
            return node in self.admin().list_topics(timeout=ANSWER_SECONDS).brokers
        except KafkaException:
            return False

    def _end(self) -> None:
        for broker in self.brokers:
            broker.end()


@contextmanager
def chosen(name: str, folder: Path) -> Iterator[KafkaCluster | None]:
    """The Kafka of this name in `BROKERS`; None: the embedded broker, which each stack starts."""
    if not (brokers := BROKERS[name]):
        yield None
        return
    with KafkaCluster(folder, brokers=brokers) as cluster:
        yield cluster


def lacks_replicas(topic: TopicMetadata) -> bool:
    """Whether a partition of the topic has no leader or not all of its replicas."""
    partitions = topic.partitions.values()
    return any(each.leader == NOBODY or len(each.isrs) < len(each.replicas) for each in partitions)
