"""The product itself, on either broker: publish, kill, repeat, reject; then ask ClickHouse."""

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import pytest
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from stacks import IMPATIENT, local_stack, records_of
from truth import count, expected, publish, seen, wait_for_count, wait_for_more, wait_until_right

from touchstream.agents.resolution import Word
from touchstream.agents.rules_file import parse_rules
from touchstream.schemas import load_identity_rules_text
from touchstream.streams.clickhouse import connect
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.stack import LocalStack
from touchstream.streams.topics import DEAD_LETTER

pytestmark = pytest.mark.integration


def start(folder: Path, workers: int, kafka: KafkaCluster | None) -> LocalStack:
    return local_stack(folder, IMPATIENT, workers=workers, kafka=kafka)


def test_twice_and_in_random_order_gives_the_same(
    tmp_path: Path, kafka: KafkaCluster | None
) -> None:
    rng = random.Random(7)
    published = oracle.random_touchpoints(rng, people=2_000, number=3_000)
    everything = published * 2
    rng.shuffle(everything)
    with start(tmp_path, 2, kafka) as stack:
        publish(stack.settings, everything)
        client = connect(stack.settings)
        wait_until_right(client, published)
        reconciled = run(stack, "reconcile")
        assert reconciled.returncode == 0, reconciled.stdout
        client.close()


@pytest.mark.parametrize(("workers", "kills"), [pytest.param(1, 3, marks=pytest.mark.long), (2, 1)])
def test_killed_workers_lose_and_repeat_nothing(
    tmp_path: Path, kafka: KafkaCluster | None, workers: int, kills: int
) -> None:
    rng = random.Random(workers)
    published = oracle.random_touchpoints(rng, people=4_000, number=6_000)
    parts = [published[n :: kills + 1] for n in range(kills + 1)]
    with start(tmp_path, workers, kafka) as stack:
        client = connect(stack.settings)
        for part in parts[:-1]:
            before = count(client)
            publish(stack.settings, part)
            wait_for_more(client, before)
            stack.workers.kill(rng.randrange(workers))
        publish(stack.settings, parts[-1])
        wait_until_right(client, published)
        client.close()


def test_operators_split_and_join_customers_and_every_figure_follows(
    tmp_path: Path, kafka: KafkaCluster | None
) -> None:
    rng = random.Random(11)
    published = oracle.random_touchpoints(rng, people=300, number=1_500)
    rules = tmp_path / "rules.toml"
    text = load_identity_rules_text().replace("max_identities = 200", "max_identities = 3")
    rules.write_text(text)
    found = oracle.resolution_of(published)
    (one, other), *_ = [pair for pair in found.joined if sum(pair[0]) % 3]
    denied = [(one, other, Word(1, False, "ann", "", 0))]
    allowed = [(one, other, Word(2, True, "ann", "", 0))]
    with start(tmp_path / "stack", 2, kafka) as stack:
        client = connect(stack.settings)
        publish(stack.settings, published)
        wait_until_right(client, published)
        pair = (one.hex(), other.hex())
        assert "are one customer" in run(stack, "identity", "explain", *pair).stdout
        assert run(stack, "identity", "deny", *pair, "--operator", "ann").returncode == 0
        wait_until_right(client, published, denied)
        explained = run(stack, "identity", "explain", *pair)
        assert "ann" in explained.stdout
        assert run(stack, "identity", "allow", *pair, "--operator", "bob").returncode == 0
        wait_until_right(client, published, allowed)
        assert expected(published, allowed) == expected(published)
        before = seen(client)
        dry = run(stack, "identity", "dry-run", str(rules), "--format", "json")
        assert seen(client) == before, "a dry run changes nothing"
        applied = run(stack, "identity", "rules", "apply", str(rules), "--operator", "ann")
        assert applied.returncode == 0, applied.stderr
        new = parse_rules(text, "rules.toml")
        wait_until_right(client, published, allowed, new)
        reconciled = run(stack, "reconcile")
        assert reconciled.returncode == 0, reconciled.stdout
        report = json.loads(dry.stdout)
        assert report["then"]["figures"]["customers"] == len(seen(client)["customers"])
        client.close()


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaCluster | None
) -> Iterator[LocalStack]:
    with start(tmp_path_factory.mktemp("stack"), 1, kafka) as stack:
        yield stack


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    client = connect(stack.settings)
    yield client
    client.close()


GOOD: dict[str, Any] = {
    "event_id": "good",
    "occurred_at": int(time.time() * 1000),
    "action": "page_viewed",
    "identifiers": [{"kind": "email", "value": "Ada@Example.com", "verified": True}],
}


def poison() -> dict[str, bytes | None]:
    """A value for each reason."""
    codec = TouchpointCodec(max_payload_bytes=4 << 20)
    valid = codec.encode("web", GOOD)
    long_ago = {**GOOD, "occurred_at": -(10**14)}
    return {
        "null_value": None,
        "bad_framing": b"\x01abcdef",
        "unknown_schema": b"\x00\x00\x00\x00\x01" + valid[5:],
        "truncated": valid[:-7],
        "wrong_type": codec.encode("chat", {**GOOD, "action": "started"}),
        "missing_identifier": codec.encode("web", {**GOOD, "identifiers": []}),
        "outside_horizon": codec.encode("web", long_ago),
        "too_large": valid + b"\x00" * 300_000,
    }


def test_each_bad_record_is_one_dead_letter_and_its_neighbours_count(
    stack: LocalStack, client: Client
) -> None:
    codec = TouchpointCodec(max_payload_bytes=4 << 20)
    producer = Producer(kafka_config(stack.settings))
    topic = stack.settings.topic_prefix + "touchpoints.web"
    for number, value in enumerate(poison().values()):
        good = codec.encode("web", {**GOOD, "event_id": f"good-{number}"})
        producer.produce(topic, value=value, partition=0)
        producer.produce(topic, value=good, partition=0)
    assert producer.flush(30) == 0
    wait_for_count(client, len(poison()))
    sql = "SELECT reason, topic, partition, offset, hex(value) FROM dead_letters"
    rows = client.query(sql).result_rows
    found = {row[0]: (*row[1:4], bytes.fromhex(row[4])) for row in rows}
    wanted = {
        reason: ("touchpoints.web", 0, 2 * number, value or b"")
        for number, (reason, value) in enumerate(poison().items())
    }
    assert found == wanted
    assert len(rows) == len(wanted)
    log = KafkaLog(stack.settings)
    letters = [
        r for p in range(stack.settings.partitions) for r in records_of(log, DEAD_LETTER, p, 0)
    ]
    assert [letter.value or None for letter in letters] == [v or None for v in poison().values()]


def run(stack: LocalStack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "touchstream.streams.cli", *arguments]
    environment = worker_environment(stack.settings, 0)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_commands_answer(stack: LocalStack, client: Client) -> None:
    answer = run(stack, "query", "SELECT count() AS n FROM customers", "--format", "json")
    assert json.loads(answer.stdout)[0]["n"] == 1
    assert "email" in run(stack, "customers", "show", "email: ADA@example.com").stdout
    assert run(stack, "metrics", "--window", "1h").returncode == 0
    doctor = run(stack, "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "all topics exist" in run(stack, "topics", "apply").stdout


def test_prometheus_sees_the_worker(stack: LocalStack, client: Client) -> None:
    url = f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics"
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    assert 'touchstream_touchpoints_total{channel="web"} 8.0' in text
    assert 'touchstream_dead_letters_total{agent="ingest",reason="truncated"} 1.0' in text
    assert 'touchstream_lag_records{agent="stitch"' in text
