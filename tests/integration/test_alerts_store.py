"""Alerts and targets on a real engine: statuses by hand, and what is due is raised once."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from touchstream.streams.alerts import Alert, alert_about, alert_row, decode_alert
from touchstream.streams.cli import app
from touchstream.streams.clickhouse import connect
from touchstream.streams.customer_tables import ALERTS, CUSTOMERS
from touchstream.streams.memory_log import MemoryLog
from touchstream.streams.migrations import render, shipped_migrations
from touchstream.streams.settings import PREFIX, Settings
from touchstream.streams.table import Row, Table
from touchstream.streams.targets import (
    TARGETS,
    Target,
    apply_targets,
    insert_rows,
    load_targets_text,
    stored_targets,
)
from touchstream.streams.watch import Watch

pytestmark = pytest.mark.integration

METRICS = """CREATE TABLE metrics (metric LowCardinality(String), window String, dimension String,
    member String, n Int64, value Nullable(Float64), low Nullable(Float64),
    high Nullable(Float64), unit LowCardinality(String)) ENGINE = Memory"""
"""Figures that tests say, in place of the view."""
NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
DAY_MS = 86_400_000


@pytest.fixture
def client(clickhouse_settings: Settings) -> Iterator[Client]:
    """The tables and views of the migration, over figures and customers that tests say."""
    database = clickhouse_settings.clickhouse_database
    client = connect(clickhouse_settings, database="default", dedicated_pool=True)
    client.command(f"CREATE DATABASE {database}")
    client.database = database
    client.command(METRICS)
    columns = ", ".join(f"{name} {kind}" for name, kind in CUSTOMERS.columns)
    engine = "ReplacingMergeTree(version, is_deleted) ORDER BY customer_id"
    client.command(f"CREATE TABLE {CUSTOMERS.name} ({columns}) ENGINE = {engine}")
    (migration,) = (each for each in shipped_migrations() if each.name == "alerts_targets")
    for statement in render(migration, clickhouse_settings) * 2:
        client.command(statement)
    yield client
    client.close()


def select(client: Client, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql).result_rows]


def target(name: str, wanted: float, direction: str = "up", **values: Any) -> Target:
    given: dict[str, Any] = {"metric": name, "window": "7d", "dimension": "all", "member": ""}
    given |= {
        "tolerance": 0.0,
        "minimum_n": 30,
        "weight": 1.0,
        "valid_from": 0,
        "valid_to": None,
    } | values
    return Target(target_id=name, target=wanted, direction=direction, **given)


def figures(client: Client, *rows: tuple[Any, ...]) -> None:
    """Metric, n, value, low and high of everybody in 7 days."""
    names = ("metric", "window", "dimension", "member", "n", "value", "low", "high", "unit")
    lines = [(row[0], "7d", "all", "", *row[1:], "points") for row in rows]
    client.insert("metrics", lines, column_names=names)


# Targets


@pytest.mark.parametrize("table", [ALERTS, TARGETS], ids=lambda table: table.name)
def test_tables_are_what_is_written(client: Client, table: Table) -> None:
    found = [(row[0], row[1]) for row in select(client, f"DESCRIBE {table.name}")]
    assert found == list(table.columns)


def test_every_column_has_a_comment(client: Client) -> None:
    names = "('alert_records', 'alerts', 'target_states', 'targets', 'experience_gap',"
    names += " 'experience_index')"
    where = f"database = currentDatabase() AND table IN {names}"
    sql = f"SELECT count(), countIf(comment = '') FROM system.columns WHERE {where}"
    ((columns, bare),) = select(client, sql)
    assert (columns > 50, bare) == (True, 0)


BY_HAND = [
    # target, figure (n, value, low, high), gap, status, attainment
    (target("a", 30), (100, 35.0, 20.0, 50.0), 5.0, "met", 1.0),
    (target("b", 30), (100, 30.0, None, None), 0.0, "met", 1.0),
    (target("c", 30, tolerance=5.0), (100, 27.0, 26.0, 28.0), -3.0, "at risk", 0.9),
    (target("d", 30, tolerance=5.0), (100, 25.0, 24.0, 26.0), -5.0, "at risk", 25 / 30),
    (target("e", 30), (100, 15.0, 5.0, 30.0), -15.0, "at risk", 0.5),
    (target("f", 30, tolerance=5.0), (100, 15.0, 5.0, 29.0), -15.0, "missed", 0.5),
    (target("g", 30), (100, 15.0, None, None), -15.0, "missed", 0.5),
    (target("h", 30), (29, 15.0, 14.0, 16.0), -15.0, "too few", 0.5),
    (target("i", 30), (30, 15.0, 14.0, 16.0), -15.0, "missed", 0.5),
    (target("j", 30), (0, None, None, None), None, "no data", None),
    (target("k", 30), None, None, "no data", None),
    (target("l", 30), (5, None, None, None), None, "too few", None),
    (target("m", 30), (100, -20.0, -30.0, -10.0), -50.0, "missed", 0.0),
    (target("n", 0), (100, -1.0, -2.0, -0.5), -1.0, "missed", 0.0),
    (target("o", 120, "down"), (100, 100.0, 90.0, 110.0), 20.0, "met", 1.0),
    (target("p", 120, "down", tolerance=30.0), (100, 150.0, 140.0, 160.0), -30.0, "at risk", 0.8),
    (target("q", 120, "down"), (100, 240.0, 120.0, 360.0), -120.0, "at risk", 0.5),
    (target("r", 120, "down"), (100, 240.0, 121.0, 360.0), -120.0, "missed", 0.5),
    (target("s", 0, "down", minimum_n=0), (0, 4.0, None, None), -4.0, "missed", 0.0),
    (target("t", 10, minimum_n=0), (0, 0.0, None, None), -10.0, "missed", 0.0),
]


def test_gap_status_and_attainment_are_as_by_hand(client: Client) -> None:
    apply_targets(client, [each[0] for each in BY_HAND], NOON)
    figures(client, *[(each[0].metric, *each[1]) for each in BY_HAND if each[1]])
    sql = "SELECT target_id, gap, status, attainment FROM experience_gap ORDER BY target_id"
    found = {row[0]: row[1:] for row in select(client, sql)}
    assert {name: row[:2] for name, row in found.items()} == {
        each[0].metric: each[2:4] for each in BY_HAND
    }
    for each in BY_HAND:
        assert found[each[0].metric][2] == pytest.approx(each[4]), each[0].metric


def test_gap_has_the_figure_of_its_window_and_member(client: Client) -> None:
    phone = target("csat", 4.2, dimension="channel", member="phone", window="30d", weight=2.0)
    apply_targets(client, [phone], NOON)
    names = ("metric", "window", "dimension", "member", "n", "value", "low", "high", "unit")
    lines = [
        ("csat", window, dimension, member, 50, 4.0 + place / 8, 3.0, 5.0, "points")
        for place, (window, dimension, member) in enumerate(
            [("30d", "all", ""), ("30d", "channel", "phone"), ("7d", "channel", "phone")]
            + [("30d", "channel", "chat"), ("30d", "queue", "phone")]
        )
    ]
    client.insert("metrics", lines, column_names=names)
    columns = "metric, window, dimension, member, direction, target, n, value, low, high, weight"
    assert select(client, f"SELECT {columns}, unit FROM experience_gap") == [
        ("csat", "30d", "channel", "phone", "up", 4.2, 50, 4.125, 3.0, 5.0, 2.0, "points")
    ]


def test_index_is_the_weighted_mean_of_what_can_be_judged(client: Client) -> None:
    wanted = [target("a", 30, weight=3.0), target("b", 10), target("few", 30, weight=9.0)]
    apply_targets(client, [*wanted, target("none", 30), target("near", 100)], NOON)
    figures(client, ("a", 100, 15.0, 5.0, 20.0), ("b", 100, 20.0, None, None))
    figures(client, ("few", 3, 0.0, None, None), ("near", 100, 90.0, 80.0, 100.0))
    # (3 * 0.5 + 1 * 1 + 1 * 0.9) / 5
    (row,) = select(client, "SELECT * FROM experience_index")
    assert row == (pytest.approx(68.0), 5, 3, 1, 1, 1, 5.0)


def test_index_of_nothing_is_null(client: Client) -> None:
    assert select(client, "SELECT * FROM experience_index") == [(None, 0, 0, 0, 0, 0, 0.0)]


def test_only_targets_that_are_valid_now_show(client: Client) -> None:
    now = int(datetime.now(UTC).timestamp() * 1000)
    spans: dict[str, tuple[int, int | None]] = {
        "past": (0, now - 1000),
        "now": (now - DAY_MS, now + DAY_MS),
    }
    spans |= {"future": (now + DAY_MS, None), "always": (0, None)}
    apply_targets(
        client,
        [target(name, 1, valid_from=a, valid_to=b) for name, (a, b) in spans.items()],
        NOON,
    )
    found = select(client, "SELECT target_id FROM targets ORDER BY 1")
    assert found == [("always",), ("now",)]
    assert len(select(client, "SELECT target_id FROM experience_gap")) == 2


def test_applied_targets_are_the_full_set(client: Client) -> None:
    one, two, three = target("one", 1), target("two", 2, valid_to=NOON), target("three", 3)
    assert apply_targets(client, [one, two], NOON).added == ["one", "two"]
    other = target("two", 2, "down")
    assert apply_targets(client, [three, other], NOON) == (["three"], ["two"], ["one"], [])
    assert apply_targets(client, [three, other], NOON) == ([], [], [], ["three", "two"])
    assert {name: each for name, (each, _) in stored_targets(client).items()} == {
        "two": other,
        "three": three,
    }
    assert apply_targets(client, [one], NOON) == (["one"], [], ["three", "two"], [])
    assert select(client, "SELECT target_id, target FROM targets") == [("one", 1.0)]


@pytest.fixture
def environment(clickhouse_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "CLICKHOUSE_URL", clickhouse_settings.clickhouse_url)
    monkeypatch.setenv(PREFIX + "CLICKHOUSE_DATABASE", clickhouse_settings.clickhouse_database)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("environment")
def test_commands_apply_and_show(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(load_targets_text())
    said = run("targets", "apply", str(file)).splitlines()
    assert said[0] == "added recommendation"
    assert said[-1] == "5 targets hold, 0 of them as before"
    file.write_text('[targets.recommendation]\nmetric = "nps"\nwindow = "7d"\ntarget = 40\n')
    said = run("targets", "apply", str(file)).splitlines()
    assert said[:2] == ["changed recommendation", "removed calls_answered_in_time"]
    assert said[-1] == "1 targets hold, 0 of them as before"
    figures(client, ("nps", 100, 20.0, 10.0, 30.0))
    (line,) = json.loads(run("targets", "show", "--format", "json"))
    assert (line["target_id"], line["status"], line["gap"]) == ("recommendation", "missed", -20)
    shown = run("targets", "show")
    assert "missed" in shown and "experience index: 50.0 of 100, from 1 of 1 targets" in shown


# Alerts


def test_alert_that_is_raised_again_shows_once(client: Client) -> None:
    alert = alert_about(
        "shared", "Why.", cause=("a",), raised_at=NOON, identity="1f", evidence={"links": 3}
    )
    for _ in range(2):
        insert_rows(client, ALERTS, [alert_row(alert)])
    assert select(client, "SELECT * FROM alerts") == [
        (
            alert.alert_id,
            "shared",
            datetime(2026, 1, 1, 12),
            "",
            "1f",
            "Why.",
            {"identity": "1f", "links": "3"},
        )
    ]


class Store:
    """Inserts rows at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        for table, found in rows.items():
            insert_rows(self._client, table, found)


