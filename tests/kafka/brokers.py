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
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, TopicMetadata  # type: ignore[attr-defined]
from jars import KAFKA, java

from touchstream.streams.local.ports import LOOPBACK, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.settings import Settings

READY_SECONDS = 60.0
ANSWER_SECONDS = 2.0
POLL_SECONDS = 0.1
NOBODY = -1
"""Instead of a leader."""
CLUSTER_ID = "touchstream-tests-000A"
SILENT = logging.getLogger("tests.kafka.silent")
SILENT.disabled = True  # librdkafka reports every connection that a dead broker refuses

Properties = Mapping[str, str]


class Broker:
    """One broker: its process, where clients and other brokers find it, and its data."""

    def __init__(self, node: int, folder: Path, ports: tuple[int, int, int], told: int) -> None:
        """`ports`: for clients, brokers and controllers; `told`: where clients are sent to."""
        self.node = node
        self.port, self.inner_port, self.controller_port = ports
        self.told = told
        self.folder = folder
        self.is_frozen = False
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Process id; raises RuntimeError while it is down."""
        if self._child is None or self._child.exit_code() is not None:
            raise RuntimeError(f"broker {self.node} is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self._child is not None and self._child.exit_code() is None

    def format(self, properties: Properties) -> None:
        """Write its configuration and prepare its data directory."""
        self.folder.mkdir(parents=True)
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        self._config.write_text(text)
        arguments = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c")
        command = java(*arguments, str(self._config), pom=KAFKA)
        subprocess.run(command, check=True, capture_output=True)

    def start(self) -> None:
        """Start it, on the data it has; it is ready later."""
        warn = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        stamp = "-Dorg.slf4j.simpleLogger.showDateTime=true"
        command = java(warn, stamp, "kafka.Kafka", str(self._config), pom=KAFKA)
        log = self.folder.parent / f"broker-{self.node}.log"
        self._child = Child(Command(f"broker-{self.node}", command, log))

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for a condition; raises ConfigurationError if the broker ends or it takes long."""
        assert self._child is not None
        self._child.wait_until(is_ready, within_seconds=READY_SECONDS)

    def stop(self) -> None:
        """SIGTERM: it gives its partitions away first."""
        if self._child:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL, frozen or not; returns when it has ended."""
        if self._child:
            self._child.kill()
            self._child.wait()

    @contextmanager
    def killed(self) -> Iterator[None]:
        """SIGKILL; started again at the end of `with`."""
        self.kill()
        yield
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGTERM; started again at the end of `with`."""
        self.stop()
        yield
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP: it keeps its connections and answers nothing until the end of `with`."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        self.is_frozen = True
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            self.is_frozen = False

    @property
    def data(self) -> Path:
        """Where its log segments are."""
        return self.folder / "data"

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"


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
                broker.format(self._configuration(broker))
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

    def _knows(self, node: int) -> bool:
        try:
            return node in self.admin().list_topics(timeout=ANSWER_SECONDS).brokers
        except KafkaException:
            return False

    def _end(self) -> None:
        for broker in self.brokers:
            broker.kill()
            shutil.rmtree(broker.data, ignore_errors=True)

    def _configuration(self, broker: Broker) -> Properties:
        voters = (f"{each.node}@{LOOPBACK}:{each.controller_port}" for each in self.brokers)
        return {
            **ALWAYS,
            **replication(len(self.brokers)),
            "node.id": str(broker.node),
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"CLIENT://{LOOPBACK}:{broker.port},INNER://{LOOPBACK}:{broker.inner_port}"
            f",CONTROLLER://{LOOPBACK}:{broker.controller_port}",
            "advertised.listeners": f"CLIENT://{LOOPBACK}:{broker.told}"
            f",INNER://{LOOPBACK}:{broker.inner_port}",
            "log.dirs": str(broker.data),
            **self._properties,
        }


def lacks_replicas(topic: TopicMetadata) -> bool:
    """Whether a partition of the topic has no leader or not all of its replicas."""
    partitions = topic.partitions.values()
    return any(each.leader == NOBODY or len(each.isrs) < len(each.replicas) for each in partitions)


ALWAYS: Properties = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "INNER",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    # A dead broker and a dead worker are noticed within seconds.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "replica.lag.time.max.ms": "5000",
    "group.min.session.timeout.ms": "1000",
    "group.initial.rebalance.delay.ms": "500",
    # Little memory and few threads: three of them share a machine with everything else.
    "offsets.topic.num.partitions": "4",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.cleaner.backoff.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
}
"""What every broker has; the limits on record sizes are Kafka's own."""


def replication(brokers: int) -> Properties:
    """As many replicas as there are brokers; one of three may be missing."""
    needed = str(min(brokers, 2))
    names = ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        "min.insync.replicas": needed,
        "transaction.state.log.min.isr": needed,
        "share.coordinator.state.topic.min.isr": needed,
        **{f"{name}.replication.factor": str(brokers) for name in names},
    }
