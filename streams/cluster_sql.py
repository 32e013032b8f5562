"""One statement for a single server in, the statements that do the same on a cluster out. Pure.

A sharded table `t` becomes `t_shard`, replicated within each shard, and `t`, a Distributed table
over all shards: whoever writes or reads `t`, views included, need not know. A small table is one
table with a copy on every server, so that any shard can join it. What is not understood is refused:
DDL that ran on one server only is found out too late.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from touchstream.streams.errors import ConfigurationError

EVERYWHERE = ""
"""In place of a sharding key: every server has the whole table."""
BY_IDENTITY = "cityHash64(identity)"
BY_CUSTOMER = "cityHash64(customer_id)"
SHARDING_KEYS: Mapping[str, str] = {
    # By identity, as their keys begin with it: facts meet the overrides of their identities on
    # their own shard, so the join of the view touchpoints moves no row.
    "touchpoint_facts": BY_IDENTITY,
    "identity_overrides": BY_IDENTITY,
    "identity_states": BY_IDENTITY,
    "identity_link_sights": BY_IDENTITY,
    "refused_link_states": BY_IDENTITY,
    "identity_change_records": BY_IDENTITY,
    # What customers lived through meets the customer on its own shard.
    "customer_states": BY_CUSTOMER,
    "session_states": BY_CUSTOMER,
    "stage_visit_states": BY_CUSTOMER,
    "issue_states": BY_CUSTOMER,
    "order_path_states": BY_CUSTOMER,
    # Read by ranges of time: spread, so that all shards share the work.
    "metric_panes": "cityHash64(dimension, metric, start, member)",
    "alert_records": "cityHash64(alert_id)",
    "dead_letter_records": "cityHash64(topic, source, partition, offset)",
    # Small, and joined everywhere.
    "metric_definitions": EVERYWHERE,
    "measure_definitions": EVERYWHERE,
    "metric_windows": EVERYWHERE,
    "metric_dimensions": EVERYWHERE,
    "model_parameters": EVERYWHERE,
    "target_states": EVERYWHERE,
    "operator_word_states": EVERYWHERE,
    "identity_mark_records": EVERYWHERE,
    "identity_rules_records": EVERYWHERE,
    "schema_migrations": EVERYWHERE,
    # A push must be seen whole or not at all: one insert into one table, never cut by shard.
    "rolling_metrics": EVERYWHERE,
}
"""Which shard a row is on. Only columns of the table's key: all versions of a row must be on one
shard, or FINAL could not choose among them. Never change a line: rows would not move."""
SHARD_LOCAL_VIEWS = frozenset({"touchpoints", "journeys", "channel_transitions"})
"""Views that join sharded tables by their sharding key alone: each shard joins what it has. In all
others the joined side is collected once and sent to every shard."""
SHARD_SUFFIX = "_shard"
SESSION_SETTINGS: Mapping[str, str | int] = {
    # An insert returns when most replicas of each shard have its rows; one lost disk loses none.
    "insert_quorum": "auto",
    # For queries that join tables without a view between.
    "distributed_product_mode": "global",
}
"""Of every connection to a cluster."""
MIGRATION_SETTINGS: Mapping[str, str | int] = {
    # ON CLUSTER returns when every server has done it, else it fails.
    "distributed_ddl_output_mode": "throw",
    "distributed_ddl_task_timeout": 180,
    "alter_sync": 2,
}
"""Of the connection that migrates a cluster."""

_FORM = re.compile(
    r"(?P<verb>CREATE TABLE IF NOT EXISTS|CREATE TABLE|CREATE OR REPLACE TABLE"
    r"|CREATE OR REPLACE VIEW|DROP VIEW IF EXISTS|DROP TABLE IF EXISTS|ALTER TABLE|OPTIMIZE TABLE"
    r"|DELETE FROM|INSERT INTO)\s+(?P<name>\w+)\b(?P<rest>.*)",
    re.DOTALL,
)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_ENGINE = re.compile(r"\bENGINE\s*=\s*(\w*MergeTree)\b(?:\(([^()]*)\))?")
_VIEW = re.compile(
    r"(?P<columns>\s*\(.*?\n\))?\s+AS\s+(?P<query>.*?)(?P<comment>\s+COMMENT\s+'x*')?", re.DOTALL
)


@dataclass(frozen=True)
class Cluster:
    """A cluster of the server's configuration, and our database on it."""

    name: str
    database: str

    @property
    def clause(self) -> str:
        """What makes DDL run on every server."""
        return f"ON CLUSTER '{self.name}'"


