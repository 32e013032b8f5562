"""`/healthz`, `/readyz` and `/metrics` of a worker, by threads that no event loop can block.

`/healthz` says whether the process should live (200) or is stuck (503), `/readyz` whether it does
its work (200) or waits for something (503), with the reasons. Any other path answers the metrics.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.health import Health
from touchstream.streams.settings import Settings

READ_SECONDS = 5.0
"""How long a client may keep its thread waiting for bytes."""

Answer = tuple[HTTPStatus, Mapping[str, Any]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class HealthServer(ThreadingMixIn, WSGIServer):
    """A thread a request; none keeps the process alive."""

    daemon_threads = True


class HealthServer6(HealthServer):
    """The same on IPv6."""

    address_family = socket.AF_INET6


class QuietHandler(WSGIRequestHandler):
    """Logs no requests, waits for no slow client."""

    timeout = READ_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def serve(
    settings: Settings, registry: CollectorRegistry, health: Health, stuck: Callable[[], list[str]]
) -> HealthServer | None:
    """Answer from now on; raises ConfigurationError when the port is taken. None for port 0."""
    if not settings.metrics_port:
        return None
    kind = HealthServer6 if ":" in settings.metrics_host else HealthServer
    try:
        server = kind((settings.metrics_host, settings.metrics_port), QuietHandler)
    except OSError as error:
        raise ConfigurationError(
            f"port {settings.metrics_port} for /metrics cannot be used ({error.strerror}):"
            " set TOUCHSTREAM_METRICS_PORT to a free port, or 0 for none"
        ) from None
    server.set_app(application(registry, health, stuck))
    threading.Thread(target=server.serve_forever, name="health-http", daemon=True).start()
    return server


def application(
    registry: CollectorRegistry, health: Health, stuck: Callable[[], list[str]]
) -> Application:
    """Answer by path."""
    metrics: Application = make_wsgi_app(registry)
    answers: dict[str, Callable[[], Answer]] = {
        "/healthz": lambda: alive(stuck()),
        "/readyz": lambda: ready(health),
    }

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = answers.get(environ["PATH_INFO"])
        if asked is None:
            return metrics(environ, start_response)
        status, body = asked()
        text = json.dumps(body).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [text]

    return answer


def alive(stuck: list[str]) -> Answer:
    """Whether the process should go on."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if stuck else HTTPStatus.OK
    return status, {"alive": not stuck, "reasons": stuck}


def ready(health: Health) -> Answer:
    """Whether the worker does its work."""
    report = health.report()
    status = HTTPStatus.OK if report["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
    return status, report
