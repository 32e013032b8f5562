"""Schema ids: fixed ones of the shipped schemas, and those of a registry on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from touchstream.schemas import load_schema
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.registry import (
    HttpRegistry,
    connect_registry,
    publishing_ids,
    shipped_id,
)
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CHANNELS

FROZEN = {
    "web": 1865785746,
    "chat": 1387585384,
    "phone": 1723246126,
    "social": 1443479450,
    "survey": 1084623312,
    "purchase": 1548544780,
    "email": 1887749635,
    "sms": 1652125199,
    "in_person": 1142982810,
    "employee": 1731967930,
}


class FakeRegistry(ThreadingHTTPServer):
    """Answers as Confluent's registry does; `forced` replaces every answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.schemas: list[tuple[str, str]] = []
        self.requests: list[str] = []
        self.authorization: list[str | None] = []
        self.forced: tuple[int, bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        if body is None:
            number = int(path.rpartition("/")[2])
            if 0 < number <= len(self.schemas):
                return 200, {"schema": self.schemas[number - 1][1]}
            return 404, {"error_code": 40403, "message": "Schema not found"}
        entry = (path.split("/")[2], body["schema"])
        if path.endswith("/versions"):
            self.schemas.append(entry)
        if entry in self.schemas:
            return 200, {"id": self.schemas.index(entry) + 1}
        return 404, {"error_code": 40401, "message": "Subject not found"}


class Answer(BaseHTTPRequestHandler):
    server: FakeRegistry

    def do_GET(self) -> None:
        self.reply(None)

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, body: dict[str, Any] | None) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.authorization.append(self.headers.get("Authorization"))
        if self.server.forced:
            status, content = self.server.forced
        else:
            status, answer = self.server.answer(self.path, body)
            content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeRegistry() as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def test_shipped_ids_are_frozen() -> None:
    assert {channel: shipped_id(channel) for channel in CHANNELS} == FROZEN


def test_shipped_ids_are_unique_positive_and_above_those_of_registries() -> None:
    ids = publishing_ids(CHANNELS).values()
    assert len(set(ids)) == len(CHANNELS)
    assert all(1 << 30 <= schema_id < 1 << 31 for schema_id in ids)


def test_no_url_is_no_registry() -> None:
    assert connect_registry(None) is None


def test_ids_come_from_the_registry(server: FakeRegistry) -> None:
    registry = HttpRegistry(server.url)
    ids = publishing_ids(("web", "chat"), registry=registry, topic_prefix="eu.")
    assert ids == {"web": 1, "chat": 2}
    assert server.schemas[0][0] == "eu.touchpoints.web-value"
    assert json.loads(server.schemas[0][1]) == load_schema("web")


def test_known_schema_is_not_registered_again(server: FakeRegistry) -> None:
    for _ in range(2):
        publishing_ids(("web",), registry=HttpRegistry(server.url + "/"))
    versions = [path for path in server.requests if path.endswith("/versions")]
    assert len(server.schemas) == 1
    assert versions == ["POST /subjects/touchpoints.web-value/versions"]


def test_writer_schema_is_fetched_by_id(server: FakeRegistry) -> None:
    registry = HttpRegistry(server.url)
    publishing_ids(("web",), registry=registry)
    assert registry.writer_schema(1) == load_schema("web")
    assert registry.writer_schema(2) is None


def test_codec_of_a_registry_reads_its_ids_and_the_shipped_ones(server: FakeRegistry) -> None:
    settings = Settings(schema_registry_url=server.url)
    touchpoint = {
        "event_id": "1",
        "occurred_at": 0,
        "action": "x",
        "identifiers": [{"kind": "a", "value": "b"}],
    }
    written = TouchpointCodec.from_settings(settings, channels=("web",)).encode("web", touchpoint)
    shipped = TouchpointCodec(max_payload_bytes=4096).encode("web", touchpoint)
    reader = TouchpointCodec.from_settings(settings)
    assert written[:5] == b"\0\0\0\0\1"
    assert reader.decode("web", written) == reader.decode("web", shipped)


def test_user_in_the_url_is_sent_and_never_shown(server: FakeRegistry) -> None:
    url = server.url.replace("//", "//ann:s%40cret@")
    server.forced = (403, b'{"message": "no right to write"}')
    with pytest.raises(ConfigurationError, match="no right to write") as caught:
        HttpRegistry(url).writer_schema(1)
    assert server.authorization == ["Basic YW5uOnNAY3JldA=="]
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("forced", "expected", "text"),
    [
        ((503, b""), TransientError, "answered 503"),
        ((429, b""), TransientError, "answered 429"),
        ((409, b'{"message": "incompatible"}'), ConfigurationError, "409 \\(incompatible\\)"),
        ((401, b"<html>"), ConfigurationError, "401 \\(Unauthorized\\)"),
        ((200, b"<html>"), ConfigurationError, "is not a schema registry"),
        ((200, b"{}"), ConfigurationError, "gave no id for touchpoints.web-value"),
        ((404, b"{}"), ConfigurationError, "gave no id for touchpoints.web-value"),
    ],
)
def test_refusal_is_one_clear_line(
    server: FakeRegistry, forced: tuple[int, bytes], expected: type[Exception], text: str
) -> None:
    server.forced = forced
    with pytest.raises(expected, match=text) as caught:
        publishing_ids(("web",), registry=HttpRegistry(server.url))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"schema": "message A {}", "schemaType": "PROTOBUF"},
        {"schema": '"string"'},
        {"schema": "{"},
        {"schema": None},
        {"schema": "{}", "references": [{"name": "a"}]},
    ],
)
def test_schema_that_is_no_record_is_none(server: FakeRegistry, answer: dict[str, Any]) -> None:
    server.forced = (200, json.dumps(answer).encode())
    assert HttpRegistry(server.url).writer_schema(1) is None


def test_unreachable_registry_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(TransientError, match="TOUCHSTREAM_SCHEMA_REGISTRY_URL"):
        HttpRegistry("http://127.0.0.1:9").writer_schema(1)


@pytest.mark.parametrize("url", ["registry:8081", "ftp://registry", "http://"])
def test_wrong_url_is_refused_at_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="must look like http://host:8081"):
        connect_registry(url)
