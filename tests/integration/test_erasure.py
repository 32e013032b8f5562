"""Erasure through the product itself: no trace of a customer is left, others stay as they are."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import oracle
import pytest
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from lives import random_life
from stacks import IMPATIENT, local_stack
from truth import PATIENCE_SECONDS, publish, wait_until_right

from touchstream.agents.identifiers import identity_token
from touchstream.streams.admin import admin_client
from touchstream.streams.clickhouse import connect
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.erasure.tables import LEFT_BY_IDENTITIES
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.stack import LocalStack, prepare_topics_and_tables
from touchstream.streams.settings import Settings
from touchstream.streams.tables import DEAD_LETTERS, MARKS
from touchstream.streams.topics import CUSTOMER, IDENTITY, STATES

pytestmark = pytest.mark.integration
Published = oracle.Published
ANN = {"kind": "email", "value": "Ann.Lee@example.com", "verified": True}
UNREADABLE = "ann.lee"
"""Part of her address that stands in a record which is no Avro."""
OPERATOR = ("--operator", "op")
PHONE = {"kind": "phone", "value": "+12125550199", "verified": True}


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaCluster | None
) -> Iterator[LocalStack]:
    with local_stack(tmp_path_factory.mktemp("s"), IMPATIENT, workers=2, kafka=kafka) as stack:
        yield stack


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    client = connect(stack.settings)
    yield client
    client.close()


def run(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "touchstream.streams.cli", *arguments]
    environment = worker_environment(settings, 0)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def token(identifier: dict[str, Any]) -> str:
    return identity_token(identifier["kind"], identifier["value"], Settings())


def anns(number: int) -> list[Published]:
    """Touchpoints of Ann, who is known by two identifiers."""
    shown = ([ANN], [PHONE], [ANN, PHONE])
    return [
        (channel, {**fields, "event_id": f"ann-{n}", "identifiers": shown[n % 3]})
        for n, (channel, fields) in enumerate(random_life(random.Random(3), number))
    ]


def rejected(settings: Settings) -> None:
    """Bad records: two of Ann's, of which one is no Avro, and one of somebody else."""
    codec = TouchpointCodec(max_payload_bytes=1 << 20)
    bad = {"event_id": "bad", "occurred_at": -(10**14), "action": "page_viewed"}
    values = [
        codec.encode("web", {**bad, "identifiers": [{**PHONE, "value": "(212) 555-0199"}]}),
        b'{"email": "ANN.LEE@example.com"}',
        codec.encode("web", {**bad, "identifiers": [{**ANN, "value": "bob@example.com"}]}),
    ]
    producer = Producer(kafka_config(settings))
    for value in values:
        producer.produce(settings.topic_prefix + "touchpoints.web", value=value, partition=0)
    assert producer.flush(30) == 0


def traces(client: Client) -> list[str]:
    """Names of Ann's that tables still hold, also in rows that newer ones hide."""
    tables = [table.name for table in LEFT_BY_IDENTITIES if table is not MARKS]
    sql = "SELECT * FROM {}"
    kept = [client.raw_query(sql.format(t), fmt="TSV") for t in (*tables, DEAD_LETTERS.name)]
    names = (token(ANN), token(PHONE), UNREADABLE, "555-0199")
    return [name for name in names if any(name.encode() in each.lower() for each in kept)]


def erase(settings: Settings, *who: str) -> "subprocess.CompletedProcess[str]":
    return run(settings, "erase", *who, "--yes", *OPERATOR)


