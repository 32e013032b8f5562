"""`touchstream migrate`: brings ClickHouse up to date, or prints what that would take."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cluster_sql import MIGRATION_SETTINGS, SESSION_SETTINGS
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.expiry import Expiry, apply_retention
from touchstream.streams.migrations import Applied, create_database, migrate
from touchstream.streams.settings import Settings, load_settings


def migrate_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be applied.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="With --dry-run: print the statements instead.")
    ] = False,
) -> None:
    """Create or update the ClickHouse tables and views; a second run changes nothing.

    Examples:

      touchstream migrate

      touchstream migrate --dry-run

      touchstream migrate --dry-run --sql
    """
    with one_line_errors():
        if sql and not dry_run:
            raise ConfigurationError("--sql prints what would be run: it goes with --dry-run")
        settings = load_settings()
        applied = migrate(settings, dry_run)
        kept = apply_retention(settings, dry_run)
        lines = script(applied, kept, settings) if sql else said(applied, kept, dry_run)
        for line in lines:
            typer.echo(line)
        if not applied and not kept and not sql:
            typer.echo(f"database {settings.clickhouse_database} is up to date")


def said(applied: Iterable[Applied], kept: Iterable[Expiry], dry_run: bool) -> Iterator[str]:
    """A line for each file and each table whose retention changes."""
    done = "would apply" if dry_run else "applied"
    for file in applied:
        yield f"{done} {file.number:04d} {file.name} ({len(file.statements)} statements)"
    for each in kept:
        days = "for ever" if each.days is None else f"for {each.days} days"
        yield f"{'would keep' if dry_run else 'keeps'} {each.table} {days}"


def script(applied: Iterable[Applied], kept: Iterable[Expiry], settings: Settings) -> Iterator[str]:
    """SQL for review: it runs as it stands, but only `migrate` notes what was applied."""
    if settings.clickhouse_cluster:
        for name, value in {**SESSION_SETTINGS, **MIGRATION_SETTINGS}.items():
            yield f"SET {name} = {value!r};"
    yield f"{create_database(settings)};"
    yield f"USE {settings.clickhouse_database};"
    for file in applied:
        yield f"\n-- {file.number:04d}_{file.name}.sql"
        yield from (f"{statement};" for statement in file.statements)
    for each in kept:
        yield "\n-- retention"
        yield from (f"{statement};" for statement in each.statements)
