"""Workers that hang, freeze, stop or wait for ClickHouse: real processes on the embedded stack.

Each test ends with the views: nothing was lost, nothing counts twice.
"""

import json
import os
import random
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oracle
import pytest
from clickhouse_connect.driver.client import Client
from rig import frozen
from truth import count, wait_until_right

from touchstream.streams.clickhouse import connect
from touchstream.streams.errors import EXIT_SOFTWARE
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.ports import accepts_connections, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration
SECONDS = 60.0
STOP_SECONDS = 10.0
STUCK_SECONDS = 8.0
SETTINGS = Settings(
    session_timeout_seconds=3,
    rebalance_timeout_seconds=2,
    ready_seconds=4,
    stuck_seconds=STUCK_SECONDS,
)


def stack_of(folder: Path, workers: int, restarts: list[str] | None = None) -> LocalStack:
    options = LocalOptions(folder, workers, kafka_port=0, clickhouse_port=0, metrics_port=0)
    heard = [] if restarts is None else restarts
    return LocalStack(SETTINGS, options, on_restart=heard.append)


def touchpoints(seed: int, number: int = 2_000) -> list[oracle.Published]:
    return oracle.random_touchpoints(random.Random(seed), number // 2, number)


def publish(settings: Settings, published: list[oracle.Published]) -> None:
    with Publisher(settings) as publisher:
        for channel, touchpoint in published:
            publisher.publish(channel, touchpoint)


def wait_for(condition: Callable[[], object], what: str, within: float = SECONDS) -> float:
    """Seconds until it came true."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within, what
        time.sleep(0.02)
    return time.monotonic() - began


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and body; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def is_ready(port: int) -> bool:
    return ask(port, "/readyz")[0] == 200


@pytest.fixture
def clients() -> Iterator[Callable[[Settings], Client]]:
    opened: list[Client] = []

    def open_client(settings: Settings) -> Client:
        opened.append(connect(settings, dedicated_pool=True))
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


@contextmanager
def clickhouse_away(stack: LocalStack) -> Iterator[None]:
    """Stop ClickHouse; afterwards start it again as it was."""
    before = stack.servers[1]
    before.stop()
    yield
    again = Child(before._command)
    stack._running.callback(again.stop)
    port = int(stack.settings.clickhouse_url.rpartition(":")[2])
    again.wait_until(lambda: accepts_connections(port), within_seconds=SECONDS)


def test_a_worker_waits_for_clickhouse_and_says_so(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    """For longer than a worker may be stuck."""
    published = touchpoints(1)
    with stack_of(tmp_path, workers=1) as stack:
        (port,), client = stack.metrics_ports, clients(stack.settings)
        wait_for(lambda: is_ready(port), "the worker does not become ready")
        publish(stack.settings, published[:1000])
        wait_for(lambda: count(client), "no touchpoint arrived")
        pid = stack.workers.pid(0)
        with clickhouse_away(stack):
            publish(stack.settings, published[1000:])
            wait_for(lambda: not is_ready(port), "the worker is ready without ClickHouse")
            away_until = time.monotonic() + 2 * STUCK_SECONDS
            while time.monotonic() < away_until:
                status, report = ask(port, "/readyz")
                assert status == 503
                assert any(each.startswith("clickhouse: ") for each in report["reasons"])
                assert ask(port, "/healthz")[0] == 200
                time.sleep(0.2)
        wait_for(lambda: is_ready(port), "the worker does not become ready again")
        wait_until_right(client, published)
        assert stack.workers.pid(0) == pid


SABOTAGE = {
    "a lane waits for ever": """
import asyncio
from touchstream.streams.lane import Lane

append = Lane._append
async def hang(self, topic, partition, entries):
    if self.topic == "cx.identity" and self.advanced > 20:
        await asyncio.Event().wait()
    await append(self, topic, partition, entries)
Lane._append = hang
""",
    "a stage blocks the event loop": """
import time
from touchstream.agents.stitch import Stitch

apply = Stitch.apply
def block(self, record, state, effects):
    if record.offset > 20:
        time.sleep(3600)
    apply(self, record, state, effects)
Stitch.apply = block
""",
    "commits do not come back": """
import asyncio
from touchstream.streams.chunk_transport import AiokafkaConsumer

async def hang(self, offsets):
    await asyncio.Event().wait()
AiokafkaConsumer._commit = hang
""",
}
REASONS = {
    "a lane waits for ever": ("cx.identity[", "no chunk was computed", "in hang"),
    "a stage blocks the event loop": (
        "the event loop of the worker",
        "has not answered",
        "in block",
    ),
    "commits do not come back": ("touchpoints.", "nothing was committed", "in hang"),
}
FAILURES = {
    "an agent raises": """
from touchstream.streams.app import FaustApp

work, chunks = FaustApp._work, []
def fail(self, event):
    chunks.append(event)
    if len(chunks) == 10:
        raise MemoryError("sabotage")
    return work(self, event)
FaustApp._work = fail
""",
    "an agent is cancelled": """
import asyncio
from touchstream.streams.app import FaustApp

work, chunks = FaustApp._work, []
def fail(self, event):
    chunks.append(event)
    if len(chunks) == 10:
        raise asyncio.CancelledError("sabotage")
    return work(self, event)
FaustApp._work = fail
""",
    "a stage raises": """
from touchstream.agents.ingest import Ingest

apply, records = Ingest.apply, []
def fail(self, record, state, effects):
    records.append(record)
    if len(records) == 200:
        raise RuntimeError("sabotage")
    apply(self, record, state, effects)
Ingest.apply = fail
""",
    "a commit fails": """
from aiokafka import AIOKafkaConsumer

async def fail(self, offsets=None):
    raise RuntimeError("sabotage")
AIOKafkaConsumer.commit = fail
""",
}
RUN = """
from touchstream.streams.settings import load_settings
from touchstream.streams.worker import run_worker

run_worker(load_settings())
"""


@contextmanager
def worker(stack: LocalStack, log: Path, sabotage: str = "") -> Iterator[tuple[Child, int]]:
    """A worker beside the stack's, with its metrics port."""
    (port,) = choose_ports([(0, "--metrics-port")])
    environment = worker_environment(stack.settings, port)
    child = Child(Command("worker", [sys.executable, "-c", sabotage + RUN], log, environment))
    try:
        yield child, port
    finally:
        child.stop()


@dataclass
class Idle:
    """A stack without workers of its own, and what was published to it so far."""

    stack: LocalStack
    client: Client
    everything: list[oracle.Published]
    published: int = 0

    def publish(self) -> list[oracle.Published]:
        """Publish some more; returns all that was published."""
        before, self.published = self.published, self.published + 600
        publish(self.stack.settings, self.everything[before : self.published])
        return self.everything[: self.published]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Idle]:
    with stack_of(tmp_path_factory.mktemp("idle"), workers=0) as stack:
        client = connect(stack.settings, dedicated_pool=True)
        yield Idle(stack, client, touchpoints(2, 600 * (len(SABOTAGE) + len(FAILURES))))
        client.close()


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_stuck_worker_ends_itself_and_the_next_one_goes_on(
    tmp_path: Path, name: str, idle: Idle
) -> None:
    published, log, seen = idle.publish(), tmp_path / "stuck.log", set[int]()
    with worker(idle.stack, log, SABOTAGE[name]) as (stuck, port):
        until = time.monotonic() + SECONDS
        while stuck.exit_code() is None:
            seen.add(ask(port, "/readyz")[0])
            assert time.monotonic() < until, "it goes on"
            time.sleep(0.1)
    assert stuck.exit_code() == EXIT_SOFTWARE
    assert 503 in seen
    said, (topic, what, frame) = log.read_text(), REASONS[name]
    (line,) = [line for line in said.splitlines() if "stuck, ending the process" in line]
    assert topic in line and what in line
    assert frame in said.partition(line)[2], "the stacks say where it hangs"
    with worker(idle.stack, tmp_path / "well.log"):
        wait_until_right(idle.client, published)