def wait_until(is_so: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def wait_for_dead_letters(client: Client, number: int) -> None:
    def found() -> list[Any]:
        return [*client.query("SELECT reason, detail, value FROM dead_letters").result_rows]

    wait_until(lambda: len(found()) == number, lambda: f"not {number} dead letters: {found()}")


def wait_for_touchpoints(client: Client, who: dict[str, Any], number: int) -> None:
    sql = f"SELECT count() FROM touchpoints WHERE identity = '{token(who)}'"
    wait_until(
        lambda: client.query(sql).result_rows == [(number,)], lambda: f"not {number} touchpoints"
    )


def wait_until_back(client: Client, who: dict[str, Any]) -> None:
    sql = f"SELECT mark FROM identity_marks WHERE identity = '{token(who)}' AND in_force"
    wait_until(lambda: client.query(sql).result_rows == [("",)], lambda: "it is not let back")


def now_ms() -> int:
    return int(time.time() * 1000)


def rebuild(stack: LocalStack, client: Client) -> None:
    """Compute everything again from the touchpoints in Kafka; see docs/operations.md."""
    settings = stack.settings
    stack.workers.stop()
    admin = admin_client(settings)
    names = [settings.topic_prefix + topic for topic in (IDENTITY, CUSTOMER, *STATES)]
    for deleted in admin.delete_topics(names, operation_timeout=30).values():
        deleted.result()
    client.command(f"DROP DATABASE {settings.clickhouse_database} SYNC")
    again = settings.model_copy(update={"group": f"{settings.group}-again"})
    prepare_topics_and_tables(again)
    stack.settings = again
    stack.start_workers()


def test_erased_customer_leaves_no_trace_and_does_not_come_back(
    stack: LocalStack, client: Client, kafka: KafkaCluster | None
) -> None:
    others, hers = oracle.random_touchpoints(random.Random(5), people=150, number=750), anns(40)
    now, later = others[:700], others[700:]
    publish(stack.settings, [*now[:350], *hers, *now[350:]])
    rejected(stack.settings)
    wait_until_right(client, [*now, *hers])
    wait_for_dead_letters(client, 3)

    exported = json.loads(run(stack.settings, "export", "phone:212 555 0199").stdout)
    assert len(exported["touchpoints"]) == len(hers)
    assert [each["touchpoints"] for each in exported["customers"]] == [len(hers)]
    assert {each["identity"] for each in exported["identities"]} == {token(ANN), token(PHONE)}
    assert len(exported["dead_letters"]) == 1

    erased = erase(stack.settings, "email:ann.lee@EXAMPLE.com", "phone:+12125550199")
    assert erased.returncode == 0, erased.stdout + erased.stderr
    wait_until_right(client, now)
    assert traces(client) == []
    wait_for_dead_letters(client, 1)
    reconciled = run(stack.settings, "reconcile")
    assert reconciled.returncode == 0, reconciled.stdout
    verified = run(stack.settings, "erase", "--verify")
    # The embedded broker cannot delete records; it forgets all when it stops.
    assert ("nothing is left" in verified.stdout) == (kafka is not None), verified.stdout
    assert verified.returncode == (kafka is None)

    publish(stack.settings, [*hers, *later])
    wait_until_right(client, others)
    assert traces(client) == []

    rebuild(stack, client)
    wait_until_right(client, others)
    assert traces(client) == [UNREADABLE]
    wait_for_dead_letters(client, 2)
    erased = erase(stack.settings, "email:ann.lee@EXAMPLE.com", "phone:+12125550199")
    assert erased.returncode == 0, erased.stdout + erased.stderr
    assert traces(client) == []


def test_erased_identity_may_come_back_as_somebody_new(stack: LocalStack, client: Client) -> None:
    who = {"kind": "crm_id", "value": "back-1", "verified": True}
    seen_before = {"occurred_at": now_ms() - 60_000, "action": "page_viewed"}
    publish(stack.settings, [("web", {**seen_before, "event_id": "b1", "identifiers": [who]})])
    wait_for_touchpoints(client, who, 1)
    assert erase(stack.settings, "crm_id:back-1").returncode == 0
    assert run(stack.settings, "erase", "--back", "crm_id:nobody", *OPERATOR).returncode == 1
    assert run(stack.settings, "erase", "--back", "crm_id:back-1", *OPERATOR).returncode == 0
    wait_until_back(client, who)
    again = {"occurred_at": now_ms(), "action": "page_viewed", "identifiers": [who]}
    old = {**seen_before, "event_id": "b1", "identifiers": [who]}
    publish(stack.settings, [("web", old), ("web", {**again, "event_id": "b2"})])
    wait_for_touchpoints(client, who, 1)
    sql = "SELECT event_id FROM touchpoints WHERE identity = %(token)s"
    assert client.query(sql, parameters={"token": token(who)}).result_rows == [("b2",)]