def for_cluster(statement: str, cluster: Cluster) -> list[str]:
    """What to run for a statement of a migration; comments are not understood.

    Raises ConfigurationError for a form or a table that is not known.
    """
    form = _FORM.fullmatch(statement)
    if form is None:
        raise _not_understood(statement, "of no form that is known for clusters")
    verb, name, rest = form["verb"], form["name"], form["rest"]
    if verb == "CREATE OR REPLACE VIEW":
        return [_view(statement, name, rest, cluster)]
    if verb == "DROP VIEW IF EXISTS":
        return [f"{verb} {name} {cluster.clause}{rest}"]
    if name not in SHARDING_KEYS:
        raise _not_understood(statement, f"{name} is missing in SHARDING_KEYS")
    if verb.startswith("CREATE"):
        drops = _drop(name, cluster) if verb == "CREATE OR REPLACE TABLE" else []
        return drops + _create(statement, name, rest, cluster)
    if verb == "DROP TABLE IF EXISTS":
        return _drop(name, cluster)
    if verb == "ALTER TABLE" and re.search(r"\bSETTING\b", _masked(rest)):
        raise _not_understood(statement, "replicas do not tell each other settings of a table")
    return _change(verb, name, rest, cluster)


def stored_name(table: str) -> str:
    """The table that has the rows on a cluster: what ALTER, DELETE and OPTIMIZE are for."""
    return table + SHARD_SUFFIX if SHARDING_KEYS[table] else table


def _create(statement: str, name: str, rest: str, cluster: Cluster) -> list[str]:
    engines = list(_ENGINE.finditer(_masked(rest)))
    if not rest.lstrip().startswith("(") or len(engines) != 1:
        raise _not_understood(statement, "needs columns in brackets and one MergeTree engine")
    engine = engines[0]
    arguments = f", {engine[2]}" if engine[2] else ""
    place = "{shard}" if SHARDING_KEYS[name] else "all"
    replica = "{replica}" if SHARDING_KEYS[name] else "{shard}-{replica}"
    table = stored_name(name)
    replicated = (
        f"ENGINE = Replicated{engine[1]}"
        f"('/clickhouse/tables/{place}/{cluster.database}/{table}', '{replica}'{arguments})"
    )
    body = rest[: engine.start()] + replicated + rest[engine.end() :]
    made = [f"CREATE TABLE IF NOT EXISTS {table} {cluster.clause}{body}"]
    if SHARDING_KEYS[name]:
        made.append(_distributed("CREATE TABLE IF NOT EXISTS", name, cluster))
    return made


def _distributed(verb: str, name: str, cluster: Cluster) -> str:
    """A table with the columns that the shards have now."""
    table = stored_name(name)
    return (
        f"{verb} {name} {cluster.clause} AS {cluster.database}.{table}\nENGINE = Distributed("
        f"'{cluster.name}', '{cluster.database}', '{table}', {SHARDING_KEYS[name]})"
    )


def _drop(name: str, cluster: Cluster) -> list[str]:
    """SYNC, so that the place in Keeper is free for the next table of that name."""
    return [
        f"DROP TABLE IF EXISTS {each} {cluster.clause} SYNC"
        for each in dict.fromkeys((name, stored_name(name)))
    ]


def _change(verb: str, name: str, rest: str, cluster: Cluster) -> list[str]:
    """Rows go in by the plain name. A replicated table takes every other change on one server."""
    if verb == "INSERT INTO" or not SHARDING_KEYS[name]:
        return [f"{verb} {name}{rest}"]
    changed = [f"{verb} {stored_name(name)} {cluster.clause}{rest}"]
    if verb == "ALTER TABLE" and re.search(r"\bCOLUMN\b", _masked(rest)):
        # No rows are lost: a Distributed table has none, as inserts do not wait in it.
        changed.append(_distributed("CREATE OR REPLACE TABLE", name, cluster))
    return changed


def _view(statement: str, name: str, rest: str, cluster: Cluster) -> str:
    """Wrapped, because SETTINGS behind a UNION are those of its last SELECT alone."""
    parts = _VIEW.fullmatch(_masked(rest))
    if parts is None:
        raise _not_understood(statement, "not a view of the form (columns) AS SELECT ... COMMENT")
    columns, query, comment = (
        rest[slice(*parts.span(group))] if parts[group] else ""
        for group in ("columns", "query", "comment")
    )
    mode = "local" if name in SHARD_LOCAL_VIEWS else "global"
    return (
        f"CREATE OR REPLACE VIEW {name} {cluster.clause}{columns}\n"
        f"AS SELECT * FROM\n(\n{query}\n)\nSETTINGS distributed_product_mode = '{mode}'{comment}"
    )


def _masked(text: str) -> str:
    """The text with an x for each character in quotes, so that only SQL is found in it."""
    return _QUOTED.sub(lambda quoted: "'" + "x" * (len(quoted[0]) - 2) + "'", text)


def _not_understood(statement: str, why: str) -> ConfigurationError:
    start = " ".join(statement.split())[:80]
    return ConfigurationError(f"cannot render for a cluster: {start} ...: {why}; see {__name__}")
