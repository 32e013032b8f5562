"""The shipped migrations and views on a real engine: contract, idempotence, resolution, metrics."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil, sqrt
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import connect
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.migrations import (
    LEDGER,
    LOCK,
    Migration,
    metric_definitions,
    migrate,
    shipped_migrations,
)
from touchstream.streams.settings import Settings
from touchstream.streams.tables import (
    CHANGES,
    CUSTOMERS,
    DEAD_LETTERS,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    PANES,
    REFUSED,
    RULES,
    TABLES,
    WORDS,
    Row,
    Table,
)

pytestmark = pytest.mark.integration

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
WINDOWS = {"5m": 300, "1h": 3600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
STEPS = {"minute": 60, "hour": 3600, "day": 86_400}
EMPTY: dict[str, Any] = {
    "Nullable": None,
    "Map": {},
    "Array": [],
    "DateTime64": NOON,
    "Float": 0.0,
    "String": "",
}


@pytest.fixture(scope="module")
def migrated(clickhouse_url: str) -> Iterator[Settings]:
    """Migrate one database for all tests that only fill tables."""
    database = f"test_{uuid4().hex[:12]}"
    settings = Settings(clickhouse_url=clickhouse_url, clickhouse_database=database)
    migrate(settings)
    yield settings
    with opened(settings, database="default") as client:
        client.command(f"DROP DATABASE {database}")


@pytest.fixture
def client(migrated: Settings) -> Iterator[Client]:
    with opened(migrated) as client:
        yield client
    with opened(migrated) as client:
        for table in TABLES:
            client.command(f"TRUNCATE TABLE {table.name}")


@contextmanager
def opened(settings: Settings, **options: Any) -> Iterator[Client]:
    client = connect(settings, dedicated_pool=True, **options)
    try:
        yield client
    finally:
        client.close()


def row_of(table: Table, **values: Any) -> Row:
    """Build a row with empty values for what is not given."""
    assert set(values) <= set(table.column_names)
    return tuple(values.get(name, empty(kind)) for name, kind in table.columns)


def empty(kind: str) -> Any:
    bare = kind.replace("LowCardinality(String)", "String")
    return next((value for start, value in EMPTY.items() if bare.startswith(start)), 0)


def insert(client: Client, table: Table, *rows: Row) -> None:
    client.insert(
        table.name,
        list(zip(*rows, strict=True)),
        column_names=table.column_names,
        column_type_names=table.column_types,
        column_oriented=True,
    )


def select(client: Client, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql).result_rows]


def described(client: Client, name: str) -> list[tuple[str, str]]:
    return [(str(row[0]), str(row[1])) for row in select(client, f"DESCRIBE {name}")]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tables_are_what_the_agents_write(client: Client, table: Table) -> None:
    assert described(client, table.name) == list(table.columns)


def test_a_second_migrate_applies_nothing(clickhouse_settings: Settings) -> None:
    planned = migrate(clickhouse_settings, dry_run=True)
    assert [each.number for each in planned] == [each.number for each in shipped_migrations()]
    assert migrate(clickhouse_settings) == planned
    assert migrate(clickhouse_settings) == []
    assert migrate(clickhouse_settings, dry_run=True) == []


def test_a_dry_run_creates_nothing(clickhouse_settings: Settings) -> None:
    migrate(clickhouse_settings, dry_run=True)
    database = clickhouse_settings.clickhouse_database
    with opened(clickhouse_settings, database="default") as client:
        found = select(client, f"SELECT name FROM system.databases WHERE name = '{database}'")
    assert found == []


def test_a_changed_file_is_refused_and_named(clickhouse_settings: Settings) -> None:
    migrate(clickhouse_settings, migrations=[Migration(1, "x", "SELECT 1")])
    with pytest.raises(ConfigurationError, match=r"0001_x\.sql differs"):
        migrate(clickhouse_settings, migrations=[Migration(1, "x", "SELECT 2")])


def test_an_interrupted_migration_goes_on_where_it_broke(clickhouse_settings: Settings) -> None:
    first = Migration(1, "a", "CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = TinyLog")
    broken = Migration(2, "b", "CREATE TABLE IF NOT EXISTS b (x UInt8) ENGINE = TinyLog; NONSENSE")
    mended = Migration(2, "b", broken.text.replace("NONSENSE", "SELECT 1"))
    with pytest.raises(ConfigurationError, match="refused a migration"):
        migrate(clickhouse_settings, migrations=[first, broken])
    assert [each.number for each in migrate(clickhouse_settings, migrations=[first, mended])] == [2]


def test_a_second_runner_waits_and_then_says_what_to_do(client: Client, migrated: Settings) -> None:
    waits: list[float] = []
    client.command(f"CREATE TABLE {LOCK} (held UInt8) ENGINE = TinyLog")
    with pytest.raises(TransientError, match="DROP TABLE"):
        migrate(migrated, sleep=waits.append)
    assert sum(waits) == 60
    assert select(client, f"EXISTS TABLE {LOCK}") == [(1,)]
    drop_lock(client)


def test_a_runner_goes_on_when_the_other_is_done(client: Client, migrated: Settings) -> None:
    client.command(f"CREATE TABLE {LOCK} (held UInt8) ENGINE = TinyLog")
    assert migrate(migrated, sleep=lambda _: drop_lock(client)) == []
    assert select(client, f"EXISTS TABLE {LOCK}") == [(0,)]


def drop_lock(client: Client) -> None:
    client.command(f"DROP TABLE IF EXISTS {LOCK}")


def test_the_ledger_says_what_was_applied_when(client: Client) -> None:
    rows = select(client, f"SELECT number, name, checksum FROM {LEDGER} ORDER BY number")
    assert rows == [(each.number, each.name, each.checksum) for each in shipped_migrations()]


def test_the_catalogue_follows_the_file(client: Client, migrated: Settings) -> None:
    columns = "name, family, help, kind, scale, squares, unit, direction"
    catalogue = f"SELECT {columns} FROM metric_definitions FINAL ORDER BY name"
    assert select(client, catalogue) == metric_definitions()
    client.command(f"INSERT INTO metric_definitions ({columns}) VALUES ('old','','','',1,0,'','')")
    migrate(migrated)
    assert select(client, catalogue) == metric_definitions()


CONTRACT = {
    "identities": "identity:String kind:LowCardinality(String) customer_id:String"
    " first_seen_at:DateTime64(3,'UTC') changed_at:DateTime64(3,'UTC')",
    "dead_letters": "topic:LowCardinality(String) source:UInt64 partition:Int32 offset:Int64"
    " reason:LowCardinality(String) detail:String received_at:DateTime64(3,'UTC') key:String"
    " value:String value_base64:String",
    "metrics": "metric:LowCardinality(String) family:LowCardinality(String) window:String"
    " dimension:String member:String as_of:DateTime64(3,'UTC') n:Int64"
    " numerator:Float64 denominator:Nullable(Int64) value:Nullable(Float64) low:Nullable(Float64)"
    " high:Nullable(Float64) unit:LowCardinality(String)",
    "customers": "customer_id:String identities:Array(String)"
    " identity_kinds:Array(LowCardinality(String)) account_id:String"
    " first_touch_at:Nullable(DateTime64(3,'UTC')) first_touch_channel:LowCardinality(String)"
    " first_touch_campaign:LowCardinality(String) last_touch_at:Nullable(DateTime64(3,'UTC'))"
    " last_touch_channel:LowCardinality(String) last_touch_campaign:LowCardinality(String)"
    " touchpoints:UInt64 touchpoints_by_channel:Map(LowCardinality(String),UInt64)"
    " contacts:UInt64 orders:UInt64 revenue:Decimal(18,4)"
    " average_order_value:Nullable(Decimal(18,4)) last_order_at:Nullable(DateTime64(3,'UTC'))"
    " last_csat:Nullable(Float64) last_nps:Nullable(Float64)"
    " nps_category:LowCardinality(Nullable(String)) last_ces:Nullable(Float64)"
    " changed_at:DateTime64(3,'UTC')",
    "touchpoints": "identity:String channel:LowCardinality(String) event_id:String"
    " customer_id:String customer_id_then:String occurred_at:DateTime64(3,'UTC')"
    " received_at:DateTime64(3,'UTC') action:LowCardinality(String) account_id:String"
    " session_id:String campaign:LowCardinality(String) locale:LowCardinality(String)"
    " consent:Map(LowCardinality(String),Bool) value:Nullable(Decimal(18,4))"
    " currency:LowCardinality(String) order_id:String quantity:Nullable(Int64)"
    " question:LowCardinality(String) score:Nullable(Float64) scale_min:Nullable(Float64)"
    " scale_max:Nullable(Float64) about_channel:LowCardinality(String) conversation_id:String"
    " queue:LowCardinality(String) topic:LowCardinality(String) agent_id:LowCardinality(String)"
    " wait_ms:Nullable(Int64) handle_ms:Nullable(Int64) resolved:Nullable(Bool) text:String"
    " details:Map(LowCardinality(String),String) properties:Map(String,String)",
    "identity_links": "identity:String other:String kind:LowCardinality(String)"
    " other_kind:LowCardinality(String) channel:LowCardinality(String) verified:Bool"
    " other_verified:Bool seen_at:DateTime64(3,'UTC') event_id:String",
    "refused_links": "identity:String other:String kind:LowCardinality(String)"
    " other_kind:LowCardinality(String) reason:LowCardinality(String) detail:String"
    " since:DateTime64(3,'UTC')",
    "identity_changes": "identity:String kind:LowCardinality(String) former_customer_id:String"
    " customer_id:String changed_at:DateTime64(3,'UTC') cause:String who:LowCardinality(String)"
    " caused_at:DateTime64(3,'UTC') seconds:Float64",
    "operator_words": "identity:String other:String allow:Bool operator:LowCardinality(String)"
    " note:String said_at:DateTime64(3,'UTC') number:UInt64",
    "identity_marks": "identity:String mark:LowCardinality(String) operator:LowCardinality(String)"
    " note:String said_at:DateTime64(3,'UTC') number:UInt64 in_force:Bool",
    "identity_rules": "number:UInt64 operator:LowCardinality(String) said_at:DateTime64(3,'UTC')"
    " text:String in_force:Bool",
}


CONTRACT["metrics_at(as_of = '2026-01-01 00:00:00')"] = CONTRACT["metrics"]


@pytest.mark.parametrize("view", CONTRACT)
def test_views_keep_their_names_and_types(client: Client, view: str) -> None:
    result = client.query(f"SELECT * FROM {view} LIMIT 0")
    types = [kind.name.replace(", ", ",") for kind in result.column_types]
    found = [f"{name}:{kind}" for name, kind in zip(result.column_names, types, strict=True)]
    assert " ".join(found) == CONTRACT[view]


def test_views_work_from_another_database(migrated: Settings) -> None:
    with opened(migrated, database="default") as client:
        for view in CONTRACT:
            assert select(client, f"SELECT count() FROM {migrated.clickhouse_database}.{view}")


def fact(event_id: str, **values: Any) -> Row:
    return row_of(FACTS, **{"identity": "i", "channel": "web", "event_id": event_id, **values})


def test_moments_money_and_maps_are_stored_as_given(client: Client) -> None:
    insert(
        client,
        FACTS,
        fact("1", occurred_at=NOON + 7, value_e4=12_345_678, consent={"ads": False}),
        fact("2", occurred_at=-1_000_000_000_001, properties={"k": "v"}),
    )
    rows = select(
        client, "SELECT occurred_at, value, consent, properties FROM touchpoints ORDER BY 1"
    )
    assert rows == [
        (datetime(1938, 4, 24, 22, 13, 19, 999000), None, {}, {"k": "v"}),
        (datetime(2026, 1, 1, 12, 0, 0, 7000), Decimal("1234.5678"), {"ads": False}, {}),
    ]


def test_of_duplicates_the_highest_precedence_stays(client: Client) -> None:
    for precedence, action, year in ((5, "second", 1), (9, "first", 0), (1, "third", 2)):
        moment = NOON + year * 31_536_000_000
        insert(client, FACTS, fact("1", precedence=precedence, action=action, occurred_at=moment))
    assert select(client, "SELECT action FROM touchpoints") == [("first",)]
    assert select(client, "SELECT action FROM touchpoints WHERE occurred_at >= '2027-01-01'") == []


def test_one_block_may_span_more_than_a_hundred_years(client: Client) -> None:
    year = 31_557_600_000
    insert(client, FACTS, *[fact(str(i), occurred_at=NOON - i * year) for i in range(110)])
    assert select(client, "SELECT count() FROM touchpoints") == [(110,)]


def test_a_moved_identity_takes_its_facts_to_its_customer_of_today(client: Client) -> None:
    insert(
        client,
        FACTS,
        fact("1", identity="moved", customer_id="old"),
        fact("2", identity="stayed", customer_id="old"),
        fact("3", identity="unknown", customer_id="lone"),
    )
    states = [("moved", "new", 3), ("moved", "between", 2), ("stayed", "ignored", 1)]
    for identity, customer, version in states:
        row = row_of(IDENTITIES, identity=identity, customer_id=customer, version=version)
        insert(client, IDENTITIES, row)
    columns = "identity, customer_id, customer_id_then"
    assert select(client, f"SELECT {columns} FROM touchpoints ORDER BY event_id") == [
        ("moved", "new", "old"),
        ("stayed", "old", "old"),
        ("unknown", "lone", "lone"),
    ]
    assert select(client, "SELECT identity, customer_id FROM identities ORDER BY 1") == [
        ("moved", "new"),
        ("stayed", "ignored"),
    ]


def test_deleted_customers_are_hidden_and_older_versions_lose(client: Client) -> None:
    for customer_id, version, is_deleted, orders in (
        ("gone", 2, 1, 1),
        ("gone", 1, 0, 1),
        ("here", 7, 0, 3),
        ("here", 6, 0, 2),
        ("back", 1, 1, 1),
        ("back", 2, 0, 5),
    ):
        insert(
            client,
            CUSTOMERS,
            row_of(
                CUSTOMERS,
                customer_id=customer_id,
                version=version,
                is_deleted=is_deleted,
                orders=orders,
            ),
        )
    found = select(client, "SELECT customer_id, orders FROM customers ORDER BY 1")
    assert found == [("back", 5), ("here", 3)]


def test_customers_have_money_average_and_nps_category(client: Client) -> None:
    answers = {"a": (9.0, 3, 100_000), "b": (7.0, 0, 0), "c": (6.0, 1, 25_003_156_300), "d": None}
    rows = []
    for customer_id, answer in answers.items():
        nps, orders, revenue = answer or (None, 2, 199_999)
        values = {"last_nps": nps, "orders": orders, "revenue_e4": revenue}
        rows.append(row_of(CUSTOMERS, customer_id=customer_id, version=1, **values))
    insert(client, CUSTOMERS, *rows)
    columns = "revenue, average_order_value, nps_category"
    assert select(client, f"SELECT {columns} FROM customers ORDER BY customer_id") == [
        (Decimal("10"), Decimal("3.3333"), "promoter"),
        (Decimal("0"), None, "passive"),
        (Decimal("2500315.63"), Decimal("2500315.63"), "detractor"),
        (Decimal("19.9999"), Decimal("10.0000"), None),
    ]


def test_dead_letters_keep_every_byte_once(client: Client) -> None:
    value = bytes(range(256))
    letter = row_of(DEAD_LETTERS, topic="t", source=2**64 - 1, key=b"", value=value)
    insert(client, DEAD_LETTERS, letter)
    insert(client, DEAD_LETTERS, letter)
    assert select(
        client, "SELECT hex(value), length(base64Decode(value_base64)) FROM dead_letters"
    ) == [(value.hex().upper(), 256)]


def sight(one: str, other: str, at: int, **values: Any) -> Row:
    names = {"identity": one, "other": other, "kind": f"kind of {one}"}
    more = {"other_kind": f"kind of {other}", "channel": "web", "seen_at": NOON + at}
    return row_of(
        LINKS, **{**names, **more, "precedence": 1000 - at, "event_id": f"{at}", **values}
    )


def test_of_a_link_the_earliest_sight_stays_whatever_end_saw_it(client: Client) -> None:
    verified = {"verified": True, "other_verified": False}
    insert(client, LINKS, sight("a", "b", 5), sight("b", "a", 9, **verified))
    insert(client, LINKS, sight("a", "b", 3), sight("a", "b", 8, channel="chat"))
    insert(client, LINKS, sight("a", "b", 4), sight("b", "a", 7, **verified))
    columns = "identity, other, kind, other_kind, channel, verified, other_verified, event_id"
    ends = ("a", "b", "kind of a", "kind of b")
    assert select(client, f"SELECT {columns} FROM identity_links ORDER BY seen_at") == [
        (*ends, "web", False, False, "3"),
        (*ends, "web", False, True, "7"),
        (*ends, "chat", False, False, "8"),
    ]
    assert select(client, "SELECT count() FROM identity_link_sights FINAL") == [(3,)]


def refusal(one: str, other: str, reason: str, **values: Any) -> Row:
    row = {"identity": one, "other": other, "kind": f"kind of {one}", "reason": reason}
    return row_of(REFUSED, **{"version": 1, "decided_at": NOON, **row, **values})


def test_a_refused_link_shows_once_while_it_is_refused(client: Client) -> None:
    known = row_of(IDENTITIES, identity="z", kind="phone", version=1)
    insert(client, IDENTITIES, known)
    insert(client, REFUSED, refusal("a", "b", "limit", decided_at=NOON + 9))
    insert(client, REFUSED, refusal("b", "a", "limit", detail="email"))
    insert(client, REFUSED, refusal("z", "y", "shared"), refusal("c", "z", "channel"))
    insert(client, REFUSED, refusal("d", "e", "unique"), refusal("e", "d", "unique"))
    gone = {"version": 2, "is_deleted": 1}
    insert(client, REFUSED, refusal("d", "e", "unique", **gone), refusal("e", "d", "", **gone))
    columns = "identity, other, kind, other_kind, reason, detail, since = '2026-01-01 12:00:00'"
    assert select(client, f"SELECT {columns} FROM refused_links ORDER BY 1") == [
        ("a", "b", "kind of a", "kind of b", "limit", "email", 1),
        ("c", "z", "kind of c", "phone", "channel", "", 1),
        ("y", "z", "", "kind of z", "shared", "", 1),
    ]


def test_a_change_of_customer_has_its_cause_and_its_delay(client: Client) -> None:
    change = {"identity": "i", "kind": "email", "former_customer_id": "c1", "customer_id": "c2"}
    cause = {"cause": "touchpoint web/7", "who": "web", "caused_at": NOON}
    for version, later in ((2, 1500), (3, 90_000), (2, 1500)):
        row = row_of(CHANGES, version=version, changed_at=NOON + later, **change, **cause)
        insert(client, CHANGES, row)
    columns = "identity, kind, former_customer_id, customer_id, cause, who, seconds"
    assert select(client, f"SELECT {columns} FROM identity_changes ORDER BY changed_at") == [
        ("i", "email", "c1", "c2", "touchpoint web/7", "web", 1.5),
        ("i", "email", "c1", "c2", "touchpoint web/7", "web", 90.0),
    ]


def test_the_latest_word_of_operators_holds(client: Client) -> None:
    for number, allow, note in (
        (4, False, "two people"),
        (9, True, "one after all"),
        (4, False, ""),
    ):
        word = {"identity": "a", "other": "b", "allow": allow, "note": note, "number": number}
        insert(client, WORDS, row_of(WORDS, operator="ann", **word))
    found = select(client, "SELECT identity, other, allow, operator, note FROM operator_words")
    assert found == [("a", "b", True, "ann", "one after all")]


def test_the_latest_mark_of_an_identity_is_in_force(client: Client) -> None:
    for identity, number, mark in (("a", 4, "shared"), ("a", 9, ""), ("b", 5, "erased")):
        row = row_of(MARKS, identity=identity, number=number, mark=mark, operator="ann")
        insert(client, MARKS, row)
        insert(client, MARKS, row)
    found = select(client, "SELECT identity, mark, in_force FROM identity_marks ORDER BY number")
    assert found == [("a", "shared", False), ("b", "erased", True), ("a", "", True)]


def test_the_latest_rules_are_in_force(client: Client) -> None:
    for number in (3, 7, 5, 7):
        insert(client, RULES, row_of(RULES, number=number, operator="ann", text=f"# {number}"))
    found = select(client, "SELECT number, text, in_force FROM identity_rules ORDER BY number")
    assert found == [(3, "# 3", False), (5, "# 5", False), (7, "# 7", True)]


class Counted:
    def inserted(self, table: Table, rows: int, seconds: float) -> None: ...

    def retried(self, table: Table, error: Exception) -> None:
        raise AssertionError(error)


def test_the_writer_stores_all_rows_but_the_bad_ones(client: Client, migrated: Settings) -> None:
    rows = [fact(str(number), occurred_at=NOON + number) for number in range(1000)]
    rows[500] = fact("500", value_e4="a lot")
    rows[700] = fact("700", properties="none")
    states = [row_of(IDENTITIES, identity="i", version=version) for version in (3, 1, 2)]
    bad: list[str] = []

    async def write() -> None:
        writer = ClickHouseWriter(migrated, Counted(), lambda _, row, __: bad.append(row[2]))
        halves = [{FACTS: rows[:600], IDENTITIES: states}, {FACTS: rows[600:]}]
        await asyncio.gather(*[writer.insert(half) for half in halves])
        await writer.close()

    asyncio.run(write())
    assert bad == ["500", "700"]
    checks = "count(), min(occurred_at) = max(occurred_at) - INTERVAL 999 MILLISECOND"
    assert select(client, f"SELECT {checks} FROM touchpoints") == [(998, 1)]
    assert select(client, "SELECT version FROM identity_states FINAL") == [(3,)]


# Metrics


def panes_of(
    metric: str, channel: str, measured: Sequence[tuple[int, int]], shard: int = 0
) -> list[Row]:
    """Build the panes of measurements (second, scaled value) at all resolutions."""
    n: Counter[tuple[str, int]] = Counter()
    total: Counter[tuple[str, int]] = Counter()
    squares: Counter[tuple[str, int]] = Counter()
    for second, value in measured:
        for resolution, step in STEPS.items():
            pane = (resolution, second // step * step)
            n[pane] += 1
            total[pane] += value
            squares[pane] += value * value
    return [
        (metric, "channel", channel, *pane, shard, n[pane], total[pane], squares[pane], 2)
        for pane in n
    ]


def metrics_at(client: Client, as_of: datetime, where: str = "1") -> dict[tuple[str, ...], Any]:
    moment = as_of.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    columns = "metric, window, dimension, member, n, numerator, denominator, value, low, high"
    sql = f"SELECT {columns} FROM metrics_at(as_of = '{moment}') WHERE {where}"
    return {row[:4]: row[4:] for row in select(client, sql)}


def recomputed(
    definition: dict[str, Any], values: Sequence[int]
) -> tuple[int, float, int | None, float | None, float | None, float | None]:
    """Compute one line of the view from the measurements themselves."""
    n, scale = len(values), definition["scale"]
    numerator = sum(values) / scale
    if definition["kind"] == "total":
        return n, numerator, None, numerator, None, None
    if n == 0:
        return 0, 0.0, 0, None, None, None
    factor = 100 if definition["kind"] == "index" else 1
    mean = factor * numerator / n
    if not definition["squares"]:
        return n, numerator, n, mean, None, None
    variance = sum((factor * value / scale - mean) ** 2 for value in values) / n
    margin = 1.96 * sqrt(variance / n)
    return n, numerator, n, mean, mean - margin, mean + margin


def moments(rng: random.Random, as_of: datetime) -> list[int]:
    """Choose seconds around every edge a window can have, and anywhere in forty days."""
    finish = ceil(as_of.timestamp() / 60) * 60
    edges = [finish - length for length in WINDOWS.values()] + [finish]
    near = [edge + rng.choice((-61, -60, -1, 0, 1, 59, 60)) for edge in edges for _ in range(4)]
    hours = [edge // 3600 * 3600 + rng.randrange(-3600, 3600) for edge in edges]
    return near + hours + [finish - rng.randrange(40 * 86_400) for _ in range(60)]


@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_a_recomputation_from_the_measurements(client: Client, seed: int) -> None:
    rng = random.Random(seed)
    start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(100_000))
    as_of = start + timedelta(milliseconds=rng.choice((0, 1, 59_999, rng.randrange(86_400_000))))
    if seed == 0:
        as_of = datetime(2026, 3, 2, tzinfo=UTC)
    columns = ("name", "family", "help", "kind", "scale", "squares", "unit", "direction")
    definitions = [dict(zip(columns, row, strict=True)) for row in metric_definitions()]
    measured: dict[tuple[str, str], list[tuple[int, int]]] = {}
    rows: list[Row] = []
    for definition in definitions:
        for channel in ("web", "phone", "chat"):
            for shard in range(2):
                few = [(at, rng.randrange(-1000, 8000)) for at in moments(rng, as_of)]
                few = few if rng.random() < 0.8 else few[:2]
                rows += panes_of(definition["name"], channel, few, shard)
                measured.setdefault((definition["name"], channel), []).extend(few)
    stale = [(*row[:6], 99, 99, 99, 1) for row in rows]
    insert(client, PANES, *stale)
    insert(client, PANES, *rows)
    found = metrics_at(client, as_of)
    finish = ceil(as_of.timestamp() / 60) * 60
    expected = {}
    for definition in definitions:
        name = definition["name"]
        for window, length in WINDOWS.items():
            everything: list[int] = []
            for channel in ("web", "phone", "chat"):
                inside = [
                    value for at, value in measured[name, channel] if finish - length <= at < finish
                ]
                everything += inside
                if inside:
                    key = (name, window, "channel", channel)
                    expected[key] = recomputed(definition, inside)
            expected[name, window, "all", ""] = recomputed(definition, everything)
    assert found.keys() == expected.keys()
    for key, line in expected.items():
        assert [each is None for each in found[key]] == [each is None for each in line], key
        numbers = [each for each in line if each is not None]
        assert [each for each in found[key] if each is not None] == pytest.approx(numbers), key


def test_an_empty_store_has_every_metric_and_window_with_no_value(client: Client) -> None:
    lines = metrics_at(client, datetime(2026, 1, 1, tzinfo=UTC))
    names = [row[0] for row in metric_definitions()]
    assert set(lines) == {(name, window, "all", "") for name in names for window in WINDOWS}
    assert lines["nps", "5m", "all", ""] == (0, 0.0, 0, None, None, None)
    assert lines["orders", "30d", "all", ""] == (0, 0.0, None, 0.0, None, None)


def test_metrics_are_metrics_at_of_now(client: Client) -> None:
    insert(client, PANES, *panes_of("orders", "web", [(int(datetime.now(UTC).timestamp()), 1)] * 3))
    where = "metric = 'orders' AND window = '24h' ORDER BY dimension"
    sql = f"SELECT dimension, member, value, abs(now() - as_of) < 60 FROM metrics WHERE {where}"
    assert select(client, sql) == [("all", "", 3.0, 1), ("channel", "web", 3.0, 1)]


def test_nps_interval_is_the_published_worked_example(client: Client) -> None:
    answers = [1] * 162 + [0] * 108 + [-1] * 54
    insert(client, PANES, *panes_of("nps", "survey", [(NOON // 1000, each) for each in answers]))
    lines = metrics_at(client, datetime(2026, 1, 1, 12, 3, tzinfo=UTC), "window = '5m'")
    n, numerator, denominator, value, low, high = lines["nps", "5m", "all", ""]
    assert (n, numerator, denominator) == (324, 108.0, 324)
    assert value == pytest.approx(33.33, abs=0.005)
    # Published with the normal quantile 1.959964 (8.1159); the view has 1.96.
    assert (high - low) / 2 == pytest.approx(8.1159, abs=0.0005)
    assert (high - low) / 2 / 1.96 == pytest.approx(4.1409, abs=0.00005)


def test_effort_mean_is_the_published_worked_example(client: Client) -> None:
    counts = (80, 210, 140, 110, 160, 180, 120)
    answers = [score * 1000 for score, count in enumerate(counts, 1) for _ in range(count)]
    insert(client, PANES, *panes_of("ces", "survey", [(NOON // 1000, each) for each in answers]))
    lines = metrics_at(client, datetime(2026, 1, 1, 12, 3, tzinfo=UTC), "metric = 'ces'")
    assert lines["ces", "1h", "channel", "survey"][:4] == (1000, 4080.0, 1000, 4.08)
