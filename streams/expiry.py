"""TTL of ClickHouse tables: the settings' retention in, ALTER TABLE for what differs out.

Applied at the end of every migrate: a second run changes nothing, and a table whose line in the
retention file is gone keeps its rows for ever from then on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from touchstream.streams.cluster_sql import stored_name
from touchstream.streams.migrations import migrating, rendered
from touchstream.streams.retention import EXPIRY, load_retention
from touchstream.streams.settings import Settings

_TTL = re.compile(r" TTL (.*?)(?: SETTINGS |$)")


@dataclass(frozen=True)
class Expiry:
    """A table whose rows are, or would be, kept for another time; `days` None: for ever."""

    table: str
    days: int | None
    statements: tuple[str, ...]


def apply_retention(settings: Settings, dry_run: bool = False) -> list[Expiry]:
    """Make tables keep their rows as the settings say; returns what changed, or would."""
    wanted = load_retention(settings).tables
    with migrating(settings) as client:
        changes = _changes(_expressions(client, settings), wanted, settings)
        if not dry_run:
            client.database = settings.clickhouse_database
            for change in changes:
                for statement in change.statements:
                    client.command(statement)
    return changes


def _changes(
    found: Mapping[str, str], wanted: Mapping[str, int], settings: Settings
) -> list[Expiry]:
    changes = []
    for table, expression in EXPIRY.items():
        days = wanted.get(table)
        after = "" if days is None else expression.format(days=days)
        if found.get(table, "") != after:
            change = f"MODIFY TTL {after}" if after else "REMOVE TTL"
            statements = rendered([f"ALTER TABLE {table} {change}"], settings)
            changes.append(Expiry(table, days, tuple(statements)))
    return changes


def _expressions(client: Client, settings: Settings) -> dict[str, str]:
    """TTL of each table that has one."""
    names = {
        stored_name(table) if settings.clickhouse_cluster else table: table for table in EXPIRY
    }
    rows = client.query(
        "SELECT name, engine_full FROM system.tables WHERE database = %s AND name IN %s",
        parameters=[settings.clickhouse_database, tuple(names)],
    ).result_rows
    matches = {names[name]: _TTL.search(engine) for name, engine in rows}
    return {table: match[1] for table, match in matches.items() if match}
