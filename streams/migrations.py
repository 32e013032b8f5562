"""Applying the numbered ClickHouse migrations: forward only, each file once, safe to run again.

A file that was applied must not change (checksum); a run that was interrupted goes on with the file
it was in, so every statement must be repeatable (IF NOT EXISTS, OR REPLACE).

One runner at a time: creating a table is atomic in ClickHouse, so the runner holds the table
`schema_migrations_lock` and drops it at the end; others wait. A lock older than 15 minutes belongs
to a runner that died and is taken over; if two waiters take it over at once both go on, which
repeatable statements make harmless. Without Keeper ClickHouse offers no stricter lock.

On a cluster the same files are rendered by `cluster_sql`, and a statement is done when every server
has done it. All servers carry out ON CLUSTER in one order, so there, too, one runner gets the lock.
At the end the servers are compared: a table or column that one of them lacks is an error.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.clickhouse import connect, explain
from touchstream.streams.cluster_sql import MIGRATION_SETTINGS, Cluster, for_cluster
from touchstream.streams.definitions import write_definitions
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.settings import PREFIX, Settings

LEDGER = "schema_migrations"
CREATE_LEDGER = (
    f"CREATE TABLE IF NOT EXISTS {LEDGER} (number UInt32, name String, checksum String,"
    " applied_at DateTime64(3, 'UTC')) ENGINE = ReplacingMergeTree ORDER BY number"
)
LOCK = "schema_migrations_lock"
LOCK_WAIT_SECONDS = 60.0
LOCK_STALE_SECONDS = 900
TABLE_EXISTS = 57
TIMEOUT_EXCEEDED = 159
_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|--[^\n]*|/\*.*?\*/|;""", re.DOTALL
)


