"""From every earlier version to the last: the schema is that of a new database, the rows stay."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.cli.migrate import script
from touchstream.streams.clickhouse import connect
from touchstream.streams.definitions import definitions
from touchstream.streams.migrations import (
    LEDGER,
    Migration,
    migrate,
    shipped_migrations,
    split_statements,
)
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration

SHIPPED = shipped_migrations()
PARTS = {
    "tables": "SELECT name, engine_full, primary_key, sampling_key, comment, as_select,"
    " create_table_query FROM system.tables",
    "columns": "SELECT table, position, name, type, default_kind, default_expression, comment,"
    " compression_codec, is_in_sorting_key FROM system.columns",
    "indices": "SELECT table, name, type_full, expr, granularity FROM system.data_skipping_indices",
}
Schema = dict[str, list[tuple[Any, ...]]]


@contextmanager
def migrated(url: str, migrations: list[Migration]) -> Iterator[tuple[Settings, Client]]:
    """A new database that stands after `migrations`."""
    settings = Settings(clickhouse_url=url, clickhouse_database=f"test_{uuid4().hex[:12]}")
    with pytest.MonkeyPatch.context() as patch:
        if migrations != SHIPPED:  # the catalogue of today does not fit tables of then
            patch.setattr("touchstream.streams.migrations.write_definitions", lambda *_: None)
        migrate(settings, migrations=migrations)
    client = connect(settings, dedicated_pool=True)
    try:
        yield settings, client
    finally:
        client.command(f"DROP DATABASE {settings.clickhouse_database}")
        client.close()


def schema(client: Client) -> Schema:
    """Everything that the server says of tables, columns, keys, engines and views."""
    name = client.database
    found = {}
    for part, sql in PARTS.items():
        rows = client.query(f"{sql} WHERE database = '{name}' ORDER BY 1, 2, 3").result_rows
        found[part] = [tuple(_neutral(value, str(name)) for value in row) for row in rows]
    return found


def _neutral(value: Any, database: str) -> Any:
    return value.replace(database, "database") if isinstance(value, str) else value


def put_a_row_into_each_table(client: Client) -> list[str]:
    """Into all that neither `migrate` writes itself nor time empties; returns their names."""
    own = (LEDGER, *(each.table for each in definitions(load_catalogue())))
    tables = client.query(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase()"
        " AND position = 1 AND table NOT IN %s AND (database, table) IN"
        " (SELECT database, name FROM system.tables WHERE engine LIKE '%%MergeTree'"
        " AND engine_full NOT LIKE '%% TTL %%')",
        parameters=[own],
    ).result_rows
    for table, first in tables:
        client.command(f"INSERT INTO {table} ({first}) VALUES ('77')")
    return [table for table, _ in tables]


def rows_put(client: Client, table: str) -> int:
    first = client.query(f"SELECT * FROM {table} LIMIT 0").column_names[0]
    counted = f"SELECT count() FROM {table} WHERE toString({first}) = '77'"
    return int(client.query(counted).result_rows[0][0])


@pytest.fixture(scope="module")
def newest(clickhouse_url: str) -> Schema:
    with migrated(clickhouse_url, SHIPPED) as (_, client):
        found = schema(client)
    assert {part for part, rows in found.items() if not rows} == set()
    return found


@pytest.mark.parametrize("version", range(1, len(SHIPPED)))
def test_an_earlier_version_comes_to_the_same_schema_and_keeps_its_rows(
    clickhouse_url: str, newest: Schema, version: int
) -> None:
    with migrated(clickhouse_url, SHIPPED[:version]) as (settings, client):
        tables = put_a_row_into_each_table(client)
        applied = migrate(settings)
        assert [each.number for each in applied] == list(range(version + 1, len(SHIPPED) + 1))
        assert schema(client) == newest
        assert [table for table in tables if not rows_put(client, table)] == []


def test_a_second_run_changes_nothing(clickhouse_url: str, newest: Schema) -> None:
    with migrated(clickhouse_url, SHIPPED) as (settings, client):
        assert migrate(settings) == []
        assert schema(client) == newest


def test_every_file_may_be_run_again_over_the_last_version(
    clickhouse_url: str, newest: Schema
) -> None:
    with migrated(clickhouse_url, SHIPPED) as (settings, client):
        tables = put_a_row_into_each_table(client)
        client.command(f"TRUNCATE TABLE {LEDGER}")
        assert len(migrate(settings)) == len(SHIPPED)
        assert schema(client) == newest
        assert [table for table in tables if not rows_put(client, table)] == []


def test_the_printed_script_makes_the_same_schema(
    clickhouse_settings: Settings, newest: Schema
) -> None:
    database = clickhouse_settings.clickhouse_database
    text = "\n".join(script(migrate(clickhouse_settings, dry_run=True), [], clickhouse_settings))
    create, use, *statements = split_statements(text)
    client = connect(clickhouse_settings, database="default", dedicated_pool=True)
    client.command(create)
    assert use == f"USE {database}"
    client.database = database  # each request has its own
    for statement in statements:
        client.command(statement)
    found = schema(client)
    client.close()
    assert found == {
        part: [row for row in rows if row[0] != LEDGER] for part, rows in newest.items()
    }
