"""`touchstream doctor`: checks settings and every connection, and says what to do."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import typer
from clickhouse_connect.driver.client import Client

from touchstream.streams.admin import admin_client, partition_counts
from touchstream.streams.cli.errors import EXIT_FAILURE, quiet_clickhouse_client
from touchstream.streams.clickhouse import connect
from touchstream.streams.errors import TouchstreamError
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import LOCAL_IDENTITY_KEY, Settings, load_settings
from touchstream.streams.topics import topic_specs


class Finding(NamedTuple):
    """What a check found: `ok` is None for advice."""

    ok: bool | None
    text: str


def check_settings(settings: Settings) -> Finding:
    """The identity key is a secret of its own."""
    if settings.identity_key.get_secret_value() == LOCAL_IDENTITY_KEY:
        return Finding(None, "the identity key is the local one: set TOUCHSTREAM_IDENTITY_KEY")
    return Finding(True, f"profile {settings.profile}, identity key set")


def check_kafka(settings: Settings) -> Finding:
    """The broker answers."""
    topics = partition_counts(admin_client(settings), settings)
    return Finding(True, f"{settings.kafka_bootstrap_servers} answers, {len(topics)} topics")


def check_topics(settings: Settings) -> Finding:
    """Every topic exists, with the number of partitions of the settings."""
    existing = partition_counts(admin_client(settings), settings)
    names = [settings.topic_prefix + spec.name for spec in topic_specs()]
    missing = [name for name in names if name not in existing]
    if missing:
        return Finding(False, f"{len(missing)} topics are missing: run `touchstream topics apply`")
    wrong = [name for name in names if existing[name] != settings.partitions]
    if wrong:
        text = f"{wrong[0]} has {existing[wrong[0]]} partitions, not {settings.partitions}"
        return Finding(False, f"{text}: set TOUCHSTREAM_PARTITIONS to its number")
    return Finding(True, f"{len(names)} topics of {settings.partitions} partitions")


def check_clickhouse(settings: Settings) -> Finding:
    """ClickHouse answers, and knows the cluster if there is one."""
    client = connect(settings, database="default", dedicated_pool=True)
    try:
        answers = f"{settings.clickhouse_url} answers, version {client.server_version}"
        cluster = settings.clickhouse_cluster
        return _check_cluster(client, cluster, answers) if cluster else Finding(True, answers)
    finally:
        client.close()


def _check_cluster(client: Client, cluster: str, answers: str) -> Finding:
    sql = "SELECT uniqExact(shard_num), count() FROM system.clusters WHERE cluster = %s"
    [(shards, servers)] = client.query(sql, parameters=[cluster]).result_rows
    if not servers:
        return Finding(
            False,
            f"the server knows no cluster {cluster}: configure it, or set"
            " TOUCHSTREAM_CLICKHOUSE_CLUSTER",
        )
    rows = client.query("SELECT macro FROM system.macros").result_rows
    missing = {"shard", "replica"} - {str(row[0]) for row in rows}
    if missing:
        return Finding(False, f"the server has no macro {' and no '.join(sorted(missing))}")
    return Finding(True, f"{answers}, cluster {cluster}: {shards} shards, {servers} servers")


def check_tables(settings: Settings) -> Finding:
    """Every migration is applied."""
    missing = migrate(settings, dry_run=True)
    if missing:
        return Finding(False, f"{len(missing)} migrations are missing: run `touchstream migrate`")
    return Finding(True, f"database {settings.clickhouse_database} is up to date")


CHECKS: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
    ("settings", check_settings),
    ("kafka", check_kafka),
    ("topics", check_topics),
    ("clickhouse", check_clickhouse),
    ("tables", check_tables),
)


def diagnose(settings: Settings) -> Iterator[tuple[str, Finding]]:
    """Run every check; one that fails does not stop the others."""
    for name, check in CHECKS:
        try:
            yield name, check(settings)
        except TouchstreamError as error:
            yield name, Finding(False, str(error))


def doctor_command() -> None:
    """Check the settings, Kafka, topics, ClickHouse and tables; say what to do.

    Exit code 1 when something is missing.

    Examples:

      touchstream doctor
    """
    quiet_clickhouse_client()
    try:
        settings = load_settings()
    except TouchstreamError as error:
        typer.echo(f"FAIL  settings    {error}")
        raise typer.Exit(EXIT_FAILURE) from None
    failed = False
    for name, finding in diagnose(settings):
        mark = {True: "ok", False: "FAIL", None: "note"}[finding.ok]
        typer.echo(f"{mark:<5} {name:<11} {' '.join(finding.text.split())}")
        failed = failed or finding.ok is False
    if failed:
        raise typer.Exit(EXIT_FAILURE)