class Watched:
    """A watch, what it writes, and its clock."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.log = MemoryLog()
        self.now_ms = NOON
        self.told: list[Alert] = []
        self._watch = Watch(
            settings,
            self.log,
            Store(client),
            raised=self.told.append,
            clock=lambda: self.now_ms / 1000,
        )

    def look(self) -> list[Alert]:
        async def once() -> list[Alert]:
            try:
                return await self._watch.watch_once()
            finally:
                self._watch.close()

        return asyncio.run(once())

    def published(self) -> list[Alert]:
        return [
            decode_alert(record.value)
            for (topic, _), records in self.log.partitions.items()
            for record in records
            if topic == "cx.alerts"
        ]


@pytest.fixture
def watched(clickhouse_settings: Settings, client: Client) -> Watched:
    return Watched(clickhouse_settings, client)


def customer(client: Client, name: str, at_risk_ms: int | None, **values: Any) -> None:
    given = {"customer_id": name, "at_risk_from": at_risk_ms, "version": 1, "changed_at": NOON}
    given |= {"last_order_at": NOON - 40 * DAY_MS, "orders": 3, "usual_gap_days": 30} | values
    empty: dict[str, Any] = {
        "Array": [],
        "Map": {},
        "String": "",
        "LowCardinality": "",
        "Nullable": None,
    }
    row = tuple(
        given.get(column, next((v for k, v in empty.items() if kind.startswith(k)), 0))
        for column, kind in CUSTOMERS.columns
    )
    insert_rows(client, CUSTOMERS, [row])


def names(alerts: list[Alert]) -> list[str | None]:
    return [alert.customer_id for alert in alerts]


def test_customer_that_became_silent_raises_one_alert(client: Client, watched: Watched) -> None:
    customer(client, "c1", NOON)
    (alert,) = watched.look()
    assert (alert.kind, alert.customer_id, alert.raised_at) == ("churn_risk", "c1", NOON)
    assert alert.reason == "No order since 2025-11-22, which is longer than the usual 30 days."
    assert alert.evidence == {
        "at_risk_from": "2026-01-01 12:00:00.000",
        "last_order_at": "2025-11-22 12:00:00.000",
        "orders": "3",
        "usual_gap_days": "30",
    }
    watched.now_ms += 3_600_000
    assert watched.look() == []
    assert watched.published() == watched.told == [alert]
    assert select(client, "SELECT alert_id, customer_id FROM alerts") == [(alert.alert_id, "c1")]


def test_only_customers_of_the_last_day_are_due(client: Client, watched: Watched) -> None:
    customer(client, "future", NOON + 1)
    customer(client, "now", NOON)
    customer(client, "just", NOON - DAY_MS + 1)
    customer(client, "old", NOON - DAY_MS)
    customer(client, "never", None)
    assert names(watched.look()) == ["just", "now"]


def test_latest_state_of_a_customer_counts(client: Client, watched: Watched) -> None:
    for name in ("bought", "merged", "late"):
        customer(client, name, NOON - 1000 if name != "late" else NOON + 1000)
    customer(client, "bought", NOON + 30 * DAY_MS, version=2)
    customer(client, "merged", NOON - 1000, version=2, is_deleted=1)
    customer(client, "late", NOON - 1000, version=2)
    assert names(watched.look()) == ["late"]


def test_customer_that_falls_silent_again_raises_another_alert(
    client: Client, watched: Watched
) -> None:
    customer(client, "c1", NOON)
    (first,) = watched.look()
    customer(client, "c1", NOON + 30 * DAY_MS, version=2)
    watched.now_ms += 30 * DAY_MS + 1000
    (second,) = watched.look()
    assert first.alert_id != second.alert_id
    assert watched.look() == []


def test_customers_are_raised_in_batches(
    client: Client, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchstream.streams.watch.AT_ONCE", 2)
    monkeypatch.setattr("touchstream.streams.watch.MOST", 5)
    for number in range(7):
        customer(client, f"c{number}", NOON)
    found = [len(watched.look()) for _ in range(3)]
    assert found == [5, 2, 0]
    assert sorted(map(str, names(watched.told))) == [f"c{number}" for number in range(7)]


def test_target_that_is_missed_raises_one_alert_a_day(client: Client, watched: Watched) -> None:
    apply_targets(client, [target("a", 30), target("b", 30), target("c", 30)], NOON)
    figures(client, ("a", 100, 15.0, 5.0, 25.0), ("b", 100, 35.0, 30.0, 40.0))
    figures(client, ("c", 5, 15.0, 14.0, 16.0))
    (alert,) = watched.look()
    assert (alert.kind, alert.customer_id) == ("target_missed", None)
    assert alert.reason == "a of everybody (7d) is 15, below the target of 30 points."
    assert alert.evidence["value"] == "15" and alert.evidence["high"] == "25"
    watched.now_ms += 6 * 3_600_000
    assert watched.look() == []
    watched.now_ms += 6 * 3_600_000
    (again,) = watched.look()
    assert again.evidence["day"] == "2026-01-02"
    assert timedelta(milliseconds=again.raised_at - alert.raised_at) == timedelta(hours=12)
