"""What an operator meets when something is wrong: one line that says what to do, no traceback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from touchstream.streams.cli import app

pytestmark = pytest.mark.integration
NOWHERE = {
    "TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "TOUCHSTREAM_CLICKHOUSE_URL": "http://127.0.0.1:2",
}
COMMANDS = [
    ("demo",),
    ("up",),
    ("worker",),
    ("publish",),
    ("query",),
    ("metrics",),
    ("customers", "show"),
    ("identity", "show"),
    ("identity", "explain"),
    ("identity", "deny"),
    ("identity", "allow"),
    ("identity", "share"),
    ("identity", "unshare"),
    ("identity", "refused"),
    ("identity", "dry-run"),
    ("targets", "check"),
    ("targets", "apply"),
    ("targets", "show"),
    ("alerts",),
    ("erase",),
    ("export",),
    ("reconcile",),
    ("squash",),
    ("migrate",),
    ("topics", "apply"),
    ("doctor",),
]


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "touchstream.streams.cli", *arguments]
    clean = {name: value for name, value in os.environ.items() if "TOUCHSTREAM_" not in name}
    return subprocess.run(
        command, env=clean | environment, cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "said", "code"),
    [
        (("worker",), {"TOUCHSTREAM_PARTITIONS": "many"}, "TOUCHSTREAM_PARTITIONS", 78),
        (("worker",), {"TOUCHSTREAM_PARTITION": "4"}, "did you mean TOUCHSTREAM_PARTITIONS", 78),
        (("worker",), {"TOUCHSTREAM_PROFILE": "production"}, "TOUCHSTREAM_IDENTITY_KEY", 78),
        (("worker",), NOWHERE, "ClickHouse at http://127.0.0.1:2 cannot be reached", 1),
        (("topics", "apply"), NOWHERE, "Kafka does not answer at 127.0.0.1:1", 1),
        (("migrate",), NOWHERE, "ClickHouse at http://127.0.0.1:2 cannot be reached", 1),
        (("query", "SELECT 1"), NOWHERE, "ClickHouse at http://127.0.0.1:2", 1),
        (("up",), {"TOUCHSTREAM_PROFILE": "local", "TOUCHSTREAM_PARTITIONS": "0"}, "greater", 78),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str, code: int
) -> None:
    answer = run(tmp_path, *arguments, **environment)
    assert answer.returncode == code
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_up_names_a_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = ("--kafka-port", "0", "--metrics-port", "0", "--clickhouse-port", port)
        answer = run(tmp_path, "up", *ports)
    assert answer.returncode == 78
    assert port in answer.stderr and "--clickhouse-port" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_doctor_says_what_to_do_about_each_connection(tmp_path: Path) -> None:
    answer = run(tmp_path, "doctor", **NOWHERE)
    assert answer.returncode == 1
    assert "start it, or set TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS" in answer.stdout
    assert "start it or set TOUCHSTREAM_CLICKHOUSE_URL" in answer.stdout
    assert answer.stderr == ""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example(command: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(app, [*command, "--help"])
    assert answer.exit_code == 0
    assert (
        f"touchstream {' '.join(command)}"
        in answer.output.partition("Usage")[2].partition("xample")[2]
    )


def test_every_command_is_listed_above() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    listed = {(command.name,) for command in app.registered_commands} | {
        (name, command.name)
        for name, group in groups.items()
        if group
        for command in group.registered_commands
    }
    assert listed == set(COMMANDS)
