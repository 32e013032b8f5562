"""ClickHouse is away, refuses, is full, or takes rows and does not say so: rows 12 to 15."""

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from brokers import KafkaCluster
from link import CUT, Weather
from load import resident_bytes, touchpoints
from rig import Ground, Rig, RigOf, clickhouse_away, rig, wait_for

from touchstream.streams.errors import TransientError

pytestmark = pytest.mark.integration
LONGEST_RSS_BYTES = 600 << 20
DISK_BYTES = 400 << 20


@pytest.mark.parametrize("seconds", [20.0, pytest.param(600.0, marks=pytest.mark.long)])
def test_12_clickhouse_is_killed_in_the_middle_of_a_batch(
    rig_of: RigOf, rng: random.Random, seconds: float
) -> None:
    total = seconds + 10
    with rig_of(workers=2) as loaded:
        with loaded.publishing(touchpoints(rng, total), total):
            loaded.wait_for_progress()
            with clickhouse_away(loaded):
                until, largest = time.monotonic() + seconds, 0
                while time.monotonic() < until:
                    largest = max(largest, *map(resident_bytes, loaded.pids))
                    time.sleep(0.5)
        drained = loaded.check()
        print(f"largest worker {largest / (1 << 20):.0f} MiB, drained in {drained:.1f} s")
        assert largest < LONGEST_RSS_BYTES
        assert loaded.restarts == []


def test_13_inserts_are_stored_and_their_answers_lost(rig_of: RigOf, rng: random.Random) -> None:
    seconds, chance = 30.0, random.Random(rng.random())

    def loses(request: bytes) -> bytes | None:
        return b"" if b"INSERT INTO" in request and chance.random() < 0.3 else None

    with rig_of(workers=2) as loaded:
        with loaded.clickhouse_link.weather(Weather(loses=loses)):
            with loaded.publishing(touchpoints(rng, seconds), seconds):
                loaded.wait_for_progress()
            lost = loaded.clickhouse_link.lost
        loaded.check()
        print(f"{lost} answers were lost")
        assert lost > 5
        assert loaded.restarts == []


REFUSALS = {
    "too many parts": "parts_to_delay_insert = 1, parts_to_throw_insert = 1",
    "read-only tables": "table_readonly = 1",
    "too little space": "min_free_disk_bytes_to_perform_insert = 1000000000000000",
}
TABLES = ("touchpoint_facts", "identity_states", "customer_states", "metric_panes")


@contextmanager
def refusing(loaded: Rig, how: str) -> Iterator[None]:
    """Tables that take nothing, by the engine's own limits."""
    settings = REFUSALS[how]
    names = ", ".join(each.partition(" =")[0] for each in settings.split(", "))
    for table in TABLES:
        loaded.client.command(f"SYSTEM STOP MERGES {table}")
        loaded.client.command(f"ALTER TABLE {table} MODIFY SETTING {settings}")
    yield
    for table in TABLES:
        loaded.client.command(f"ALTER TABLE {table} RESET SETTING {names}")
        loaded.client.command(f"SYSTEM START MERGES {table}")


class OutOfMemory(BaseHTTPRequestHandler):
    """Answers as ClickHouse does when its memory is used up."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = b"Code: 241. DB::Exception: (total) memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(500)
        self.send_header("X-ClickHouse-Exception-Code", "241")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


@contextmanager
def out_of_memory(loaded: Rig) -> Iterator[None]:
    """Another server in the place of ClickHouse, for the workers."""
    with HTTPServer(("127.0.0.1", 0), OutOfMemory) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with led_to(loaded, server.server_port):
            yield
        server.shutdown()


@contextmanager
def led_to(loaded: Rig, port: int) -> Iterator[None]:
    link = loaded.clickhouse_link
    before, link.to = link.to, port
    with link.weather(CUT):
        pass
    yield
    link.to = before
    with link.weather(CUT):
        pass


@pytest.mark.parametrize("how", [*REFUSALS, "memory limit"])
def test_14_clickhouse_refuses_for_reasons_of_its_own(
    rig_of: RigOf, rng: random.Random, how: str
) -> None:
    with rig_of(workers=1) as loaded:
        with loaded.publishing(touchpoints(rng, 25), 25):
            loaded.wait_for_progress()
            with refusing(loaded, how) if how in REFUSALS else out_of_memory(loaded):
                before = loaded.progress()
                time.sleep(10)  # as long as it refuses
                stalled = loaded.progress()
        loaded.check()
        letters = loaded.client.query("SELECT count() FROM dead_letters").result_rows
        assert letters == [(0,)]
        assert loaded.restarts == []
        assert stalled <= before + 200, "ClickHouse did not refuse"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, which can be full."""
    if os.geteuid():
        pytest.skip("a small disk needs the right to mount a tmpfs: run it as root")
    folder.mkdir(parents=True)
    size = f"size={DISK_BYTES}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs: run it as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """A disk without a free byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass  # now it is full
    yield
    ballast.unlink()


def test_15_the_disk_of_clickhouse_and_workers_is_full(
    tmp_path: Path, rig_of: RigOf, rng: random.Random
) -> None:
    """Tables, logs and the data directory of the workers share one disk."""
    with small_disk(tmp_path / "rig" / "stack") as disk, rig_of(workers=1) as loaded:
        with loaded.publishing(touchpoints(rng, 30), 30):
            loaded.wait_for_progress()
            with full(disk):
                before = loaded.progress()
                time.sleep(12)  # as long as it is full
                stalled = loaded.progress()
            wait_for(lambda: loaded.progress() > stalled, "it does not go on")
        loaded.check()
        assert stalled <= before + 200, "the disk was not full"
        assert loaded.restarts == []


def test_15_the_disk_of_kafka_is_full(tmp_path: Path, ground: Ground, rng: random.Random) -> None:
    """The broker ends; with space again it is started, and everything goes on.

    What it refused before it ended is published again, as the publisher's error asks for; it may
    have been stored all the same.
    """
    if ground.kafka is None or len(ground.kafka.brokers) > 1:
        pytest.skip("one broker of Apache Kafka on a disk of its own: --broker kafka1")
    with small_disk(tmp_path / "disk") as disk:
        properties = {"log.dirs": str(disk / "data")}
        with (
            KafkaCluster(tmp_path / "kafka", properties=properties) as cluster,
            rig(
                tmp_path / "rig", Ground(ground.network, cluster, []), workers=2, repeats=True
            ) as loaded,
        ):
            [broker] = cluster.brokers
            try:
                with loaded.publishing(touchpoints(rng, 20), 20):
                    loaded.wait_for_progress()
                    with full(disk):
                        wait_for(lambda: not broker.is_running, "the broker does not mind")
                    broker.start()
                    cluster.wait_until_in_sync()
            except TransientError:  # the broker may refuse, unlike one that is away
                again = loaded.ledger.take_refused()
                loaded.publish(again)
                print(f"published again: {len(again)}")
            loaded.check()