@dataclass(frozen=True)
class Migration:
    """One shipped file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the file as shipped, before anything is substituted."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Applied:
    """One file that a run applied, or would apply if it was dry."""

    number: int
    name: str
    checksum: str
    statements: tuple[str, ...]
    """As they were run, or would be."""


def migrate(
    settings: Settings,
    dry_run: bool = False,
    *,
    migrations: list[Migration] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Applied]:
    """Bring the database up to date and return what was applied, or would be if `dry_run`."""
    shipped = shipped_migrations() if migrations is None else migrations
    with migrating(settings) as client:
        pending = _pending(client, settings, shipped)
        if dry_run:
            return [_applied(each, settings) for each in pending]
        client.command(create_database(settings))
        client.database = settings.clickhouse_database
        with _lock(client, cluster_clause(settings), sleep):
            applied = _apply_pending(client, settings, shipped)
            if cluster := cluster_of(settings):
                _compare_servers(client, cluster)
        return applied


@contextmanager
def migrating(settings: Settings) -> Iterator[Client]:
    """A client for DDL, in no database of ours yet; its errors are ours inside, too."""
    # To the end, so that a late error is an error and not part of a result.
    wait = {"wait_end_of_query": 1}
    options = {**MIGRATION_SETTINGS, **wait} if settings.clickhouse_cluster else {}
    client = connect(settings, database="default", dedicated_pool=True, settings=options)
    try:
        yield client
    except ClickHouseError as error:
        raise _failure(error, settings) from error
    finally:
        client.close()


def shipped_migrations() -> list[Migration]:
    """Every `NNNN_name.sql` of the package, in order; numbers run from 1 without a gap."""
    found = []
    for entry in files("touchstream.schemas.clickhouse").iterdir():
        if match := _FILE_NAME.fullmatch(entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ConfigurationError("the numbers of schemas/clickhouse/*.sql are not 1, 2, 3, ...")
    return found


def split_statements(text: str) -> list[str]:
    """Cut SQL at semicolons outside quotes and comments; comments are dropped."""
    statements, current, position = [], "", 0
    for token in _TOKEN.finditer(text):
        current += text[position : token.start()]
        position = token.end()
        if token[0] == ";":
            statements.append(current)
            current = ""
        elif token[0].startswith(("--", "/*")):
            current += " "
        else:
            current += token[0]
    statements.append(current + text[position:])
    return [statement.strip() for statement in statements if statement.strip()]


def render(migration: Migration, settings: Settings) -> list[str]:
    """Turn a file into the statements to run, on a single server or on a cluster."""
    text = migration.text.replace("{database}", settings.clickhouse_database)
    return rendered(split_statements(text), settings)


def rendered(statements: Iterable[str], settings: Settings) -> list[str]:
    """The statements to run for statements that are meant for a single server."""
    cluster = cluster_of(settings)
    if cluster is None:
        return list(statements)
    return [each for statement in statements for each in for_cluster(statement, cluster)]


def cluster_of(settings: Settings) -> Cluster | None:
    """The cluster of the settings, if there is one."""
    name = settings.clickhouse_cluster
    return Cluster(name, settings.clickhouse_database) if name else None


def cluster_clause(settings: Settings) -> str:
    """The clause behind a name that makes DDL run on every server; empty on a single one."""
    cluster = cluster_of(settings)
    return f" {cluster.clause}" if cluster else ""


def create_database(settings: Settings) -> str:
    """The statement before all others."""
    return f"CREATE DATABASE IF NOT EXISTS {settings.clickhouse_database}{cluster_clause(settings)}"


def _apply_pending(client: Client, settings: Settings, shipped: list[Migration]) -> list[Applied]:
    for statement in rendered([CREATE_LEDGER], settings):
        client.command(statement)
    applied = []
    for migration in _pending(client, settings, shipped):
        for statement in render(migration, settings):
            client.command(statement)
        row = (migration.number, migration.name, migration.checksum)
        client.command(
            f"INSERT INTO {LEDGER} SELECT %s, %s, %s, now64(3, 'UTC')", parameters=list(row)
        )
        applied.append(_applied(migration, settings))
    write_definitions(client, load_catalogue(settings.metrics_file))
    return applied


def _pending(client: Client, settings: Settings, shipped: list[Migration]) -> list[Migration]:
    """Return what the ledger does not have; refuse files that changed after they were applied."""
    ledger = f"{settings.clickhouse_database}.{LEDGER}"
    known: dict[int, str] = {}
    if _has_ledger(client, settings):
        rows = client.query(f"SELECT number, checksum FROM {ledger} FINAL").result_rows
        known = {int(row[0]): str(row[1]) for row in rows}
    for migration in shipped:
        if known.get(migration.number, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.number:04d}_{migration.name}.sql differs from the one that "
                f"was applied to {settings.clickhouse_database}: put the file back and write the "
                "change as a new migration"
            )
    return [migration for migration in shipped if migration.number not in known]


def _has_ledger(client: Client, settings: Settings) -> bool:
    """Refuse a database of the other kind: its tables would stay as they are, unnoticed."""
    database = settings.clickhouse_database
    sql = "SELECT engine FROM system.tables WHERE database = %s AND name = %s"
    engines = client.query(sql, parameters=[database, LEDGER]).result_rows
    if not engines:
        return False
    if str(engines[0][0]).startswith("Replicated") != bool(settings.clickhouse_cluster):
        kind = "a single server" if settings.clickhouse_cluster else "a cluster"
        raise ConfigurationError(
            f"database {database} was made for {kind}: change {PREFIX}CLICKHOUSE_CLUSTER back, or"
            f" set another {PREFIX}CLICKHOUSE_DATABASE"
        )
    return True


def _applied(migration: Migration, settings: Settings) -> Applied:
    statements = tuple(render(migration, settings))
    return Applied(migration.number, migration.name, migration.checksum, statements)


def _compare_servers(client: Client, cluster: Cluster) -> None:
    """Raise ConfigurationError unless every server has the same tables, columns and types."""
    rows = client.query(
        f"SELECT DISTINCT table FROM clusterAllReplicas('{cluster.name}', system.columns)"
        f" WHERE database = '{cluster.database}' GROUP BY table, name, type HAVING count() !="
        f" (SELECT count() FROM clusterAllReplicas('{cluster.name}', system.one)) ORDER BY table"
    ).result_rows
    if rows:
        raise ConfigurationError(
            f"the servers of cluster {cluster.name} differ in {', '.join(row[0] for row in rows)}:"
            " see clusters in docs/operations.md"
        )


@contextmanager
def _lock(client: Client, on_cluster: str, sleep: Callable[[float], None]) -> Iterator[None]:
    waited = 0.0
    while not _take_lock(client, on_cluster):
        if waited >= LOCK_WAIT_SECONDS:
            raise TransientError(
                "another migration is running; if none is, it takes over after 15 minutes, or at "
                f"once after DROP TABLE {client.database}.{LOCK}{on_cluster}"
            )
        sleep(0.5)
        waited += 0.5
    try:
        yield
    finally:
        client.command(f"DROP TABLE IF EXISTS {LOCK}{on_cluster} SYNC")


def _take_lock(client: Client, on_cluster: str) -> bool:
    if _lock_age_seconds(client) > LOCK_STALE_SECONDS:
        client.command(f"DROP TABLE IF EXISTS {LOCK}{on_cluster} SYNC")
    try:
        client.command(f"CREATE TABLE {LOCK}{on_cluster} (held UInt8) ENGINE = TinyLog")
    except DatabaseError as error:
        if error.code == TABLE_EXISTS:
            return False
        raise
    return True


def _lock_age_seconds(client: Client) -> int:
    age = client.command(
        "SELECT toInt64(max(dateDiff('second', metadata_modification_time, now())))"
        f" FROM system.tables WHERE database = currentDatabase() AND name = '{LOCK}'"
    )
    return int(str(age))


def _failure(error: ClickHouseError, settings: Settings) -> Exception:
    code = getattr(error, "code", None)
    if code is None:
        return explain(error, settings)
    if code == TIMEOUT_EXCEEDED and settings.clickhouse_cluster:
        return TransientError(
            f"not every server of cluster {settings.clickhouse_cluster} answered in time: run"
            f" `touchstream migrate` again when all do ({error})"
        )
    return ConfigurationError(
        f"ClickHouse refused a migration of {settings.clickhouse_database}: {error}"
    )
