"""The shipped migrations and views on a real engine: contract, idempotence, resolution, metrics."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil, floor, log, sqrt
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.catalogue import Metric, load_catalogue
from touchstream.streams.clickhouse import connect
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.customer_tables import CUSTOMERS, PANES
from touchstream.streams.definitions import (
    Definitions,
    definitions,
    dimensions_of,
    has_window,
    span_of,
    windows_of,
)
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.migrations import (
    LEDGER,
    LOCK,
    Migration,
    migrate,
    shipped_migrations,
)
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import (
    CHANGES,
    DEAD_LETTERS,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    OVERRIDES,
    REFUSED,
    RULES,
    TABLES,
    WORDS,
)

pytestmark = pytest.mark.integration

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
CATALOGUE = load_catalogue()
WINDOWS = CATALOGUE.windows
DAY = 86_400
STEPS = {"minute": 60, "hour": 3600, "day": 86_400}
OF_THE_SQUASH = {
    FACTS: [("customer_id_then", "String")],
    OVERRIDES: [
        ("written_at", "DateTime64(3, 'UTC')"),
        ("settled", "Bool"),
        ("is_deleted", "UInt8"),
    ],
}
"""Columns that agents leave to their defaults."""
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
    found = described(client, table.name)
    assert found == [*table.columns, *OF_THE_SQUASH.get(table, ())]


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


@pytest.mark.parametrize("wanted", definitions(CATALOGUE), ids=lambda wanted: wanted.table)
def test_the_catalogue_follows_the_file(
    client: Client, migrated: Settings, wanted: Definitions
) -> None:
    stored = f"SELECT {', '.join(wanted.columns)} FROM {wanted.table} FINAL ORDER BY name"
    assert select(client, stored) == wanted.rows
    client.command(f"INSERT INTO {wanted.table} (name) VALUES ('old')")
    client.command(f"INSERT INTO {wanted.table} (name) VALUES ('{wanted.rows[0][0]}')")
    assert select(client, stored) != wanted.rows
    migrate(migrated)
    assert select(client, stored) == wanted.rows


CONTRACT = {
    "identities": "identity:String kind:LowCardinality(String) customer_id:String"
    " first_seen_at:DateTime64(3,'UTC') changed_at:DateTime64(3,'UTC')",
    "dead_letters": "topic:LowCardinality(String) source:UInt64 partition:Int32 offset:Int64"
    " reason:LowCardinality(String) detail:String received_at:DateTime64(3,'UTC') key:String"
    " value:String value_base64:String",
    "metrics": "metric:LowCardinality(String) family:LowCardinality(String) window:String"
    " dimension:String member:String as_of:DateTime64(3,'UTC') n:Int64"
    " numerator:Nullable(Float64) denominator:Nullable(Int64) value:Nullable(Float64)"
    " low:Nullable(Float64) high:Nullable(Float64) unit:LowCardinality(String)"
    " direction:LowCardinality(String)",
    "metrics_pushed": "metric:LowCardinality(String) family:LowCardinality(String)"
    " window:LowCardinality(String) dimension:LowCardinality(String) member:String"
    " as_of:DateTime64(3,'UTC') n:Int64 numerator:Nullable(Float64) denominator:Nullable(Int64)"
    " value:Nullable(Float64) low:Nullable(Float64) high:Nullable(Float64)"
    " unit:LowCardinality(String) direction:LowCardinality(String)",
    "metrics_history": "metric:LowCardinality(String) family:LowCardinality(String) day:Date"
    " dimension:String member:String n:Int64 numerator:Nullable(Float64)"
    " denominator:Nullable(Int64) value:Nullable(Float64) unit:LowCardinality(String)"
    " direction:LowCardinality(String)",
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
    " changed_at:DateTime64(3,'UTC') segment:LowCardinality(String)"
    " contacts_by_channel:Map(LowCardinality(String),UInt64) sessions:UInt64 open_issues:UInt64"
    " solved_issues:UInt64 returns:UInt64 returned_value:Decimal(18,4) net_revenue:Decimal(18,4)"
    " repeat_buyer:Bool first_order_at:Nullable(DateTime64(3,'UTC')) order_days:UInt64"
    " usual_gap_days:Nullable(UInt32) mean_csat:Nullable(Float64) mean_nps:Nullable(Float64)"
    " mean_ces:Nullable(Float64) mean_trust:Nullable(Float64) last_trust:Nullable(Float64)"
    " mean_sentiment:Nullable(Float64) advocacy:Map(LowCardinality(String),UInt64)"
    " consent:Map(LowCardinality(String),Bool) stage:LowCardinality(String)"
    " stage_since:Nullable(DateTime64(3,'UTC')) cycle:LowCardinality(String) at_risk:Bool"
    " churn_risk:Nullable(Float64) segments:Array(String)",
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
    "customer_value(as_of = '2026-01-01 00:00:00')": "customer_id:String"
    " as_of:DateTime64(3,'UTC') recency_days:UInt32 frequency:UInt64 monetary:Decimal(18,4)"
    " recency_score:UInt8 frequency_score:UInt8 monetary_score:UInt8 rfm:String"
    " repeat_orders:UInt64 weeks_buying:Float64 weeks_known:Float64 p_alive:Nullable(Float64)",
    "sessions": "customer_id:String started_at:DateTime64(3,'UTC') ended_at:DateTime64(3,'UTC')"
    " duration_seconds:Float64 touchpoints:UInt32 channels:Array(LowCardinality(String))"
    " campaign:LowCardinality(String) orders:UInt32",
    "journeys": "customer_id:String entered_at:DateTime64(3,'UTC') stage:LowCardinality(String)"
    " cycle:LowCardinality(String) previous:LowCardinality(String) backward:Bool"
    " left_at:Nullable(DateTime64(3,'UTC')) dwell_seconds:Float64",
    "stage_transitions": "from_stage:LowCardinality(String) to_stage:LowCardinality(String)"
    " visits:UInt64 customers:UInt64 probability:Float64 mean_dwell_seconds:Nullable(Float64)",
    "funnel": "rank:UInt8 stage:LowCardinality(String) customers:UInt64"
    " stage_before:LowCardinality(String) customers_before:UInt64 customers_of_both:UInt64"
    " share:Nullable(Float64)",
    "issues": "customer_id:String topic:LowCardinality(String) opened_at:DateTime64(3,'UTC')"
    " last_contact_at:DateTime64(3,'UTC') duration_seconds:Float64 contacts:UInt32"
    " channels:Array(LowCardinality(String)) switched:Bool solved:Bool reopened:UInt32",
    "paths": "customer_id:String ordered_at:DateTime64(3,'UTC') order_id:String"
    " value:Decimal(18,4) touches:UInt64 channels:Array(LowCardinality(String))"
    " campaigns:Array(LowCardinality(String)) touched_at:Array(DateTime64(3,'UTC'))"
    " lead_seconds:Nullable(Float64)",
    "channel_transitions": "from_channel:LowCardinality(String)"
    " to_channel:LowCardinality(String) transitions:UInt64 probability:Float64",
    "channel_effects": "channel:LowCardinality(String) removal_effect:Float64 share:Float64",
    "attribution": "model:LowCardinality(String) channel:LowCardinality(String)"
    " campaign:LowCardinality(String) orders:Float64 revenue:Float64",
    "alerts": "alert_id:String kind:LowCardinality(String) raised_at:DateTime64(3,'UTC')"
    " customer_id:String identity:String reason:String"
    " evidence:Map(LowCardinality(String),String)",
    "targets": "target_id:String metric:LowCardinality(String) window:LowCardinality(String)"
    " dimension:LowCardinality(String) member:String target:Float64"
    " direction:LowCardinality(String) tolerance:Float64 minimum_n:UInt64 weight:Float64"
    " valid_from:DateTime64(3,'UTC') valid_to:Nullable(DateTime64(3,'UTC'))",
    "experience_gap": "target_id:String metric:LowCardinality(String)"
    " window:LowCardinality(String) dimension:LowCardinality(String) member:String"
    " direction:LowCardinality(String) target:Float64 n:Int64 value:Nullable(Float64)"
    " low:Nullable(Float64) high:Nullable(Float64) gap:Nullable(Float64)"
    " status:LowCardinality(String) attainment:Nullable(Float64) tolerance:Float64"
    " minimum_n:UInt64 weight:Float64 unit:LowCardinality(String)",
    "experience_index": "experience_index:Nullable(Float64) targets:UInt64 judged:UInt64"
    " met:UInt64 at_risk:UInt64 missed:UInt64 weight:Float64",
}


CONTRACT["touchpoints_raw"] = CONTRACT["touchpoints"].replace(" customer_id:String", "")
CONTRACT["customer_timeline(customer_id = 'c')"] = CONTRACT["touchpoints"]
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
        fact("1", identity="moved", customer_id="old", identity_version=1),
        fact("2", identity="moved", customer_id="newest", identity_version=4),
        fact("3", identity="stayed", customer_id="old", identity_version=1),
        fact("4", identity="unknown", customer_id="lone"),
    )
    states = [("moved", "new", 3), ("moved", "between", 2), ("stayed", "ignored", 1)]
    for identity, customer, version in states:
        named = {"identity": identity, "customer_id": customer, "version": version}
        insert(client, IDENTITIES, row_of(IDENTITIES, **named))
        if version > 1:
            insert(client, OVERRIDES, row_of(OVERRIDES, **named))
    columns = "identity, customer_id, customer_id_then"
    assert select(client, f"SELECT {columns} FROM touchpoints ORDER BY event_id") == [
        ("moved", "new", "old"),
        ("moved", "newest", "newest"),
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


Measured = tuple[int, int]
"""Second and scaled value of a measurement."""
Line = tuple[int, float | None, int | None, float | None, float | None, float | None]
"""n, numerator, denominator, value, low, high."""


def panes_of(
    measure: str,
    member: str,
    measured: Sequence[Measured],
    shard: int = 0,
    dimension: str = "channel",
) -> list[Row]:
    """Build the panes of measurements at all resolutions of the dimension."""
    inside: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    coarse = CATALOGUE.dimensions[dimension].finest == "hour"
    for second, value in measured:
        for resolution, step in list(STEPS.items())[coarse:]:
            inside[resolution, second // step * step].append(value)
    histogram = CATALOGUE.measures[measure].histogram
    return [
        (measure, dimension, member, *pane, shard, len(values), sum(values))
        + (sum(each**2 for each in values), buckets_of(values) if histogram else {}, 2)
        for pane, values in inside.items()
    ]


def buckets_of(values: Sequence[int]) -> dict[int, int]:
    """Build a histogram with a relative error of 1%."""
    width = log(1.01 / 0.99)
    return dict(Counter(ceil(log(value) / width) if value else -1 for value in values))


def level_panes(
    name: str, dimension: str, member: str, changes: Sequence[tuple[int, int]], shard: int = 0
) -> list[Row]:
    """Build the panes of a level from its changes by day; `n` says nothing."""
    by_day: Counter[int] = Counter()
    for second, change in changes:
        by_day[second // DAY * DAY] += change
    return [
        (name, dimension, member, "day", day, shard, 1, change, 0, {}, 2)
        for day, change in by_day.items()
    ]


def metrics_at(client: Client, as_of: datetime, where: str = "1") -> dict[tuple[str, ...], Line]:
    moment = as_of.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    columns = "metric, window, dimension, member, n, numerator, denominator, value, low, high"
    sql = f"SELECT {columns} FROM metrics_at(as_of = '{moment}') WHERE {where}"
    return {row[:4]: row[4:] for row in select(client, sql)}


@dataclass
class World:
    """Everything that was measured, by measure (with a level's window), dimension and member."""

    as_of: datetime
    measured: defaultdict[tuple[str, str, str], list[Measured]] = field(
        default_factory=lambda: defaultdict(list)
    )
    shards: defaultdict[tuple[str, str, str, int], list[Measured]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def measure(
        self, measure: str, members: dict[str, str], shard: int, few: list[Measured]
    ) -> None:
        """Take measurements of one customer partition."""
        self.measured[measure, "all", ""] += few
        for dimension, member in members.items():
            self.measured[measure, dimension, member] += few
            self.shards[measure, dimension, member, shard] += few

    def change(self, name: str, place: tuple[str, str], shard: int, few: list[Measured]) -> None:
        """Take changes of a level."""
        self.measured[name, *place] += few
        self.shards[name, *place, shard] += few

    def rows(self) -> list[Row]:
        """Panes of everything."""
        rows: list[Row] = []
        for (name, dimension, member, shard), few in self.shards.items():
            if CATALOGUE.measures[name.partition("@")[0]].level:
                rows += level_panes(name, dimension, member, few, shard)
            else:
                rows += panes_of(name, member, few, shard, dimension)
        return rows

    def finish(self, step: int) -> int:
        """As-of rounded up."""
        return ceil(self.as_of.timestamp() / step) * step

    def values(self, metric: Metric, term: str, place: tuple[str, str, str]) -> list[int]:
        """Values that a term adds up, in 1/scale."""
        window, dimension, member = place
        name, _, part = term.partition(".")
        level = CATALOGUE.measures[name].level
        days = span_of(CATALOGUE, metric) != "rolling"
        coarse = dimension != "all" and CATALOGUE.dimensions[dimension].finest == "hour"
        finish = self.finish(DAY if days else 3600 if coarse else 60)
        begin = finish - WINDOWS[window] if window in WINDOWS and not level else 0
        if level:
            name += "" if level == "now" else f"@{part or window}"
        found = self.measured.get((name, dimension, member), ())
        return [value for at, value in found if begin <= at < finish]

    def line(self, metric: Metric, place: tuple[str, str, str]) -> Line | None:
        """Compute one line of the view from the measurements themselves; None if there is none."""

        def total(terms: Iterable[tuple[str, int]]) -> float:
            return sum((weight * self._amount(metric, term, place) for term, weight in terms), 0.0)

        numerator, denominator = (
            total(terms.items()) for terms in (metric.numerator, metric.denominator)
        )
        counted = [self._count(metric, term, place) for term in metric.numerator]
        terms = {**metric.numerator, **metric.denominator}
        if place[1] != "all" and not any(
            self._count(metric, term, place) or self._amount(metric, term, place) for term in terms
        ):
            return None
        n = round(denominator) if metric.denominator else sum(counted)
        below: int | None = n if metric.denominator or metric.quantile is not None else None
        if n < metric.below:
            return n, None, below, None, None, None
        if metric.quantile is not None:
            value = self._quantile(metric, place)
            return n, numerator, below, value, None, None
        if not metric.denominator:
            return n, numerator, None, metric.factor * numerator, None, None
        if not denominator:
            return n, numerator, n, None, None, None
        value = metric.factor * numerator / denominator
        return n, numerator, n, value, *self._interval(metric, place, numerator, denominator)

    def _count(self, metric: Metric, term: str, place: tuple[str, str, str]) -> int:
        values = self.values(metric, term, place)
        return sum(values) if CATALOGUE.measures[term.partition(".")[0]].level else len(values)

    def _amount(self, metric: Metric, term: str, place: tuple[str, str, str]) -> float:
        name, _, part = term.partition(".")
        values = self.values(metric, term, place)
        return len(values) if part == "n" else sum(values) / CATALOGUE.measures[name].scale

    def _quantile(self, metric: Metric, place: tuple[str, str, str]) -> float | None:
        (name,) = metric.numerator
        values = sorted(self.values(metric, name, place))
        assert metric.quantile is not None
        if not values:
            return None
        return values[floor(metric.quantile * (len(values) - 1))] / CATALOGUE.measures[name].scale

    def _interval(
        self, metric: Metric, place: tuple[str, str, str], numerator: float, denominator: float
    ) -> tuple[float | None, float | None]:
        z = 1.96
        if CATALOGUE.squared(metric):
            (name,) = metric.numerator
            scale = CATALOGUE.measures[name].scale / metric.factor
            values = [value / scale for value in self.values(metric, name, place)]
            mean = sum(values) / len(values)
            margin = z * sqrt(sum((each - mean) ** 2 for each in values)) / len(values)
            return mean - margin, mean + margin
        whole = all(
            CATALOGUE.measures[each.partition(".")[0]].scale == 1 for each in metric.numerator
        )
        if metric.unit != "percent" or not whole or not 0 <= numerator <= denominator:
            return None, None
        root = z * sqrt(z * z + 4 * numerator * (denominator - numerator) / denominator)
        ends = [
            (2 * numerator + z * z + sign * root) / (2 * (denominator + z * z)) for sign in (-1, 1)
        ]
        return 100 * ends[0], 100 * ends[1]


def moments(rng: random.Random, as_of: datetime) -> list[int]:
    """Choose seconds around every edge a window can have, and anywhere in a hundred days."""
    finish = ceil(as_of.timestamp() / 60) * 60
    edges = [finish - length for length in WINDOWS.values()] + [finish]
    near = [edge + rng.choice((-61, -60, -1, 0, 1, 59, 60)) for edge in edges for _ in range(3)]
    hours = [edge // 3600 * 3600 + rng.randrange(-3600, 3600) for edge in edges]
    days = [edge // DAY * DAY + rng.randrange(-DAY, 2 * DAY) for edge in edges]
    return near + hours + days + [finish - rng.randrange(100 * DAY) for _ in range(30)]


def random_world(seed: int) -> World:
    rng = random.Random(seed)
    start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(100_000))
    as_of = start + timedelta(milliseconds=rng.choice((0, 1, 59_999, rng.randrange(86_400_000))))
    world = World(datetime(2026, 3, 2, tzinfo=UTC) if seed == 0 else as_of)
    for name, measure in CATALOGUE.measures.items():
        if measure.level:
            add_level(world, rng, name)
            continue
        for channel in ("web", "phone"):
            for shard in range(2):
                members = {"channel": channel}
                for dimension in rng.sample(list(CATALOGUE.dimensions), 2):
                    members.setdefault(dimension, rng.choice("ab"))
                low = 0 if measure.histogram else -1000
                high = rng.choice((1, 10, 8000)) if measure.scale == 1 else 8_000_000
                few = [(at, rng.randrange(low, high)) for at in moments(rng, world.as_of)]
                few = few if rng.random() < 0.8 else few[:2]
                world.measure(name, members, shard, few)
    return world


def add_level(world: World, rng: random.Random, name: str) -> None:
    """Add changes of a level in every window and dimension that it has."""
    metric = Metric(name, "", "", {name: 1}, {}, "", "")
    level = CATALOGUE.measures[name].level
    for window in [*CATALOGUE.day_windows, "all"] if level == "windows" else [""]:
        for dimension in dimensions_of(CATALOGUE, metric):
            for member in ("a", "b") if dimension != "all" else ("",):
                stored = f"{name}@{window}" if window else name
                for shard in range(2):
                    few = [(at, rng.randrange(-2, 6)) for at in moments(rng, world.as_of)[::3]]
                    world.change(stored, (dimension, member), shard, few)


@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_a_recomputation_from_the_measurements(client: Client, seed: int) -> None:
    world = random_world(seed)
    rows = world.rows()
    insert(client, PANES, *[(*row[:6], 99, 99, 99, {7: 99}, 1) for row in rows])
    insert(client, PANES, *rows)
    members = {(dimension, member) for _, dimension, member in world.measured}
    found = metrics_at(client, world.as_of)
    expected = {
        (name, window, dimension, member): line
        for name, metric in CATALOGUE.metrics.items()
        for window in windows_of(CATALOGUE, metric)
        for dimension, member in members
        if dimension in dimensions_of(CATALOGUE, metric)
        and has_window(CATALOGUE, window, dimension)
        and (line := world.line(metric, (window, dimension, member)))
    }
    assert found.keys() == expected.keys()
    for key, line in expected.items():
        assert [each is None for each in found[key]] == [each is None for each in line], key
        error = 0.0101 if CATALOGUE.metrics[key[0]].quantile is not None else 1e-6
        for index, each in enumerate(line):
            near = error if index == 3 else 1e-6
            assert each is None or found[key][index] == pytest.approx(each, rel=near, abs=1e-9), key


@pytest.mark.parametrize("days_ago", [1, 8, 40])
def test_history_has_of_each_day_what_the_window_of_that_day_has(
    client: Client, days_ago: int
) -> None:
    world = random_world(3)
    insert(client, PANES, *world.rows())
    end = world.as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    end -= timedelta(days=days_ago - 1)
    levels = "SELECT metric FROM metric_terms WHERE level != ''"
    where = f"window = '24h' AND n != 0 AND metric NOT IN ({levels})"
    windows = metrics_at(client, end, where)
    wanted = {(metric, *place): line[:4] for (metric, _, *place), line in windows.items()}
    columns = "metric, dimension, member, n, numerator, denominator, value"
    day = (end - timedelta(days=1)).date()
    sql = f"SELECT {columns} FROM metrics_history WHERE day = '{day}' AND n != 0"
    found = {row[:3]: row[3:] for row in select(client, sql) if row[:3] in wanted}
    assert found.keys() == wanted.keys()
    assert len(wanted) > 20
    for key, line in wanted.items():
        same = [each if each is None else pytest.approx(each, rel=1e-9) for each in line]
        assert list(found[key]) == same, key


def test_numbers_of_customers_are_no_history(client: Client) -> None:
    insert(client, PANES, *level_panes("buyers@30d", "all", "", [(100 * DAY, 1)]))
    assert select(client, "SELECT count() FROM metrics_history") == [(0,)]


def test_an_empty_store_has_every_metric_and_window_with_no_value(client: Client) -> None:
    lines = metrics_at(client, datetime(2026, 1, 1, tzinfo=UTC))
    assert set(lines) == {
        (name, window, "all", "")
        for name, metric in CATALOGUE.metrics.items()
        for window in windows_of(CATALOGUE, metric)
    }
    assert lines["nps", "5m", "all", ""] == (0, 0.0, 0, None, None, None)
    assert lines["orders", "30d", "all", ""] == (0, 0.0, None, 0.0, None, None)
    assert lines["purchase_gap_p50", "all", "all", ""] == (0, 0.0, 0, None, None, None)
    assert lines["churn_risk_share", "now", "all", ""] == (0, 0.0, 0, None, None, None)


def test_metrics_are_metrics_at_of_now(client: Client) -> None:
    insert(client, PANES, *panes_of("order", "web", [(int(datetime.now(UTC).timestamp()), 1)] * 3))
    where = "metric = 'orders' AND window = '24h' ORDER BY dimension"
    sql = f"SELECT dimension, member, value, abs(now() - as_of) < 60 FROM metrics WHERE {where}"
    assert select(client, sql) == [("all", "", 3.0, 1), ("channel", "web", 3.0, 1)]


def test_a_member_that_everything_was_taken_from_has_no_row(client: Client) -> None:
    insert(client, PANES, *[(*row[:6], 0, 0, 0, {}, 3) for row in panes_of("order", "web", [AT])])
    insert(client, PANES, *level_panes("buyers@30d", "account", "a", [AT, (AT[0], -1)]))
    lines = metrics_at(client, datetime(2026, 1, 1, 13, tzinfo=UTC), "dimension != 'all'")
    assert lines == {}


AT = (NOON // 1000, 1)
"""One measurement at noon."""
LATER = datetime(2026, 1, 1, 12, 3, tzinfo=UTC)


def line_at(client: Client, metric: str, window: str = "5m") -> Line:
    """Line of everybody, three minutes later."""
    return metrics_at(client, LATER, f"window = '{window}'")[metric, window, "all", ""]


def test_nps_interval_is_the_published_worked_example(client: Client) -> None:
    answers = [1] * 162 + [0] * 108 + [-1] * 54
    insert(client, PANES, *panes_of("nps", "survey", [(NOON // 1000, each) for each in answers]))
    n, numerator, denominator, value, low, high = line_at(client, "nps")
    assert (n, numerator, denominator) == (324, 108.0, 324)
    assert value == pytest.approx(33.33, abs=0.005)
    assert low is not None and high is not None
    # Published with the normal quantile 1.959964 (8.1159); the view has 1.96.
    assert (high - low) / 2 == pytest.approx(8.1159, abs=0.0005)
    assert (high - low) / 2 / 1.96 == pytest.approx(4.1409, abs=0.00005)


def test_effort_mean_is_the_published_worked_example(client: Client) -> None:
    counts = (80, 210, 140, 110, 160, 180, 120)
    answers = [score * 1000 for score, count in enumerate(counts, 1) for _ in range(count)]
    insert(client, PANES, *panes_of("ces", "survey", [(NOON // 1000, each) for each in answers]))
    lines = metrics_at(client, LATER, "metric = 'ces'")
    assert lines["ces", "1h", "channel", "survey"][:4] == (1000, 4080.0, 1000, 4.08)


def test_service_levels_are_the_published_worked_example(client: Client) -> None:
    calls = {"answered": 1000, "answered_in_time": 860, "abandoned": 60, "abandoned_in_time": 20}
    for measure, number in calls.items():
        insert(client, PANES, *panes_of(measure, "phone", [AT] * number))
    lines = metrics_at(client, LATER, "window = '24h' AND dimension = 'channel'")
    values = {
        variant: round(lines[f"service_level{variant}", "24h", "channel", "phone"][3] or 0, 2)
        for variant in ("_f1", "_f2", "_f3", "_f4", "")
    }
    assert values == {"_f1": 83.02, "_f2": 86.0, "_f3": 81.13, "_f4": 82.69, "": 82.69}
    f4 = lines["service_level_f4", "24h", "channel", "phone"]
    assert f4[:3] == (1040, 860.0, 1040)
    assert list(f4[4:]) == pytest.approx([80.27, 84.87], abs=0.01)


def test_a_value_of_too_few_answers_is_hidden_with_its_sum(client: Client) -> None:
    insert(client, PANES, *panes_of("enps", "employee", [AT] * 4))
    assert line_at(client, "enps") == (4, None, 4, None, None, None)
    insert(client, PANES, *panes_of("enps", "survey", [AT]))
    assert line_at(client, "enps") == (5, 5.0, 5, 100.0, 100.0, 100.0)


def test_a_share_of_nothing_or_everything_has_an_interval_too(client: Client) -> None:
    insert(client, PANES, *panes_of("review", "social", [AT] * 10))
    assert list(line_at(client, "good_reviews")[4:]) == pytest.approx([0, 27.75], abs=0.01)
    insert(client, PANES, *panes_of("good_review", "social", [AT] * 11))
    value, *interval = line_at(client, "good_reviews")[3:]
    assert value == pytest.approx(110)
    assert interval == [None, None]


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_quantiles_are_within_one_percent_of_the_measurement(
    client: Client, quantile: float
) -> None:
    gaps = [*range(1, 1000), 40, 0, 365]
    few = [(NOON // 1000 - each, gap) for each, gap in enumerate(gaps)]
    for shard in range(2):
        insert(client, PANES, *panes_of("purchase_gap", "purchase", few[shard::2], shard))
    value = line_at(client, f"purchase_gap_p{quantile * 100:.0f}", "90d")[3]
    expected = sorted(gaps)[floor(quantile * (len(gaps) - 1))]
    assert value == pytest.approx(expected, rel=0.0101)


def test_customers_and_their_orders_are_of_the_same_days(client: Client) -> None:
    """The whole of the day that has begun is in the window, nothing of the day 30 before it."""
    today, first = NOON // 1000 // DAY * DAY, NOON // 1000 // DAY * DAY - 29 * DAY
    orders = [(at, 1) for at in (first - 1, first, today, today + DAY - 1, today + DAY)]
    insert(client, PANES, *panes_of("order", "purchase", orders))
    insert(client, PANES, *level_panes("buyers@30d", "all", "", [(first, 5), (today, -3)]))
    assert line_at(client, "purchase_frequency", "30d")[:4] == (2, 3.0, 2, 1.5)
