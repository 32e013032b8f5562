"""Retention: what a file says comes to tables and topics, once, and back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from touchstream.streams.admin import apply_topics, topic_differences
from touchstream.streams.cli import app
from touchstream.streams.clickhouse import connect
from touchstream.streams.cluster_sql import SHARDING_KEYS
from touchstream.streams.expiry import apply_retention
from touchstream.streams.local.broker import broker_answers, broker_arguments
from touchstream.streams.local.ports import choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.migrations import migrate
from touchstream.streams.retention import EXPIRY
from touchstream.streams.settings import PREFIX, Settings

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 20
MONTH = "[tables]\n" + "".join(f"{table} = 120\n" for table in EXPIRY)


@pytest.fixture
def settings(clickhouse_settings: Settings, tmp_path: Path) -> Settings:
    return clickhouse_settings.model_copy(update={"retention_file": tmp_path / "retention.toml"})


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    migrate(settings)
    client = connect(settings, dedicated_pool=True)
    yield client
    client.close()


def keep(settings: Settings, text: str) -> Settings:
    assert settings.retention_file is not None
    settings.retention_file.write_text(text)
    return settings


def test_every_table_of_the_file_comes_to_its_days_and_back(
    settings: Settings, client: Client
) -> None:
    changed = apply_retention(keep(settings, MONTH))
    assert [(each.table, each.days) for each in changed] == [(table, 120) for table in EXPIRY]
    assert apply_retention(settings) == []
    changed = apply_retention(keep(settings, MONTH.replace("alert_records = 120", "")))
    assert [(each.table, each.days) for each in changed] == [("alert_records", None)]
    apply_retention(keep(settings, ""))
    kept = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name IN %s"
    with_ttl = client.query(f"{kept} AND engine_full LIKE '%% TTL %%'", parameters=[tuple(EXPIRY)])
    assert with_ttl.result_rows == []


def test_a_migration_does_not_undo_it(settings: Settings, client: Client) -> None:
    apply_retention(keep(settings, MONTH))
    client.command("TRUNCATE TABLE schema_migrations")
    migrate(settings)
    assert apply_retention(settings) == []


def test_old_rows_go_and_young_ones_stay(settings: Settings, client: Client) -> None:
    client.command(
        "INSERT INTO metric_panes (metric, resolution, start) SELECT 'order',"
        " ['minute', 'hour', 'day'][1 + number % 3],"
        " now() - toIntervalDay(if(number < 3, 130, 110)) FROM numbers(6)"
    )
    apply_retention(keep(settings, MONTH))
    client.command("OPTIMIZE TABLE metric_panes FINAL")
    rows = client.query(
        "SELECT resolution, dateDiff('day', start, now()) FROM metric_panes ORDER BY ALL"
    ).result_rows
    assert rows == [("day", 110), ("day", 130), ("hour", 110), ("hour", 130), ("minute", 110)]


def test_a_dry_run_changes_nothing_and_shows_the_statements(
    settings: Settings, client: Client
) -> None:
    planned = apply_retention(keep(settings, "[tables]\nalert_records = 30\n"), dry_run=True)
    assert [each.statements for each in planned] == [
        ("ALTER TABLE alert_records MODIFY TTL toDateTime(raised_at) + toIntervalDay(30)",)
    ]
    assert apply_retention(settings) == planned


def test_migrate_says_and_prints_it(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(settings, "[tables]\nalert_records = 30\n")
    use(monkeypatch, settings)
    assert run("migrate", "--dry-run") == "would keep alert_records for 30 days\n"
    assert "MODIFY TTL toDateTime(raised_at)" in run("migrate", "--dry-run", "--sql")
    assert run("migrate") == "keeps alert_records for 30 days\n"
    assert "is up to date" in run("migrate")


def test_every_table_that_can_be_named_is_known_to_clusters() -> None:
    assert set(EXPIRY) <= set(SHARDING_KEYS)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Settings]:
    [port] = choose_ports([(0, "")])
    child = Child(Command("broker", broker_arguments(port), tmp_path / "broker.log"))
    try:
        child.wait_until(broker_answers(port), within_seconds=PATIENCE_SECONDS)
        yield Settings(
            kafka_bootstrap_servers=f"127.0.0.1:{port}", retention_file=tmp_path / "retention.toml"
        )
    finally:
        child.stop()


def test_topics_are_created_so_and_changed_only_when_asked(
    broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, keep(broker, "[topics]\ndead_letters = 90\n"))
    assert "created touchpoints.dead-letter" in run("topics", "apply")
    assert run("topics", "apply") == "all topics exist\n"
    keep(broker, "[topics]\ndead_letters = 60\ninternal = 14\n")
    day = 86_400_000
    said = run("topics", "apply").splitlines()
    assert said == [
        f"cx.identity: retention.ms is {7 * day}, not {14 * day}; --alter changes it",
        f"cx.customer: retention.ms is {7 * day}, not {14 * day}; --alter changes it",
        f"touchpoints.dead-letter: retention.ms is {90 * day}, not {60 * day}; --alter changes it",
    ]
    assert run("topics", "apply").splitlines() == said
    changed = f"changed touchpoints.dead-letter: retention.ms from {90 * day} to {60 * day}"
    assert changed in run("topics", "apply", "--alter").splitlines()
    assert topic_differences(broker) == []
    assert apply_topics(broker) == []


def use(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Set the variables that the settings came from."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name in settings.model_fields_set | {"retention_file"}:
        monkeypatch.setenv(PREFIX + name.upper(), str(getattr(settings, name)))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output
