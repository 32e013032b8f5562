"""The schema registry's side of publishing and reading, against Apicurio and Kafka."""

import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from apicurio import Apicurio
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer
from stacks import IMPATIENT, local_stack, records_of
from truth import PATIENCE_SECONDS, count, publish, wait_for_count

from touchstream.schemas import load_schema
from touchstream.streams.alerts import load_alert_schema
from touchstream.streams.clickhouse import connect
from touchstream.streams.codec import HEADER_BYTES, TouchpointCodec, framing
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.stack import LocalStack
from touchstream.streams.registry import HttpRegistry, publishing_ids, shipped_id
from touchstream.streams.settings import Settings
from touchstream.streams.topics import ALERTS, CHANNELS
from touchstream.streams.writer_schemas import without_logical_types

pytestmark = pytest.mark.integration

VISIT: dict[str, Any] = {
    "event_id": "visit",
    "occurred_at": 1_790_000_000_000,
    "action": "page_viewed",
    "identifiers": [{"kind": "email", "value": "ada@example.com", "verified": True}],
}
COMPLAINT = {**VISIT, "event_id": "answer", "action": "answered", "question": "nps", "score": 1.0}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    with Apicurio(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, registry: Apicurio) -> Iterator[LocalStack]:
    """The whole product, told where the registry is."""
    folder = tmp_path_factory.mktemp("stack")
    settings = IMPATIENT.model_copy(update={"schema_registry_url": registry.url})
    with (
        KafkaCluster(folder / "kafka") as cluster,
        local_stack(folder / "local", settings, workers=1, kafka=cluster) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    client = connect(stack.settings)
    yield client
    client.close()


def extended() -> dict[str, Any]:
    """The next version of a platform's schema, with a field that nobody else knows."""
    schema = load_schema("web")
    mood = {"name": "mood", "type": "string", "default": "", "doc": "How the visitor feels."}
    return {**schema, "fields": [mood, *schema["fields"]]}


def test_every_shipped_schema_gets_an_id_and_keeps_it(registry: Apicurio) -> None:
    known = HttpRegistry(registry.url)
    ids = publishing_ids(CHANNELS, registry=known)
    assert len(set(ids.values())) == len(CHANNELS)
    assert publishing_ids(CHANNELS, registry=known) == ids
    for channel, schema_id in ids.items():
        assert known.writer_schema(schema_id) == load_schema(channel)


def test_an_id_that_nobody_gave_is_no_schema(registry: Apicurio) -> None:
    assert HttpRegistry(registry.url).writer_schema(999_999) is None


def test_a_schema_that_is_no_avro_is_refused_in_one_line(registry: Apicurio) -> None:
    with pytest.raises(ConfigurationError, match="refused with 4") as caught:
        HttpRegistry(registry.url).schema_id("broken-value", {"type": "record"})
    assert "\n" not in str(caught.value)


def test_touchpoints_are_read_by_the_ids_of_the_registry(stack: LocalStack, client: Client) -> None:
    before = count(client)
    publish(stack.settings, [("web", VISIT)])
    wait_for_count(client, before + 1)
    value = first_value(stack.settings, "touchpoints.web")
    assert value[:HEADER_BYTES] != framing(shipped_id("web"))
    written = HttpRegistry(stack.settings.schema_registry_url or "")
    assert written.writer_schema(int.from_bytes(value[1:HEADER_BYTES], "big")) == load_schema("web")


def test_a_newer_schema_of_the_registry_is_read_and_an_unknown_id_is_a_dead_letter(
    stack: LocalStack, client: Client, registry: Apicurio
) -> None:
    topic = f"{stack.settings.topic_prefix}touchpoints.web"
    newer = HttpRegistry(registry.url).schema_id(f"{topic}-value", extended())
    codec = TouchpointCodec.from_settings(stack.settings, channels=("web",))
    full = codec.decode("web", codec.encode("web", {**VISIT, "event_id": "newer"}))
    body = BytesIO()
    schemaless_writer(
        body, parse_schema(without_logical_types(extended())), {**full, "mood": "calm"}
    )
    producer = Producer(kafka_config(stack.settings))
    before = count(client)
    producer.produce(topic, value=framing(999_999) + body.getvalue(), partition=0)
    producer.produce(topic, value=framing(newer) + body.getvalue(), partition=0)
    assert producer.flush(30) == 0
    wait_for_count(client, before + 1)
    letters = client.query("SELECT reason FROM dead_letters").result_rows
    assert letters == [("unknown_schema",)]


def test_alerts_carry_an_id_of_the_registry_and_are_read(stack: LocalStack) -> None:
    publish(stack.settings, [("survey", COMPLAINT)])
    alerts = [sys.executable, "-P", "-m", "touchstream.streams.cli", "alerts", "--json"]
    done = subprocess.run(
        [*alerts, "--from-beginning", "--limit", "1"],
        env=worker_environment(stack.settings, 0),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert '"detractor"' in done.stdout, done.stderr
    value = first_value(stack.settings, ALERTS)
    written = HttpRegistry(stack.settings.schema_registry_url or "")
    found = written.writer_schema(int.from_bytes(value[1:HEADER_BYTES], "big"))
    assert found == load_alert_schema()


def first_value(settings: Settings, topic: str) -> bytes:
    log = KafkaLog(settings)
    records = (r for p in range(settings.partitions) for r in records_of(log, topic, p, 0))
    return next(records).value or b""
