"""The whole product with a link before each of its servers, a ledger, and a witness.

    with rig(folder, Ground(network, kafka), workers=2) as loaded:
        loaded.publish(touchpoints)
        with loaded.kafka_weather(SILENT, loaded.pids):
            ...
        loaded.check()

Workers reach Kafka and ClickHouse through links. The test itself asks ClickHouse directly; of Kafka
there is one address for all, so a test names the processes that shall suffer.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import oracle
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from ledger import PATIENCE_SECONDS, Ledger
from link import Link, Network, Weather
from stacks import IMPATIENT
from witness import Witness

from touchstream.streams.clickhouse import connect
from touchstream.streams.local.broker import broker_answers, broker_arguments
from touchstream.streams.local.ports import LOOPBACK, accepts_connections, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.local.stack import LocalOptions, LocalStack, prepare_topics_and_tables
from touchstream.streams.settings import Settings

READY_SECONDS = 60.0
LOOK_SECONDS = 0.05
PROGRESS = "SELECT uniqExact(channel, event_id) FROM touchpoint_facts"


@dataclass(frozen=True)
class Ground:
    """What rigs stand on: a network, and Kafka with a link a broker, or else nothing."""

    network: Network
    kafka: KafkaCluster | None
    kafka_links: list[Link]


@dataclass
class Rig:
    """A running product, and everything that a test does to it."""

    stack: LocalStack
    settings: Settings
    """As the test uses them: past the link to ClickHouse."""
    kafka: KafkaCluster | None
    kafka_links: Sequence[Link]
    clickhouse_link: Link
    client: Client
    witness: Witness
    restarts: list[str]
    """Why workers ended, as far as they were started again."""
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def pids(self) -> set[int]:
        """Process ids of all workers that run."""
        found = (self.stack.workers.pid(index) for index in range(len(self.stack.workers)))
        return {pid for pid in found if pid is not None}

    def pid(self, index: int) -> int:
        """Process id of a worker, as soon as it runs."""
        wait_for(lambda: self.stack.workers.pid(index), f"worker {index} does not run")
        pid = self.stack.workers.pid(index)
        assert pid is not None
        return pid

    @contextmanager
    def kafka_weather(self, weather: Weather, pids: Collection[int]) -> Iterator[None]:
        """Bad weather between these processes and every broker."""
        with ExitStack() as everywhere:
            for link in self.kafka_links:
                everywhere.enter_context(link.weather(weather, pids))
            yield

    def start_workers(self, number: int) -> None:
        """Workers for a rig that was started without."""
        self.stack.metrics_ports = choose_ports([(0, "")] * number)
        self.stack.start_workers()

    def publish(self, touchpoints: Sequence[oracle.Published]) -> None:
        """Publish; returns when Kafka has everything."""
        self.ledger.publish(self.settings, touchpoints)

    def publishing(
        self, touchpoints: Sequence[oracle.Published], seconds: float, *, to_the_end: bool = True
    ) -> AbstractContextManager[None]:
        """Publish evenly over a time, beside what happens in `with`; see the ledger's."""
        return self.ledger.publishing(self.settings, touchpoints, seconds, to_the_end=to_the_end)

    def progress(self) -> int:
        """Touchpoints that are stored."""
        return int(self.client.query(PROGRESS).result_rows[0][0])

    def wait_for_progress(self, within_seconds: float = READY_SECONDS) -> float:
        """Seconds until more is stored than now."""
        before = self.progress()
        return wait_for(lambda: self.progress() > before, "no progress", within_seconds)

    def check(self, patience_seconds: float = PATIENCE_SECONDS) -> float:
        """Seconds until all is right; raises AssertionError with what is not."""
        seconds = self.ledger.check(self.client, patience_seconds)
        self.witness.check()
        return seconds


RigOf = Callable[..., AbstractContextManager[Rig]]
"""`rig` with folder and ground chosen."""


def wait_for(
    condition: Callable[[], object], what: str, within_seconds: float = READY_SECONDS
) -> float:
    """Seconds until it came true; raises AssertionError with `what` if it does not."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within_seconds, f"{what} within {within_seconds:g} s"
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile; its connections stay."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def rig(
    folder: Path,
    ground: Ground,
    *,
    workers: int,
    settings: Settings = IMPATIENT,
    repeats: bool = False,
) -> Iterator[Rig]:
    """Start everything; whatever happens inside, everything is stopped."""
    folder.mkdir(exist_ok=True)
    restarts: list[str] = []
    with ExitStack() as running:
        links: Sequence[Link] = ground.kafka_links
        if ground.kafka:
            settings = ground.kafka.settings(settings)
            running.callback(ground.kafka.delete_topics, settings.topic_prefix)
        else:
            link, settings = running.enter_context(_embedded(folder, ground.network, settings))
            links = [link]

        def prepare(ready: Settings) -> None:
            prepare_topics_and_tables(ready)
            clickhouse.append(ground.network.link(_port(ready.clickhouse_url)))
            url = f"http://{LOOPBACK}:{clickhouse[0].port}"
            stack.settings = ready.model_copy(update={"clickhouse_url": url})
            direct.append(ready)

        clickhouse: list[Link] = []
        direct: list[Settings] = []
        options = LocalOptions(folder / "stack", workers, None, 0, 0)
        stack = LocalStack(settings, options, prepare=prepare, on_restart=restarts.append)
        (folder / "stack").mkdir(exist_ok=True)
        running.enter_context(stack)
        client = running.enter_context(connect(direct[0], dedicated_pool=True))
        witness = running.enter_context(Witness(direct[0], repeats=repeats))
        yield Rig(stack, direct[0], ground.kafka, links, clickhouse[0], client, witness, restarts)


@contextmanager
def _embedded(
    folder: Path, network: Network, settings: Settings
) -> Iterator[tuple[Link, Settings]]:
    """The embedded broker, which tells its clients the address of a link."""
    [port] = choose_ports([(0, "")])
    link = network.link(port)
    *arguments, _, storage, memory = broker_arguments(port)
    arguments += [f"tcp://{LOOPBACK}:{link.port}", storage, memory]
    broker = Child(Command("broker", arguments, folder / "broker.log"))
    try:
        broker.wait_until(broker_answers(port), within_seconds=READY_SECONDS)
        changes = {
            "kafka_bootstrap_servers": f"{LOOPBACK}:{link.port}",
            "kafka_idempotence": False,
        }
        yield link, settings.model_copy(update=changes)
    finally:
        broker.stop()


@contextmanager
def clickhouse_away(loaded: Rig) -> Iterator[None]:
    """SIGKILL for ClickHouse; afterwards it is started again as it was."""
    servers, port = loaded.stack.servers, _port(loaded.settings.clickhouse_url)
    before = servers[-1]
    before.kill()
    before.wait()
    yield
    servers[-1] = Child(before._command)
    loaded.stack._running.callback(servers[-1].stop)
    servers[-1].wait_until(lambda: accepts_connections(port), within_seconds=READY_SECONDS)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
