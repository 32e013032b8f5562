"""Published figures and worked examples come out of the running pipeline, to the last digit."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from stacks import local_stack

from touchstream.streams.clickhouse import connect
from touchstream.streams.demo import cdnow
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.stack import LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration
PATIENCE_SECONDS = 180.0
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000
WEEK_MS = 7 * 86_400_000
Touchpoint = tuple[str, dict[str, Any]]

EFFORT = (80, 210, 140, 110, 160, 180, 120)
"""Number of answers 1 to 7."""
ALIVE = {
    (2, 30.43, 38.86): 0.726579,
    (1, 1.71, 38.86): 0.212101,
    (7, 29.43, 38.86): 0.641756,
    (23, 39.0, 39.0): 0.968555,
}
"""Repeat orders, weeks to the last one, weeks observed: P(alive), Fader, Hardie and Lee 2005."""
SAID = {
    "VADER is smart, handsome, and funny.": 0.8316,
    "VADER is smart, handsome, and funny!": 0.8439,
    "The book was good.": 0.4404,
    "Today sux": -0.3612,
}
"""Documented with VADER 3.3.2."""


def who(name: str) -> dict[str, Any]:
    return {"identifiers": [{"kind": "crm_id", "value": name, "verified": True}]}


def purchases() -> Iterator[Touchpoint]:
    for each in cdnow.purchases():
        fields = {"action": "placed", "value": each.dollars, "currency": "USD"}
        fields |= {"event_id": f"line {each.number}", "occurred_at": each.occurred_at}
        yield "purchase", {**fields, "quantity": each.units, **who(f"cdnow {each.customer}")}


def answers() -> Iterator[Touchpoint]:
    """Recommendation answers of shares 1/2, 1/3, 1/6, and effort answers."""
    scores = [("nps", 10.0)] * 162 + [("nps", 8.0)] * 108 + [("nps", 3.0)] * 54
    scores += [("ces", float(n)) for n, count in enumerate(EFFORT, 1) for _ in range(count)]
    for number, (question, score) in enumerate(scores):
        fields = {"action": "answered", "question": question, "score": score}
        yield "survey", {**fields, **at(f"answer {number}", NOON_MS), **who(f"asked {number}")}


def calls() -> Iterator[Touchpoint]:
    """860 answered in time, 140 late; 60 abandoned, 20 of them in time."""
    waits = [(False, 5_000)] * 860 + [(False, 60_000)] * 140
    waits += [(True, 5_000)] * 20 + [(True, 60_000)] * 40
    for number, (abandoned, wait_ms) in enumerate(waits):
        fields = {"action": "ended", "abandoned": abandoned, "wait_ms": wait_ms}
        yield "phone", {**fields, **at(f"call {number}", NOON_MS), **who(f"caller {number}")}


def buyers() -> Iterator[Touchpoint]:
    """Customers whose repeat orders and weeks are those of the published example."""
    for name, (repeats, last, _) in enumerate(ALIVE):
        for number in range(repeats + 1):
            weeks = last * number / repeats
            fields = {"action": "placed", "value": 10.0, **who(f"alive {name}")}
            moment = NOON_MS - 60 * WEEK_MS + round(weeks * WEEK_MS)
            yield "purchase", {**fields, **at(f"alive {name} {number}", moment)}


def posts() -> Iterator[Touchpoint]:
    for text in SAID:
        fields = {"action": "posted", "platform": "x", "text": text, "language": "en"}
        yield "social", {**fields, **at(text, NOON_MS), **who("author")}


def at(event_id: str, moment: int) -> dict[str, Any]:
    return {"event_id": event_id, "occurred_at": moment}


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaCluster | None
) -> Iterator[LocalStack]:
    """A pipeline that has taken everything."""
    published = [*purchases(), *answers(), *calls(), *buyers(), *posts()]
    folder = tmp_path_factory.mktemp("golden")
    settings = Settings(sentiment_model="vader")
    with local_stack(folder, settings, workers=2, kafka=kafka) as stack:
        with Publisher(stack.settings) as publisher:
            for channel, touchpoint in published:
                publisher.publish(channel, touchpoint)
        client = connect(stack.settings)
        deadline = time.monotonic() + PATIENCE_SECONDS
        sql = "SELECT toInt64(sum(touchpoints)) FROM customers"
        while (counted := client.query(sql).result_rows[0][0]) != len(published):
            assert time.monotonic() < deadline, counted
            time.sleep(0.5)
        client.close()
        while (said := reconcile(stack)).returncode:  # panes may come after customers
            assert time.monotonic() < deadline, said.stdout
        yield stack


def reconcile(stack: LocalStack) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "touchstream.streams.cli", "reconcile"]
    environment = worker_environment(stack.settings, 0)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    client = connect(stack.settings)
    yield client
    client.close()


def metrics(client: Client, as_of: datetime, window: str) -> dict[str, dict[str, Any]]:
    """Metrics of everybody at a moment."""
    sql = "SELECT * FROM metrics_at(as_of = {as_of:DateTime64(3)}) WHERE dimension = 'all'"
    found = client.query(
        f"{sql} AND window = {{window:String}}", parameters={"as_of": as_of, "window": window}
    )
    return {row["metric"]: row for row in found.named_results()}


def test_purchase_log_comes_to_its_published_totals(client: Client) -> None:
    found = metrics(client, datetime(1998, 7, 1, tzinfo=UTC), "all")
    assert found["buyers"]["value"] == cdnow.CUSTOMERS
    assert found["orders"]["value"] == cdnow.ORDERS
    assert found["revenue"]["value"] == float(cdnow.REVENUE)
    assert round(found["average_order_value"]["value"], 6) == 35.893648


def test_repeat_purchase_rates_are_the_published_ones(client: Client) -> None:
    found = metrics(client, datetime(1998, 7, 1, tzinfo=UTC), "all")
    by_order, by_day = found["repeat_purchase_rate"], found["repeat_purchase_rate_by_day"]
    assert (by_order["numerator"], round(by_order["value"], 4)) == (11_662, 49.4782)
    assert (by_day["numerator"], round(by_day["value"], 4)) == (11_516, 48.8587)


def test_days_between_orders_are_the_published_ones(client: Client) -> None:
    found = metrics(client, datetime(1998, 7, 1, tzinfo=UTC), "all")
    gap = found["purchase_gap"]
    assert (gap["n"], round(gap["value"], 6)) == (44_021, 72.213989)
    for percentile, days in cdnow.GAPS.items():
        assert found[f"purchase_gap_p{percentile}"]["value"] == pytest.approx(days, rel=0.01)


@pytest.mark.parametrize("number", range(len(cdnow.ACTIVE)))
def test_retention_of_90_days_is_the_published_one(client: Client, number: int) -> None:
    as_of = cdnow.START + (number + 2) * cdnow.WINDOW
    retention = metrics(client, as_of, "90d")["retention"]
    kept, active = retention["numerator"], retention["denominator"]
    assert (kept, active) == (cdnow.KEPT[number], cdnow.ACTIVE[number])
    rates = (0.226941, 0.421200, 0.479058, 0.455582, 0.466151)
    assert round(retention["value"] / 100, 6) == rates[number]


@pytest.mark.parametrize("number", range(len(ALIVE)))
def test_chance_to_be_alive_is_the_published_one(client: Client, number: int) -> None:
    (repeats, last, observed), alive = list(ALIVE.items())[number]
    as_of = NOON + timedelta(weeks=observed - 60)
    sql = """
    SELECT p_alive FROM customer_value(as_of = {as_of:DateTime64(3)}) WHERE customer_id IN (
        SELECT customer_id FROM touchpoints WHERE event_id = {event_id:String}
    )
    """
    asked = {"as_of": as_of, "event_id": f"alive {number} {repeats}"}
    ((found,),) = client.query(sql, parameters=asked).result_rows
    assert round(found, 6) == alive, (repeats, last, observed)


def test_recommendation_score_is_the_worked_example(client: Client) -> None:
    nps = metrics(client, NOON + timedelta(minutes=1), "5m")["nps"]
    assert (nps["n"], round(nps["value"], 2)) == (324, 33.33)
    margin = (nps["high"] - nps["low"]) / 2
    assert round(margin / 1.96, 4) == 4.1409
    assert margin == pytest.approx(8.1159, abs=0.0005)


def test_effort_is_the_worked_example(client: Client) -> None:
    ces = metrics(client, NOON + timedelta(minutes=1), "1h")["ces"]
    assert (ces["n"], ces["value"]) == (1_000, 4.08)


def test_service_level_is_the_worked_example_in_all_variants(client: Client) -> None:
    found = metrics(client, NOON + timedelta(minutes=1), "24h")
    levels = [round(found[f"service_level_f{n}"]["value"], 2) for n in range(1, 5)]
    assert levels == [83.02, 86.00, 81.13, 82.69]
    assert found["service_level"]["value"] == found["service_level_f4"]["value"]


def test_sentiment_is_the_documented_one(client: Client) -> None:
    sql = "SELECT text, toFloat64(details['sentiment']) FROM touchpoints WHERE channel = 'social'"
    assert {row[0]: row[1] for row in client.query(sql).result_rows} == SAID
    sentiment = metrics(client, NOON + timedelta(minutes=1), "5m")["sentiment"]
    assert sentiment["value"] == pytest.approx(sum(SAID.values()) / len(SAID))


def test_every_stored_figure_is_what_the_facts_come_to(stack: LocalStack) -> None:
    said = reconcile(stack)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "no difference" in said.stdout
