"""Two shards in one engine: every view answers what it answers on a single server.

The embedded engine has no Keeper, so engines lose their `Replicated` and ON CLUSTER is left out;
the rest is what a cluster gets. Both shards of the cluster `two` are the engine itself. Inserts
through Distributed tables come to one table, of which a filter shows each shard the rows that are
its own: as much as it would see on a server of its own.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.cli.doctor import check_clickhouse
from touchstream.streams.clickhouse import connect
from touchstream.streams.cluster_sql import SHARDING_KEYS, stored_name
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.expiry import apply_retention
from touchstream.streams.migrations import migrate, render, shipped_migrations
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import TABLES
from touchstream.streams.targets import TARGETS, insert_rows
from touchstream.streams.watch import _AT_RISK, MOST

pytestmark = pytest.mark.integration

SHARD = "<shard><replica><host>{}</host><port>9000</port></replica></shard>"
TWO = SHARD.format("127.0.0.1") + SHARD.format("localhost")
SERVER = f"""
import sys
from touchstream.streams.local import clickhouse, clickhouse_engine
plain = clickhouse_engine.access_configuration
cluster = ('<tcp_port>9000</tcp_port><remote_servers><two>{TWO}</two></remote_servers>'
    '<macros><shard>1</shard><replica>a</replica></macros>')
clickhouse_engine.access_configuration = lambda *arguments: plain(*arguments).replace(
    '</clickhouse>', cluster + '</clickhouse>')
