"""The embedded stack without workers: what it starts, what it refuses, and that nothing stays."""

import os
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.ports import accepts_connections
from touchstream.streams.local.stack import MARKER, LocalOptions, LocalStack
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration


def options(directory: Path, **changes: int) -> LocalOptions:
    ports = {"workers": 0, "kafka_port": 0, "clickhouse_port": 0, "metrics_port": 0}
    return LocalOptions(directory, **{**ports, **changes})


def stack(directory: Path, **changes: int) -> LocalStack:
    return LocalStack(Settings(), options(directory, **changes), prepare=lambda settings: None)


def ports_of(settings: Settings) -> tuple[int, int]:
    kafka = settings.kafka_bootstrap_servers.rpartition(":")[2]
    return int(kafka), int(settings.clickhouse_url.rpartition(":")[2])


def ask(settings: Settings, sql: str) -> bytes:
    with urllib.request.urlopen(settings.clickhouse_url, sql.encode(), timeout=30) as answer:
        return bytes(answer.read())


def test_it_starts_both_servers_and_stops_them(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        kafka = AdminClient({"bootstrap.servers": running.settings.kafka_bootstrap_servers})
        assert kafka.list_topics(timeout=10).brokers
        assert ask(running.settings, "SELECT 1") == b"1\n"
        ports = ports_of(running.settings)
    assert not any(accepts_connections(port) for port in ports)


def test_tables_of_the_run_before_are_gone(tmp_path: Path) -> None:
    for _ in range(2):
        with stack(tmp_path) as running:
            ask(running.settings, "CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")


def test_prepare_sees_servers_that_answer(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def prepare(settings: Settings) -> None:
        seen.append(ask(settings, "SELECT 2"))

    with LocalStack(Settings(), options(tmp_path), prepare=prepare):
        assert seen == [b"2\n"]


def test_a_second_stack_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        with pytest.raises(ConfigurationError) as raised, stack(tmp_path):
            pass
        assert f"{tmp_path} is in use by process {os.getpid()}" in str(raised.value)
        assert ask(running.settings, "SELECT 1") == b"1\n"


@pytest.mark.parametrize("option", ["kafka_port", "clickhouse_port"])
def test_a_busy_port_is_refused_with_its_option(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError) as raised, stack(tmp_path, **{option: port}):
            pass
    assert f"port {port}" in str(raised.value)
    assert "--" + option.replace("_", "-") in str(raised.value)


def test_files_of_somebody_else_are_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").mkdir()
    (tmp_path / "clickhouse" / "0001_tables.sql").touch()
    with pytest.raises(ConfigurationError, match="not touchstream's"), stack(tmp_path):
        pass
    assert (tmp_path / "clickhouse" / "0001_tables.sql").exists()
    assert not (tmp_path / "clickhouse" / MARKER).exists()


def test_nothing_is_left_running_when_prepare_fails(tmp_path: Path) -> None:
    seen: list[Settings] = []

    def prepare(settings: Settings) -> None:
        seen.append(settings)
        raise ValueError("no")

    failing = LocalStack(Settings(), options(tmp_path), prepare=prepare)
    with pytest.raises(ValueError, match="no"), failing:
        pass
    assert not any(accepts_connections(port) for port in ports_of(seen[0]))


def test_a_server_that_dies_ends_the_wait(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        broker = running.servers[0]
        broker.kill()
        with pytest.raises(ConfigurationError, match="broker ended with -9"):
            running.wait(30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_is_left_running_when_the_parent_is_signalled(
    tmp_path: Path, number: int, code: int
) -> None:
    program = f"""
from pathlib import Path
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.settings import Settings
options = LocalOptions(Path({str(tmp_path)!r}), 0, 0, 0, 0)
with LocalStack(Settings(), options, prepare=lambda settings: None) as stack:
    print(*(server.pid for server in stack.servers), flush=True)
    stack.wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        servers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        os.kill(parent.pid, number)
        assert parent.wait() == code
    for server in servers:
        assert has_ended(server)


def has_ended(server: int) -> bool:
    """Whether the process ends within seconds; its descriptor is closed."""
    try:
        return bool(select.select([server], [], [], 30.0)[0])
    finally:
        os.close(server)