@pytest.mark.parametrize("name", FAILURES)
def test_an_exception_ends_the_worker_and_the_next_one_loses_and_repeats_nothing(
    tmp_path: Path, name: str, idle: Idle
) -> None:
    published, log = idle.publish(), tmp_path / "failed.log"
    with worker(idle.stack, log, FAILURES[name]) as (failed, _):
        wait_for(lambda: failed.exit_code() is not None, "it goes on")
    assert failed.exit_code() == EXIT_SOFTWARE
    assert "sabotage" in log.read_text()
    with worker(idle.stack, tmp_path / "well.log"):
        wait_until_right(idle.client, published)


def test_a_frozen_worker_that_lost_its_partitions_does_no_harm(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    published, restarts = touchpoints(4, 3_000), list[str]()
    with stack_of(tmp_path, workers=2, restarts=restarts) as stack:
        client = clients(stack.settings)
        for port in stack.metrics_ports:
            wait_for(lambda port=port: is_ready(port), "a worker does not become ready")  # type: ignore[misc]
        victim, other = stack.workers.pid(0), stack.metrics_ports[1]
        assert victim is not None
        publish(stack.settings, published[:1500])
        wait_for(lambda: count(client), "no touchpoint arrived")
        with frozen(victim):
            partitions = 13 * stack.settings.partitions
            wait_for(
                lambda: ask(other, "/readyz")[1]["partitions"]["assigned"] == partitions,
                "the other worker does not take over",
            )
            publish(stack.settings, published[1500:])
            before = count(client)
            wait_for(lambda: count(client) > before, "the other worker does not go on")
        wait_until_right(client, published)
        wait_for(lambda: is_ready(stack.metrics_ports[0]), "the frozen worker does not come back")
        assert all(text.startswith("worker-0 ended with 70 ") for text in restarts)


def stop(stack: LocalStack, restarts: list[str]) -> float:
    """SIGTERM to the only worker; returns how long it takes to end, with exit code 0."""
    pid = stack.workers.pid(0)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    seconds = wait_for(lambda: restarts, "the worker does not stop")
    assert restarts[0].startswith("worker-0 ended with 0 ")
    return seconds


def test_a_worker_stops_under_load_in_time_and_loses_and_repeats_nothing(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    published, restarts = touchpoints(5, 4_500), list[str]()
    with stack_of(tmp_path, workers=1, restarts=restarts) as stack:
        client = clients(stack.settings)
        for part in (published[::3], published[1::3], published[2::3]):
            before = count(client)
            publish(stack.settings, part)
            wait_for(lambda before=before: count(client) > before, "no progress")  # type: ignore[misc]
            assert stop(stack, restarts) < STOP_SECONDS
            restarts.clear()
        wait_until_right(client, published)


def test_a_worker_stops_in_time_while_clickhouse_is_away(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    published, restarts = touchpoints(6), list[str]()
    with stack_of(tmp_path, workers=1, restarts=restarts) as stack:
        (port,), client = stack.metrics_ports, clients(stack.settings)
        publish(stack.settings, published[:1000])
        wait_for(lambda: count(client), "no touchpoint arrived")
        with clickhouse_away(stack):
            publish(stack.settings, published[1000:])
            wait_for(lambda: ask(port, "/readyz")[0] == 503, "nothing waits for ClickHouse")
            assert stop(stack, restarts) < STOP_SECONDS
        wait_until_right(client, published)


def test_a_worker_stops_in_time_while_clickhouse_says_nothing(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    """An insert that hangs has a minute, the worker has not."""
    published, restarts = touchpoints(7), list[str]()
    with stack_of(tmp_path, workers=1, restarts=restarts) as stack:
        (port,), client = stack.metrics_ports, clients(stack.settings)
        publish(stack.settings, published[:1000])
        wait_for(lambda: count(client), "no touchpoint arrived")
        with frozen(stack.servers[1].pid):
            publish(stack.settings, published[1000:])
            wait_for(lambda: ask(port, "/readyz")[0] == 503, "nothing waits for ClickHouse")
            assert stop(stack, restarts) < STOP_SECONDS
        wait_until_right(client, published)


def test_a_worker_waits_for_kafka_and_goes_on(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    """For longer than a worker may be stuck, in the middle of its work."""
    published, restarts = touchpoints(8), list[str]()
    with stack_of(tmp_path, workers=1, restarts=restarts) as stack:
        (port,), client = stack.metrics_ports, clients(stack.settings)
        publish(stack.settings, published)
        wait_for(lambda: count(client), "no touchpoint arrived")
        with frozen(stack.servers[0].pid):
            away_until = time.monotonic() + 3 * STUCK_SECONDS
            while time.monotonic() < away_until:
                assert ask(port, "/healthz")[0] == 200
                time.sleep(0.2)
            assert ask(port, "/readyz")[0] == 503
        wait_until_right(client, published)
        assert restarts == []


def test_a_worker_stops_in_time_while_kafka_says_nothing(
    tmp_path: Path, clients: Callable[[Settings], Client]
) -> None:
    published, restarts = touchpoints(9), list[str]()
    with stack_of(tmp_path, workers=1, restarts=restarts) as stack:
        client = clients(stack.settings)
        publish(stack.settings, published)
        wait_for(lambda: count(client), "no touchpoint arrived")
        with frozen(stack.servers[0].pid):
            assert stop(stack, restarts) < STOP_SECONDS
        wait_until_right(client, published)
