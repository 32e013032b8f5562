"""Shared fixtures: an embedded ClickHouse for the session, settings with their own database."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import pytest

from touchstream.streams.clickhouse import connect
from touchstream.streams.settings import Settings

READY = "listening on "


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
