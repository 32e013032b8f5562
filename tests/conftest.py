"""Shared fixtures: the servers that tests run against, and settings of their own.

`--broker` chooses the Kafka of the tests that run the whole product: the embedded one, each stack
with its own, or Apache Kafka (see `tests/kafka`), one for the session.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import pytest
from brokers import BROKERS, KafkaCluster, chosen

from touchstream.streams.clickhouse import connect
from touchstream.streams.settings import Settings

READY = "listening on "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        choices=BROKERS,
        default="embedded",
        help="what the whole product runs on: the embedded one, or 1 or 3 of Apache Kafka",
    )
    parser.addoption("--seed", default="1", help="another one gives tests/faults other schedules")


@pytest.fixture(scope="session")
def kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaCluster | None]:
    """The Kafka that was asked for; None: the embedded broker."""
    folder = tmp_path_factory.mktemp("kafka")
    with chosen(request.config.getoption("--broker"), folder) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the embedded ClickHouse on a free loopback port."""
    path = tmp_path_factory.mktemp("clickhouse")
    with served(["-m", "touchstream.streams.local.clickhouse", "--path", str(path)]) as url:
        yield url


@pytest.fixture(scope="session")
def serve() -> Callable[[list[str]], AbstractContextManager[str]]:
    """Starts an embedded ClickHouse in another way."""
    return served


@contextmanager
def served(command: list[str]) -> Iterator[str]:
    """The URL of an embedded ClickHouse that Python starts with `command` and `--port 0`."""
    server = subprocess.Popen(
        [sys.executable, *command, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert line.startswith(READY), f"the embedded ClickHouse did not start: {line!r}"
        host, port = line.removeprefix(READY).strip().strip("()").replace("'", "").split(", ")
        yield f"http://{host}:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


@pytest.fixture
def clickhouse_settings(clickhouse_url: str) -> Iterator[Settings]:
    """Settings with a fresh database name; what the test creates there is dropped."""
    settings = Settings(
        clickhouse_url=clickhouse_url, clickhouse_database=f"test_{uuid4().hex[:12]}"
    )
    yield settings
    client = connect(settings, database="default", dedicated_pool=True)
    client.command(f"DROP DATABASE IF EXISTS {settings.clickhouse_database}")
    client.close()