sys.exit(clickhouse.main())
"""
PAGE = (Path(__file__).parents[2] / "docs" / "bi.md").read_text()
QUESTIONS = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHARDED = {name: key for name, key in SHARDING_KEYS.items() if key}
ROWS = 400
FEW = {"refused_link_states": 20}
"""Few, so that no shard alone knows all that are refused."""
DAY_MS = 86_400_000
NOW_MS = int(time.time() * 1000)
RESOLUTION_MS = {"minute": 60_000, "hour": 3_600_000, "day": DAY_MS}
SENT = ("async_insert", "distributed_foreground_insert")
VOLATILE = {"as_of", "dwell_seconds"}
"""Columns that follow the clock."""
WORDS = {
    "channel": ["web", "phone", "chat", "email"],
    "question": ["nps", "csat", ""],
    "action": ["viewed", "placed", "answered"],
    "stage": ["", "consider", "purchase", "enjoy", "lapsed"],
    "dimension": ["channel"],
    "member": ["web", "phone"],
    "metric": ["nps", "csat", "order", "customers"],
    "window": ["24h", "30d"],
    "direction": ["up", "down"],
    "resolution": list(RESOLUTION_MS),
}


class Rows:
    """Random rows: few identities and customers, so that joins meet; many versions of each row."""

    def __init__(self) -> None:
        self._rng = random.Random(20261126)
        self._versions = 0

    def of(self, table: Table) -> list[Row]:
        """Rows of one table."""
        return [self._row(table) for _ in range(FEW.get(table.name, ROWS))]

    def _row(self, table: Table) -> Row:
        self._versions += 1
        values = {name: self._value(name, kind) for name, kind in table.columns}
        if table.name == "identity_states":
            values["version"] = self._rng.choice([1, self._versions])
            values["customer_id"] = f"c{hash_of(values['identity'], values['version']) % 20}"
        if table.name == "metric_panes":
            step = RESOLUTION_MS[values["resolution"]]
            values["start"] = self._moment() // step * step // 1000
        for end in ("", "other_"):  # a kind is one identity's, everywhere
            token = values.get("identity" if not end else "other")
            if f"{end}kind" in values and token is not None:
                values[f"{end}kind"] = ["email", "phone", "anonymous_id"][hash_of(token) % 3]
        return tuple(values[name] for name in table.column_names)

    def _value(self, name: str, kind: str) -> Any:
        rng = self._rng
        if name in ("version", "precedence", "number"):
            return self._versions
        if name == "is_deleted":
            return int(rng.random() < 0.1)
        if kind.startswith("Nullable("):
            inner = kind.removeprefix("Nullable(").removesuffix(")")
            # A target without an end holds now.
            is_none = name == "valid_to" or rng.random() < 0.3
            return None if is_none else self._value(name, inner)
        if kind.startswith("Map("):
            key, value = kind.removeprefix("Map(").removesuffix(")").split(", ", 1)
            return {self._value("channel", key): self._value("", value) for _ in range(2)}
        if kind.startswith("Array("):
            inner = kind.removeprefix("Array(").removesuffix(")")
            one = "identity" if name == "identities" else name.removesuffix("s")
            return [self._value(one, inner) for _ in range(3)]
        if kind.startswith("DateTime64"):
            return self._moment()
        if kind.startswith("Float"):
            return float(rng.randrange(1, 9))
        if "String" not in kind:
            return rng.randrange(2 if kind == "Bool" else 9)
        if name in ("identity", "other"):
            return f"i{rng.randrange(40)}"
        if name.endswith("customer_id"):
            return f"c{rng.randrange(20)}"
        if name in ("event_id", "alert_id", "key"):
            return f"{name}{self._versions}"
        return rng.choice(WORDS.get(name, ["one", "two", "three"]))

    def _moment(self) -> int:
        """Within 40 days, and an hour or more from any edge of a window that ends now."""
        return NOW_MS - self._rng.randrange(40) * DAY_MS - self._rng.randrange(1, 23) * 3_600_000


def hash_of(*values: Any) -> int:
    return random.Random(repr(values)).randrange(1 << 30)


@contextmanager
def keeper_is_there(**server_settings: str) -> Iterator[None]:
    """Let `migrate` work as if the engine had Keeper."""

    def pretending(*arguments: Any, **options: Any) -> Client:
        options["settings"] = {**options["settings"], **server_settings}
        client: Any = connect(*arguments, **options)
        command, query = client.command, client.query
        client.command = lambda sql, *more, **names: command(without_keeper(sql), *more, **names)
        client.query = lambda sql, *more, **names: query(with_replicas(sql), *more, **names)
        return cast("Client", client)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("touchstream.streams.migrations.connect", pretending)
        yield


def without_keeper(statement: str) -> str:
    statement = statement.replace(" ON CLUSTER 'two'", "")
    return re.sub(r"Replicated(\w+)\('[^']*', '[^']*'(?:, )?", r"\1(", statement)


def with_replicas(sql: str) -> str:
    """Show engines by the names that they would have."""
    return sql.replace("SELECT engine FROM", "SELECT concat('Replicated', engine) FROM")


class Databases:
    """The same rows in `single` and, over two shards, in `spread`."""

    def __init__(self, url: str) -> None:
        self.single = connect(Settings(clickhouse_url=url, clickhouse_database="single"))
        filters = ", ".join(
            f"'spread.{stored_name(name)}': '({key}) % 2 = shardNum() - 1'"
            for name, key in SHARDED.items()
        )
        self._filter = {"additional_table_filters": f"{{{filters}}}"}
        self.url = url

    def reader(self) -> Client:
        """A client that knows nothing of the cluster, as BI tools have."""
        settings = Settings(clickhouse_url=self.url, clickhouse_database="spread")
        return connect(settings, settings=self._filter)

    def agent(self) -> Client:
        """A client as agents and commands have."""
        return connect(spread_settings(self.url), settings=self._filter)


def spread_settings(url: str) -> Settings:
    return Settings(clickhouse_url=url, clickhouse_database="spread", clickhouse_cluster="two")


@pytest.fixture(scope="module")
def databases(
    serve: Callable[[list[str]], AbstractContextManager[str]], tmp_path_factory: Any
) -> Iterator[Databases]:
    path: Path = tmp_path_factory.mktemp("two-shards")
    with serve(["-c", SERVER, "--path", str(path)]) as url:
        single = Settings(clickhouse_url=url, clickhouse_database="single")
        migrate(single)
        with keeper_is_there():
            assert len(migrate(spread_settings(url))) == len(shipped_migrations())
        found = Databases(url)
        fill(found)
        yield found


def fill(databases: Databases) -> None:
    rows = Rows()
    agent = databases.agent()
    for table in (*TABLES, TARGETS):
        insert_rows(databases.single, table, rows.of(table))
    databases.single.command(
        "INSERT INTO rolling_metrics SELECT metric, window, dimension, member, as_of, n, numerator,"
        " denominator, value, low, high"
        f" FROM metrics_at(as_of = '{now('%Y-%m-%d %H:00:00')}')"
    )
    for name in (*(table.name for table in (*TABLES, TARGETS)), "rolling_metrics"):
        agent.command(f"INSERT INTO {name} SELECT * FROM single.{name}")


def now(pattern: str) -> str:
    return time.strftime(pattern, time.gmtime(NOW_MS // 1000))


def views(client: Client) -> list[tuple[str, str]]:
    """Name and how to read it, of every view."""
    busiest = """SELECT customer_id FROM touchpoints INNER JOIN
        (SELECT customer_id, arrayJoin(identities) AS identity FROM customers) AS c
        USING (customer_id, identity) GROUP BY customer_id ORDER BY count() DESC, 1 LIMIT 1"""
    values = {
        "": "",
        "as_of": f"(as_of = '{now('%Y-%m-%d 00:00:00')}')",
        "customer_id": f"(customer_id = '{client.query(busiest).result_rows[0][0]}')",
    }
    sql = (
        "SELECT name, extract(create_table_query, '[{](as_of|customer_id):') FROM system.tables"
        " WHERE database = 'single' AND engine = 'View' ORDER BY name"
    )
    return [(name, name + values[asked]) for name, asked in client.query(sql).result_rows]


def answers(client: Client, view: str) -> list[str]:
    """Rows in an order of their own, without what follows the clock."""
    result = client.query(f"SELECT * FROM {view}")
    kept = [i for i, name in enumerate(result.column_names) if name not in VOLATILE]
    return sorted(repr([rounded(row[i]) for i in kept]) for row in result.result_rows)


def rounded(value: Any) -> Any:
    """Sums of floats depend on their order in the last digits."""
    if isinstance(value, float):
        return f"{value:.9g}"
    return value


def test_every_view_answers_as_on_a_single_server(databases: Databases) -> None:
    reader = databases.reader()
    empty = []
    for name, view in views(databases.single):
        wanted = answers(databases.single, view)
        assert answers(reader, view) == wanted, name
        if not wanted:
            empty.append(name)
    assert empty == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_of_analysts_need_not_know_of_the_cluster(
    databases: Databases, question: str
) -> None:
    wanted = databases.single.query(question).result_rows
    assert len(databases.reader().query(question).result_rows) == len(wanted)


@pytest.mark.parametrize("table", SHARDED)
def test_each_shard_has_a_part_of_the_rows(databases: Databases, table: str) -> None:
    parts = databases.reader().query(
        f"SELECT _shard_num, count() FROM {table} GROUP BY 1 ORDER BY 1"
    )
    whole = databases.single.query(f"SELECT count() FROM {table}").result_rows[0][0]
    assert [shard for shard, _ in parts.result_rows] == [1, 2]
    assert sum(rows for _, rows in parts.result_rows) == whole


def test_agents_and_commands_ask_as_on_a_single_server(databases: Databases) -> None:
    """Their queries join tables without a view between."""
    asked = {"now": NOW_MS, "kind": "one", "most": MOST}
    agent = databases.agent()
    assert agent.query(_AT_RISK, parameters=asked).result_rows == (
        databases.single.query(_AT_RISK, parameters=asked).result_rows
    )


def test_every_statement_for_a_cluster_parses(databases: Databases) -> None:
    for migration in shipped_migrations():
        for statement in render(migration, spread_settings("http://x")):
            databases.single.command(f"EXPLAIN AST {statement}")


def test_inserts_return_when_most_replicas_of_their_shards_have_them(databases: Databases) -> None:
    agent, reader = databases.agent(), databases.reader()
    assert agent.get_client_setting("insert_quorum") == "auto"
    for client in (agent, reader):  # also of somebody who has not said that there is a cluster
        sent = [client.get_client_setting(name) for name in SENT]
        assert [int(str(value)) for value in sent] == [0, 1]


def test_a_second_migrate_applies_nothing(databases: Databases) -> None:
    with keeper_is_there():
        assert migrate(spread_settings(databases.url)) == []


def test_a_database_of_the_other_kind_is_refused(databases: Databases) -> None:
    of_one = Settings(
        clickhouse_url=databases.url, clickhouse_database="single", clickhouse_cluster="two"
    )
    with pytest.raises(ConfigurationError, match="single was made for a single server"):
        migrate(of_one, dry_run=True)
    of_many = Settings(clickhouse_url=databases.url, clickhouse_database="spread")
    with keeper_is_there(), pytest.raises(ConfigurationError, match="spread was made for a cl"):
        migrate(of_many, dry_run=True)


def test_a_server_that_lacks_a_table_is_named(databases: Databases) -> None:
    """A filter hides it from the second server."""
    hidden = "{'system.columns': 'table != \\'alerts\\' OR shardNum() = 1'}"
    message = "servers of cluster two differ in alerts:"
    with (
        keeper_is_there(additional_table_filters=hidden),
        pytest.raises(ConfigurationError, match=message),
    ):
        migrate(spread_settings(databases.url))


def test_retention_comes_to_the_shards(databases: Databases, tmp_path: Path) -> None:
    file = tmp_path / "retention.toml"
    file.write_text("[tables]\ntouchpoint_facts = 36000\n")
    settings = spread_settings(databases.url).model_copy(update={"retention_file": file})
    with keeper_is_there():
        assert [each.table for each in apply_retention(settings)] == ["touchpoint_facts"]
        assert apply_retention(settings) == []


def test_doctor_knows_the_cluster(databases: Databases) -> None:
    found = check_clickhouse(spread_settings(databases.url))
    assert found.ok
    assert found.text.endswith("cluster two: 2 shards, 2 servers")
    other = Settings(clickhouse_url=databases.url, clickhouse_cluster="three")
    assert check_clickhouse(other) == (
        False,
        "the server knows no cluster three: configure it, or set TOUCHSTREAM_CLICKHOUSE_CLUSTER",
    )
