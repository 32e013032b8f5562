"""One Kafka broker, which is a controller too: its configuration, and its process by its id."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from jars import KAFKA, java

from touchstream.streams.local.ports import LOOPBACK
from touchstream.streams.local.processes import Child, Command

READY_SECONDS = 60.0
CLUSTER_ID = "touchstream-tests-000A"
Properties = Mapping[str, str]

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

    def end(self) -> None:
        """Kill it for good; its data goes, its log stays."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    @property
    def data(self) -> Path:
        """Where its log segments are."""
        return self.folder / "data"

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"


def configuration(broker: Broker, cluster: Sequence[Broker]) -> Properties:
    """Everything that a broker of a cluster has to know."""
    voters = (f"{each.node}@{LOOPBACK}:{each.controller_port}" for each in cluster)
    inner = f"INNER://{LOOPBACK}:{broker.inner_port}"
    controller = f"CONTROLLER://{LOOPBACK}:{broker.controller_port}"
    return {
        **ALWAYS,
        **replication(len(cluster)),
        "node.id": str(broker.node),
        "controller.quorum.voters": ",".join(voters),
        "listeners": f"CLIENT://{LOOPBACK}:{broker.port},{inner},{controller}",
        "advertised.listeners": f"CLIENT://{LOOPBACK}:{broker.told},{inner}",
        "log.dirs": str(broker.data),
    }


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
