"""What is published is broken, out of time, repeated, or all of one: rows 5, 6, 17, 18 and 19."""

import json
import random
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from ledger import letters_of
from load import touchpoints
from prometheus_client.parser import text_string_to_metric_families
from rig import Rig, RigOf, wait_for
from stacks import IMPATIENT, records_of
from test_again import stop_workers
from test_workers import RUN

from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.ports import accepts_connections
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.publisher import Publisher
from touchstream.streams.topics import IDENTITY

pytestmark = pytest.mark.integration
WEB = "touchpoints.web"
KEPT_BYTES = 4 << 20
LARGEST_BYTES = 8 << 20
CROWD_PER_SECOND = 100
LIMIT = 20
Value = tuple[str, int, bytes | None]
"""Topic, partition and what is published there."""


def visit(event_id: str, **fields: Any) -> dict[str, Any]:
    who = [{"kind": "crm_id", "value": "somebody", "verified": True}]
    visit = {"event_id": event_id, "action": "page_viewed", "identifiers": who}
    return {**visit, "occurred_at": int(time.time() * 1000), **fields}


def encoded(channel: str, touchpoint: dict[str, Any]) -> bytes:
    return CODEC.encode(channel, touchpoint)


CODEC = TouchpointCodec(max_payload_bytes=KEPT_BYTES)


