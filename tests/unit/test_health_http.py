"""What the metrics port answers: alive, ready, metrics; also to slow and odd clients."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.health import Health
from touchstream.streams.health_http import HealthServer, QuietHandler, serve
from touchstream.streams.local.ports import choose_ports
from touchstream.streams.settings import Settings


@dataclass
class Running:
    """A server, and what it tells."""

    server: HealthServer
    health: Health
    stuck: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as found:
                return found.status, json.load(found)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def running() -> Iterator[Running]:
    registry, health, stuck = CollectorRegistry(), Health(), list[str]()
    Counter("touchstream_seen", "Seen", registry=registry).inc(3)
    (port,) = choose_ports([(0, "--metrics-port")])
    server = serve(Settings(metrics_port=port), registry, health, lambda: stuck)
    assert server is not None
    yield Running(server, health, stuck)
    server.shutdown()
    server.server_close()


def test_a_worker_is_alive_until_it_is_stuck(running: Running) -> None:
    assert running.get("/healthz") == (200, {"alive": True, "reasons": []})
    running.stuck.append("cx.identity[3]: no chunk was computed for 130 s")
    assert running.get("/healthz") == (503, {"alive": False, "reasons": running.stuck})


def test_a_worker_is_ready_once_it_has_its_partitions(running: Running) -> None:
    status, report = running.get("/readyz")
    assert (status, report["ready"]) == (503, False)
    running.health.assigned([("cx.identity", 0)])
    assert running.get("/readyz") == (200, running.health.report())


def test_a_worker_that_waits_for_clickhouse_is_alive_and_not_ready(running: Running) -> None:
    running.health.assigned([("cx.identity", 0)])
    running.health.clickhouse.failed()
    status, report = running.get("/readyz")
    assert (status, len(report["reasons"])) == (503, 1)
    assert report["reasons"][0].startswith("clickhouse: insert retried for ")
    assert running.get("/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/"])
def test_any_other_path_answers_the_metrics(running: Running, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=10) as found:
        assert b"touchstream_seen_total 3.0" in found.read()


def test_clients_that_say_nothing_hold_nobody_up(running: Running) -> None:
    silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
    assert running.get("/healthz")[0] == 200
    for each in silent:
        each.close()


def test_a_client_that_says_nothing_is_hung_up_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert QuietHandler.timeout == 5
    monkeypatch.setattr(QuietHandler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as silent:
        assert silent.recv(1) == b""


def test_its_threads_keep_no_process_alive(running: Running) -> None:
    assert running.server.daemon_threads
    (thread,) = [each for each in threading.enumerate() if each.name == "health-http"]
    assert thread.daemon


def test_it_listens_on_loopback_unless_told_otherwise(running: Running) -> None:
    assert running.server.server_address[0] == "127.0.0.1"


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
def test_it_listens_on_ipv6_where_told_so() -> None:
    (port,) = choose_ports([(0, "--metrics-port")])
    settings = Settings(metrics_port=port, metrics_host="::1")
    server = serve(settings, CollectorRegistry(), Health(), list)
    assert server is not None
    with urllib.request.urlopen(f"http://[::1]:{port}/healthz", timeout=10) as found:
        assert found.status == 200
    server.shutdown()
    server.server_close()


def test_taken_port_is_a_configuration_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}.*TOUCHSTREAM_METRICS_PORT"):
            serve(Settings(metrics_port=port), CollectorRegistry(), Health(), list)


def test_port_zero_serves_nothing() -> None:
    assert serve(Settings(metrics_port=0), CollectorRegistry(), Health(), list) is None
