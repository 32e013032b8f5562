"""The commands that talk to ClickHouse, called as a user calls them."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from touchstream.streams.cli import queries
from touchstream.streams.cli.migrate import migrate_command
from touchstream.streams.clickhouse import connect
from touchstream.streams.customer_tables import CUSTOMERS, PANES
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import LOCAL_IDENTITY_KEY, Settings
from touchstream.streams.table import Table
from touchstream.streams.tables import FACTS, IDENTITIES

pytestmark = pytest.mark.integration

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC


@pytest.fixture
def settings(clickhouse_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_URL", clickhouse_settings.clickhouse_url)
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_DATABASE", clickhouse_settings.clickhouse_database)
    monkeypatch.setenv("TOUCHSTREAM_IDENTITY_KEY", LOCAL_IDENTITY_KEY)
    return clickhouse_settings


@pytest.fixture
def filled(settings: Settings) -> Iterator[Settings]:
    """Ann, who has an e-mail address, bought once and answered a survey."""
    from touchstream.agents.identifiers import identity_token

    migrate(settings)
    ann = identity_token("email", "ann@example.com", settings)
    client = connect(settings, dedicated_pool=True)

    def put(table: Table, **values: Any) -> None:
        names = [name for name, _ in table.columns if name in values]
        kinds = [kind for name, kind in table.columns if name in values]
        row = [values[name] for name in names]
        client.insert(table.name, [row], column_names=names, column_type_names=kinds)

    put(IDENTITIES, identity=ann, kind="email", customer_id="c1", first_seen_at=NOON, version=1)
    totals = {"touchpoints": 2, "touchpoints_by_channel": {"web": 1, "purchase": 1}, "orders": 1}
    put(CUSTOMERS, customer_id="c1", revenue_e4=199_900, last_nps=9.0, version=1, **totals)
    seen = {"identity": ann, "customer_id": "c1"}
    put(FACTS, event_id="1", channel="web", action="viewed", occurred_at=NOON, **seen)
    bought = {"channel": "purchase", "action": "ordered", "occurred_at": NOON + 60_000}
    nasty = "[red]\x1b[31mnot red"
    put(FACTS, event_id="2", value_e4=199_900, currency="EUR", text=nasty, **bought, **seen)
    pane = {"metric": "nps", "dimension": "channel", "member": "survey", "version": 1}
    for resolution, step in (("minute", 60), ("hour", 3600), ("day", 86_400)):
        start = NOON // 1000 // step * step
        put(PANES, resolution=resolution, start=start, n=4, total=2, squares=4, **pane)
    client.close()
    yield settings


def call(*arguments: str) -> Result:
    app = typer.Typer()
    customers = typer.Typer()
    app.command("migrate")(migrate_command)
    app.command("query")(queries.query_command)
    app.command("metrics")(queries.metrics_command)
    customers.command("show")(queries.customers_show_command)
    customers.callback()(lambda: None)
    app.add_typer(customers, name="customers")
    return CliRunner().invoke(app, list(arguments))


def test_migrate_says_what_it_would_do_what_it_did_and_that_nothing_is_left(
    settings: Settings,
) -> None:
    assert "would apply 0001 touchpoint_facts (1 statements)" in call("migrate", "--dry-run").output
    assert "applied 0001 touchpoint_facts" in call("migrate").output
    again = call("migrate")
    assert again.output == f"database {settings.clickhouse_database} is up to date\n"
    assert again.exit_code == 0


def test_query_prints_a_table(filled: Settings) -> None:
    result = call("query", "SELECT channel, value, text FROM touchpoints ORDER BY occurred_at;")
    assert result.exit_code == 0
    assert "purchase" in result.output
    assert "19.99" in result.output


def test_query_prints_json_rows(filled: Settings) -> None:
    result = call(
        "query", "SELECT channel, 1 AS n FROM touchpoints ORDER BY 1;", "--format", "json"
    )
    assert json.loads(result.output) == [
        {"channel": "purchase", "n": 1},
        {"channel": "web", "n": 1},
    ]


def test_query_prints_csv_with_a_header(filled: Settings) -> None:
    result = call("query", "SELECT channel, value FROM touchpoints ORDER BY 1", "--format", "csv")
    rows = list(csv.reader(io.StringIO(result.output)))
    assert rows == [["channel", "value"], ["purchase", "19.99"], ["web", r"\N"]]


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_wrong_sql_is_one_line_and_exit_code_one(settings: Settings, output: str) -> None:
    migrate(settings)
    result = call("query", "SELECT nothing FROM touchpoints", "--format", output)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "UNKNOWN_IDENTIFIER" in result.stderr


@pytest.mark.parametrize("who", ["email:Ann@Example.com", "c1"])
def test_a_customer_is_shown_by_identifier_and_by_id(filled: Settings, who: str) -> None:
    result = call("customers", "show", who)
    assert result.exit_code == 0, result.output
    for part in ("customer c1", "promoter", "purchase 1, web 1", "email", "viewed", "ordered"):
        assert part in result.output
    assert result.output.index("ordered") < result.output.index("viewed")


def test_text_of_customers_reaches_the_terminal_as_text(filled: Settings) -> None:
    result = call("customers", "show", "c1")
    assert "[red]\N{REPLACEMENT CHARACTER}[31mnot red" in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("who", ["email:bob@example.com", "nobody"])
def test_an_unknown_customer_is_one_line_and_exit_code_one(filled: Settings, who: str) -> None:
    result = call("customers", "show", who)
    assert result.exit_code == 1
    assert result.stderr.startswith("touchstream: no customer ")
    assert len(result.stderr.splitlines()) == 1


def test_metrics_are_shown_for_a_window_at_a_moment(filled: Settings) -> None:
    result = call("metrics", "--window", "1h", "--as-of", "2026-01-01T13:00:30+01:00")
    assert result.exit_code == 0, result.output
    assert "all channels, 1h to 2026-01-01 12:00:30 UTC" in result.output
    nps = next(line for line in result.output.splitlines() if " nps " in line)
    assert [cell.strip() for cell in nps.split("│")[3:7]] == ["4", "50", "-34.87", "134.87"]
    orders = next(line for line in result.output.splitlines() if " orders " in line)
    assert [cell.strip() for cell in orders.split("│")[3:5]] == ["0", "0"]


def test_metrics_of_one_channel(filled: Settings) -> None:
    at = ("--as-of", "2026-01-01T12:30")
    result = call("metrics", "--channel", "survey", *at)
    assert " nps " in result.output
    assert " orders " not in result.output
    missing = call("metrics", "--channel", "web", *at)
    assert missing.exit_code == 1
    assert "no measurements of channel web" in missing.stderr


def test_metrics_without_a_moment_are_those_of_now(filled: Settings) -> None:
    result = call("metrics", "--window", "5m")
    assert result.exit_code == 0, result.output
    assert " nps " in result.output


def test_a_wrong_moment_is_one_line_and_exit_code_one(filled: Settings) -> None:
    result = call("metrics", "--as-of", "yesterday")
    assert result.exit_code == 1
    assert "--as-of yesterday is not an ISO 8601 time" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("migrate",), ("query", "SELECT 1"), ("customers", "show", "x"), ("metrics",)]
)
def test_an_unreachable_clickhouse_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    result = call(*arguments)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "http://127.0.0.1:9 cannot be reached" in result.stderr
    assert "TOUCHSTREAM_CLICKHOUSE_URL" in result.stderr


def test_an_error_is_all_that_a_process_writes_to_stderr() -> None:
    code = (
        "import typer; from touchstream.streams.cli.queries import metrics_command;"
        " typer.run(metrics_command)"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "TOUCHSTREAM_CLICKHOUSE_URL": "http://127.0.0.1:9"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr


def test_a_missing_database_says_migrate(settings: Settings) -> None:
    result = call("metrics")
    assert result.exit_code == 1
    assert "run `touchstream migrate`" in result.stderr