def produce(loaded: Rig, values: Iterable[Value]) -> None:
    """Publish bytes as they are, without keys."""
    config = {**kafka_config(loaded.settings), "message.max.bytes": LARGEST_BYTES}
    producer = Producer(config)
    for topic, partition, value in values:
        name = loaded.settings.topic_prefix + topic
        while True:
            try:
                producer.produce(name, value=value, partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def test_05_poison_is_one_dead_letter_each_and_neighbours_count(rig_of: RigOf) -> None:
    valid = encoded("web", visit("never"))
    poison: list[bytes | None] = [
        b"this is no Avro",
        b"\x00\x00\x00\x00\x63" + valid[5:],
        valid[:-7],
        b"",
        None,
        valid + bytes(5 << 20),
    ]
    with rig_of(workers=1) as loaded:
        values: list[Value] = []
        for number, value in enumerate(poison):
            good = visit(f"good {number}")
            loaded.ledger.add("web", good)
            values += [(WEB, 0, value), (WEB, 0, encoded("web", good))]
        produce(loaded, values)
        loaded.check()
        assert letters_of(loaded.client) == Counter(
            {(WEB, 0, 2 * number): 1 for number in range(len(poison))}
        )
        sql = "SELECT hex(value) FROM dead_letters ORDER BY offset"
        kept = [bytes.fromhex(row[0]) for row in loaded.client.query(sql).result_rows]
        assert kept == [(value or b"")[:KEPT_BYTES] for value in poison]
        assert loaded.restarts == []


def test_06_everything_is_poison_and_nothing_is_lost_once_it_is_repaired(
    rig_of: RigOf, rng: random.Random
) -> None:
    """A producer frames its records with an id that nobody knows."""
    published = touchpoints(rng, 20)
    with rig_of(workers=2, repeats=True) as loaded:
        values: list[Value] = []
        for channel, touchpoint in published:
            value = encoded(channel, touchpoint)
            broken = b"\x00\x00\x00\x00\x63" + value[5:]
            values.append((f"touchpoints.{channel}", rng.randrange(4), broken))
        produce(loaded, values)
        wait_for(lambda: letters_of(loaded.client).total() >= len(values), "not all are letters")
        assert set(letters_of(loaded.client).values()) == {1}
        assert loaded.progress() == 0
        sql = "SELECT topic, partition, hex(value) FROM dead_letters"
        letters = loaded.client.query(sql).result_rows
        heads = {
            f"touchpoints.{channel}": encoded(channel, each)[:5] for channel, each in published
        }
        produce(loaded, [(t, p, heads[t] + bytes.fromhex(value)[5:]) for t, p, value in letters])
        for channel, touchpoint in published:
            loaded.ledger.add(channel, touchpoint)
        loaded.check()


def test_06_what_is_all_poison_is_not_read_any_more_and_read_on_when_told(
    rig_of: RigOf, rng: random.Random
) -> None:
    """Everything else goes on meanwhile."""
    settings = IMPATIENT.model_copy(update={"dead_letter_limit": LIMIT})
    broken, behind = encoded("web", visit("broken"))[:-7], visit("behind")
    others = [each for each in touchpoints(rng, 60) if each[0] != "web"]
    with rig_of(workers=1, settings=settings) as loaded:
        produce(loaded, [(WEB, 0, broken)] * LIMIT)
        wait_for(lambda: accepts_connections(*loaded.stack.metrics_ports), "no worker answers")
        wait_for(lambda: held(loaded) == [WEB], "nothing is held")
        produce(loaded, [*[(WEB, 0, broken)] * LIMIT, (WEB, 0, encoded("web", behind))])
        loaded.publish(others)
        loaded.check()
        assert letters_of(loaded.client) == {(WEB, 0, offset): 1 for offset in range(LIMIT)}
        said = f"{WEB}[0]: not read any more, {LIMIT} records in a row were rejected"
        assert reasons(loaded) == [said]
        assert loaded.restarts == []
        stop_workers(loaded)
        loaded.stack.settings = loaded.stack.settings.model_copy(update={"dead_letter_limit": 0})
        loaded.start_workers(1)
        loaded.ledger.add("web", behind)
        loaded.check()
        assert letters_of(loaded.client) == {(WEB, 0, offset): 1 for offset in range(2 * LIMIT)}


def held(loaded: Rig) -> list[str]:
    """Topics of which a partition is not read any more."""
    [port] = loaded.stack.metrics_ports
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [each for family in families for each in family.samples]
    return [each.labels["topic"] for each in samples if each.name == "touchstream_held"]


def reasons(loaded: Rig) -> list[str]:
    """Why the worker is not ready."""
    [port] = loaded.stack.metrics_ports
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
    said: list[str] = json.load(refused.value)["reasons"]
    refused.value.close()
    return said


SKEW = """
import time

real, calls = time.time, []
def skewed():
    calls.append(None)
    return real() + ({skew} if len(calls) < {jump_at} else {then})
time.time = skewed
"""


def test_17_clocks_of_workers_are_wrong_and_jump(
    rig_of: RigOf, rng: random.Random, tmp_path: Path
) -> None:
    """One an hour ahead, then an hour behind; the other the other way round."""
    clocks = [{"skew": 3600, "then": -3600}, {"skew": -3600, "then": 3600}]
    now = int(time.time() * 1000)
    times = {"future": now + 3 * 86_400_000, "ancient": -(10**14)}
    with rig_of(workers=0) as loaded:
        environment = worker_environment(loaded.stack.settings, 0)
        workers = []
        for number, clock in enumerate(clocks):
            code = SKEW.format(**clock, jump_at=rng.randrange(500, 1500)) + RUN
            arguments = [sys.executable, "-P", "-c", code]
            log = tmp_path / f"skewed-{number}.log"
            workers.append(Child(Command(f"skewed-{number}", arguments, log, environment)))
        try:
            with loaded.publishing(touchpoints(rng, 20), 20):
                values = [
                    (WEB, 0, encoded("web", visit(n, occurred_at=at))) for n, at in times.items()
                ]
                produce(loaded, values)
            loaded.check()
            assert [worker.exit_code() for worker in workers] == [None, None]
        finally:
            for worker in workers:
                worker.stop()
        reasons = loaded.client.query("SELECT reason, count() FROM dead_letters GROUP BY reason")
        assert reasons.result_rows == [("outside_horizon", 2)]


def test_18_everything_comes_up_to_three_times_anywhere_in_any_order(
    rig_of: RigOf, rng: random.Random
) -> None:
    published = touchpoints(rng, 40)
    copies = [each for each in published for _ in range(rng.randint(1, 3))]
    rng.shuffle(copies)
    with rig_of(workers=2, repeats=True) as loaded:
        for channel, touchpoint in published:
            loaded.ledger.add(channel, touchpoint)
        values = [(f"touchpoints.{c}", rng.randrange(4), encoded(c, each)) for c, each in copies]
        produce(loaded, values)
        loaded.check()
        print(f"{len(copies)} records of {len(published)} touchpoints")


@pytest.mark.parametrize("number", [2_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_19_one_value_is_shared_by_all_and_one_key_has_a_third_of_the_traffic(
    rig_of: RigOf, rng: random.Random, number: int
) -> None:
    """Bystanders are published all the while and must not wait for the others."""
    shared = {"kind": "email", "value": "info@example.com", "verified": False}
    crowd = [
        ("web", visit(f"crowd {n}", identifiers=[anonymous(f"device {n}"), shared]))
        for n in range(number)
    ]
    hot = [("web", visit(f"hot {n}", identifiers=[anonymous("hot")])) for n in range(number // 2)]
    flood = crowd + hot
    rng.shuffle(flood)
    with rig_of(workers=2) as loaded:
        loaded.publish(touchpoints(rng, 2))
        loaded.wait_for_progress()
        waits: list[float] = []
        seconds = number / CROWD_PER_SECOND
        with loaded.publishing(flood, seconds):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                waits.append(wait_of_a_bystander(loaded, f"bystander {len(waits)}"))
        wait_for(lambda: loaded.progress() >= len(loaded.ledger.published), "not all arrive", 600)
        messages = sum(
            len(records_of(KafkaLog(loaded.settings), IDENTITY, p, 0))
            for p in range(loaded.settings.partitions)
        )
        each = messages / len(loaded.ledger.published)
        print(
            f"{each:.1f} messages a touchpoint; a bystander waits {statistics.median(waits):.1f} s,"
            f" at most {max(waits):.1f} s, {len(waits)} of them"
        )
        assert each < 10
        assert max(waits) < 10
        alerts = loaded.client.query("SELECT count() FROM alerts WHERE kind = 'shared'")
        assert alerts.result_rows[0][0] >= 1
        loaded.check(600)


def anonymous(name: str) -> dict[str, Any]:
    return {"kind": "anonymous_id", "value": name, "verified": False}


def wait_of_a_bystander(loaded: Rig, name: str) -> float:
    """Seconds until a touchpoint of somebody else is stored."""
    touchpoint = visit(name, identifiers=[anonymous(name)])
    loaded.ledger.add("web", touchpoint)
    with Publisher(loaded.settings, channels=("web",)) as publisher:
        publisher.publish("web", touchpoint)
    sql = f"SELECT count() FROM touchpoint_facts WHERE event_id = '{name}'"
    return wait_for(lambda: loaded.client.query(sql).result_rows[0][0], f"{name} waits")
