"""Views of what customers are worth and lived through: exact results, merges, silence, nothing."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from time import time
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import connect
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PATHS, SESSIONS, VISITS
from touchstream.streams.migrations import migrate, render, shipped_migrations
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row, Table

pytestmark = pytest.mark.integration

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
DAY = 86_400_000
WEEK = 7 * DAY
FAR = NOON + 36_500 * DAY
EMPTY: dict[str, Any] = {"Nullable": None, "Map": {}, "Array": [], "Float": 0.0, "String": ""}
OURS = (CUSTOMERS, SESSIONS, VISITS, ISSUES, PATHS)


class Silent:
    """Counts nothing."""

    def inserted(self, table: Table, rows: int, seconds: float) -> None: ...

    def retried(self, table: Table, error: Exception) -> None:
        raise error


class Store:
    """A migrated database."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self.client = client

    def put(self, table: Table, *rows: dict[str, Any]) -> None:
        """Insert rows as the agents do; what is not given is empty."""

        async def write() -> None:
            writer = ClickHouseWriter(self._settings, Silent(), refuse)
            await writer.insert({table: [row_of(table, **row) for row in rows]})
            await writer.close()

        asyncio.run(write())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.client.query(sql).result_rows]

    def row(self, sql: str) -> dict[str, Any]:
        result = self.client.query(sql)
        (row,) = result.result_rows
        return dict(zip(result.column_names, row, strict=True))


def refuse(table: Table, row: Row, error: Exception) -> None:
    raise error


def row_of(table: Table, **values: Any) -> Row:
    assert set(values) <= set(table.column_names)
    values = {"version": 1, **values}
    return tuple(values.get(name, empty(kind)) for name, kind in table.columns)


def empty(kind: str) -> Any:
    bare = kind.replace("LowCardinality(String)", "String")
    return next((value for start, value in EMPTY.items() if bare.startswith(start)), 0)


@contextmanager
def opened(settings: Settings, **options: Any) -> Iterator[Client]:
    client = connect(settings, dedicated_pool=True, **options)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def migrated(clickhouse_url: str) -> Iterator[Settings]:
    database = f"test_{uuid4().hex[:12]}"
    settings = Settings(
        clickhouse_url=clickhouse_url, clickhouse_database=database, flush_seconds=0.001
    )
    migrate(settings)
    yield settings
    with opened(settings, database="default") as client:
        client.command(f"DROP DATABASE {database}")


@pytest.fixture
def store(migrated: Settings) -> Iterator[Store]:
    with opened(migrated) as client:
        yield Store(migrated, client)
        for table in OURS:
            client.command(f"TRUNCATE TABLE {table.name}")


def now_ms() -> int:
    return int(time() * 1000)


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)


def near(value: float) -> Any:
    return pytest.approx(value, abs=1e-9)


# Customers


def test_a_new_customer_has_no_means_no_gap_and_no_risk(store: Store) -> None:
    store.put(CUSTOMERS, {"customer_id": "c", "usual_gap_days": 90})
    row = store.row("SELECT * FROM customers")
    nothing = {"average_order_value", "mean_csat", "mean_nps", "mean_ces", "mean_trust"}
    nothing |= {"last_trust", "mean_sentiment", "usual_gap_days", "churn_risk", "first_order_at"}
    assert {name for name in nothing if row[name] is not None} == set()
    assert (row["stage"], row["stage_since"], row["cycle"]) == ("", None, "")
    assert (row["segments"], row["repeat_buyer"], row["at_risk"]) == ([], False, False)
    assert (row["net_revenue"], row["returned_value"]) == (Decimal(0), Decimal(0))


def test_a_customer_has_means_money_and_maps(store: Store) -> None:
    given = {
        "segment": "gold",
        "contacts_by_channel": {"phone": 2},
        "sessions": 4,
        "open_issues": 1,
        "solved_issues": 2,
        "order_days": 2,
        "last_trust": 4.5,
        "advocacy": {"referrals": 1},
        "consent": {"ads": False, "analytics": True},
    }
    store.put(
        CUSTOMERS,
        {
            "customer_id": "c",
            "orders": 2,
            "revenue_e4": 1_000_001,
            "returns": 1,
            "returned_e4": 250_000,
            "answers": {"csat": 2, "nps": 3, "ces": 1, "trust": 4},
            "answer_sums": {"csat": 7.5, "nps": 20.0, "ces": 6.0, "trust": 9.0},
            "texts_scored": 4,
            "sentiment_sum": -1.0,
            "first_order_at": NOON,
            "last_order_at": NOON + 5,
            **given,
        },
    )
    row = store.row("SELECT * FROM customers")
    assert {name: row[name] for name in given} == given
    assert (row["returns"], row["returned_value"]) == (1, Decimal("25"))
    assert (row["revenue"], row["net_revenue"]) == (Decimal("100.0001"), Decimal("75.0001"))
    assert row["average_order_value"] == Decimal("50.0001")
    assert (row["mean_csat"], row["mean_ces"], row["mean_trust"]) == (3.75, 6.0, 2.25)
    assert (row["mean_nps"], row["mean_sentiment"]) == (near(20 / 3), -0.25)
    assert (row["repeat_buyer"], row["first_order_at"]) == (True, moment(NOON))


def test_who_is_silent_past_the_lapse_is_lapsed_from_then_on(store: Store) -> None:
    since, past, future = NOON, NOON + 180 * DAY, FAR
    states = [
        ("a", "bond", since, past),
        ("b", "evaluate", since, future),
        ("c", "enjoy", since, future),
        ("d", "lapsed", since, past),
        ("e", "", None, None),
        ("f", "unheard of", since, None),
    ]
    names = ("customer_id", "stage", "stage_since", "lapses_at")
    store.put(CUSTOMERS, *[dict(zip(names, state, strict=True)) for state in states])
    sql = "SELECT customer_id, stage, stage_since, cycle, segments FROM customers ORDER BY 1"
    assert store.rows(sql) == [
        ("a", "lapsed", moment(past), "lapsed", ["lapsed"]),
        ("b", "evaluate", moment(since), "buy", []),
        ("c", "enjoy", moment(since), "own", []),
        ("d", "lapsed", moment(since), "lapsed", ["lapsed"]),
        ("e", "", None, "", []),
        ("f", "unheard of", moment(since), "", []),
    ]
    assert store.rows("SELECT customer_id FROM customers WHERE stage = 'lapsed' ORDER BY 1") == [
        ("a",),
        ("d",),
    ]


def test_a_customer_is_at_risk_when_the_silence_is_longer_than_the_usual_gap(store: Store) -> None:
    today = now_ms() // DAY * DAY
    silences = (0, 9, 10, 11, 25)
    rows = [
        {
            "customer_id": f"{days:02}",
            "orders": 1,
            "usual_gap_days": 10,
            "last_order_at": today - days * DAY + 1,
            "at_risk_from": today - days * DAY + 11 * DAY,
        }
        for days in silences
    ]
    store.put(CUSTOMERS, *rows)
    sql = "SELECT churn_risk, at_risk, has(segments, 'at risk') FROM customers ORDER BY customer_id"
    expected = [(near(days / 10), days > 10, int(days > 10)) for days in silences]
    assert store.rows(sql) == expected


def test_segments_are_the_one_given_and_what_behaviour_says(store: Store) -> None:
    store.put(
        CUSTOMERS,
        {"customer_id": "a", "segment": "gold", "orders": 2, "last_nps": 9.0},
        {"customer_id": "b", "segment": "buyer", "orders": 1, "last_nps": 7.0},
        {"customer_id": "c", "last_nps": 6.0},
    )
    assert store.rows("SELECT segments FROM customers ORDER BY customer_id") == [
        (["gold", "buyer", "repeat buyer", "promoter"],),
        (["buyer"],),
        (["detractor"],),
    ]


# Value


PUBLISHED = [
    (2, 30.43, 38.86, 0.726579),
    (1, 1.71, 38.86, 0.212101),
    (7, 29.43, 38.86, 0.641756),
    (23, 39, 39, 0.968555),
    (0, 0, 38.86, 1),
]


@pytest.mark.parametrize(("repeats", "last_week", "weeks", "p_alive"), PUBLISHED)
def test_p_alive_is_that_of_the_published_model(
    store: Store, repeats: int, last_week: float, weeks: float, p_alive: float
) -> None:
    first = NOON - round(weeks * WEEK)
    last = first + round(last_week * WEEK)
    ends = {"first_order_at": first, "last_order_at": last}
    store.put(CUSTOMERS, {"customer_id": "c", "orders": repeats + 1, **ends})
    row = store.row("SELECT * FROM customer_value(as_of = '2026-01-01 12:00:00')")
    assert round(row["p_alive"], 6) == p_alive
    assert (row["repeat_orders"], row["weeks_buying"]) == (repeats, near(last_week))
    assert (row["weeks_known"], row["as_of"]) == (near(weeks), moment(NOON))


def test_the_last_parameters_hold_and_are_not_filled_in_again(
    store: Store, migrated: Settings
) -> None:
    order = {"orders": 2, "first_order_at": NOON - WEEK, "last_order_at": NOON - WEEK}
    store.put(CUSTOMERS, {"customer_id": "c", **order})
    sql = "SELECT p_alive FROM customer_value(as_of = '2026-01-01 12:00:00')"
    published = store.client.query("SELECT name, value FROM model_parameters FINAL").result_rows
    insert = "INSERT INTO model_parameters (name, value) VALUES "
    store.client.command(
        f"{insert} ('bgnbd_r', 1), ('bgnbd_alpha', 1), ('bgnbd_a', 1), ('bgnbd_b', 1)"
    )
    for migration in shipped_migrations():
        if migration.name == "customer_views":
            for statement in render(migration, migrated):
                store.client.command(statement)
    assert store.rows(sql) == [(near(1 / (1 + 2**2)),)]
    store.client.command(insert + ", ".join(f"('{name}', {value})" for name, value in published))
    assert store.rows(sql) == [(near(1 / (1 + 0.793 / 2.426 * (5.414 / 4.414) ** 1.243)),)]


def test_scores_are_fifths_and_equals_have_equal_scores(store: Store) -> None:
    # customer, days since the last order, orders, revenue
    buyers = [
        ("a", 1, 1, 10),
        ("b", 1, 1, 10),
        ("c", 30, 1, 10),
        ("d", 40, 2, 10),
        ("e", 50, 3, 10),
    ]
    rows = [
        {
            "customer_id": name,
            "orders": orders,
            "revenue_e4": (revenue + 5) * 10_000,
            "returned_e4": 50_000,
            "first_order_at": NOON - 50 * DAY,
            "last_order_at": NOON - days * DAY,
        }
        for name, days, orders, revenue in buyers
    ]
    late = {"customer_id": "later", "orders": 1, "first_order_at": NOON + 1, "last_order_at": FAR}
    store.put(CUSTOMERS, *rows, late, {"customer_id": "nothing bought"})
    sql = "SELECT * FROM customer_value(as_of = '2026-01-01 12:00:00') ORDER BY customer_id"
    found = [
        tuple(row[name] for name in ("recency_days", "frequency", "monetary", "rfm"))
        for row in store.client.query(sql).named_results()
    ]
    assert found == [
        (1, 1, Decimal(10), "411"),
        (1, 1, Decimal(10), "411"),
        (30, 1, Decimal(10), "311"),
        (40, 2, Decimal(10), "241"),
        (50, 3, Decimal(10), "151"),
    ]


@pytest.mark.parametrize(("buyers", "fifths"), [(1, [1]), (2, [1, 3]), (7, [1, 1, 2, 3, 3, 4, 5])])
def test_fewer_buyers_have_fewer_scores(store: Store, buyers: int, fifths: list[int]) -> None:
    order = {"orders": 1, "first_order_at": NOON, "last_order_at": NOON}
    rows = [{"customer_id": f"{i}", "revenue_e4": i, **order} for i in range(buyers)]
    store.put(CUSTOMERS, *rows)
    sql = "SELECT monetary_score FROM customer_value(as_of = '2026-01-02 00:00:00')"
    assert store.rows(f"{sql} ORDER BY customer_id") == [(fifth,) for fifth in fifths]


# Sessions and issues


def test_sessions_last_from_the_first_touchpoint_to_the_last(store: Store) -> None:
    life = {"touchpoints": 3, "channels": ["email", "web"], "campaign": "spring", "orders": 1}
    store.put(
        SESSIONS,
        {"customer_id": "c", "started_at": NOON, "ended_at": NOON + 90_500, **life},
        {"customer_id": "c", "started_at": NOON + DAY, "ended_at": NOON + DAY},
    )
    store.put(SESSIONS, {"customer_id": "c", "started_at": NOON, "ended_at": NOON, "version": 0})
    assert store.rows("SELECT * FROM sessions ORDER BY started_at") == [
        ("c", moment(NOON), moment(NOON + 90_500), 90.5, 3, ["email", "web"], "spring", 1),
        ("c", moment(NOON + DAY), moment(NOON + DAY), 0.0, 0, [], "", 0),
    ]


def test_issues_say_whether_they_switched_channels(store: Store) -> None:
    ends = {"opened_at": NOON, "last_contact_at": NOON + DAY}
    store.put(
        ISSUES,
        {"customer_id": "c", "topic": "bill", "contacts": 3, "channels": ["chat", "phone"], **ends},
        {"customer_id": "c", "channels": ["chat"], "solved": True, "reopened": 1, **ends},
    )
    columns = "topic, duration_seconds, contacts, channels, switched, solved, reopened"
    assert store.rows(f"SELECT {columns} FROM issues ORDER BY topic") == [
        ("", 86_400.0, 0, ["chat"], False, True, 1),
        ("bill", 86_400.0, 3, ["chat", "phone"], True, False, 0),
    ]


# Journeys


def visit(customer: str, at: int, stage: str, previous: str = "", **values: Any) -> dict[str, Any]:
    where = {"customer_id": customer, "entered_at": at, "stage": stage, "previous": previous}
    return {**where, "cycle": "buy", **values}


def test_journeys_have_the_lapse_that_nobody_wrote(store: Store) -> None:
    lapse = NOON + 180 * DAY
    open_visit = visit("silent", NOON + 60_000, "evaluate", "consider")
    store.put(
        VISITS, visit("silent", NOON, "consider", left_at=NOON + 60_000), open_visit,
        visit("lively", NOON, "bond", "enjoy", backward=True, cycle="advocate"),
        visit("back", NOON, "lapsed", "bond", cycle="lapsed"),
    )  # fmt: skip
    store.put(
        CUSTOMERS,
        {"customer_id": "silent", "stage": "evaluate", "lapses_at": lapse},
        {"customer_id": "lively", "stage": "bond", "lapses_at": FAR},
        {"customer_id": "back", "stage": "lapsed", "stage_since": NOON, "lapses_at": lapse},
    )
    columns = "customer_id, entered_at, stage, cycle, previous, backward, left_at"
    here = "abs(dwell_seconds - dateDiff('second', entered_at, now())) < 30"
    sql = f"SELECT {columns}, if(left_at IS NULL, {here}, dwell_seconds) FROM journeys"
    assert store.rows(f"{sql} ORDER BY customer_id, entered_at") == [
        ("back", moment(NOON), "lapsed", "lapsed", "bond", False, None, 1),
        ("lively", moment(NOON), "bond", "advocate", "enjoy", True, None, 1),
        ("silent", moment(NOON), "consider", "buy", "", False, moment(NOON + 60_000), 60),
        ("silent", moment(NOON + 60_000), "evaluate", "buy", "consider", False, moment(lapse),
         180 * 86_400 - 60),
        ("silent", moment(lapse), "lapsed", "lapsed", "evaluate", False, None, 1),
    ]  # fmt: skip
    stages = "SELECT customer_id, stage FROM customers ORDER BY 1"
    last = "SELECT customer_id, stage FROM journeys WHERE left_at IS NULL ORDER BY 1"
    assert store.rows(stages) == store.rows(last)


def test_transitions_have_shares_of_all_that_left_and_the_time_they_stayed(store: Store) -> None:
    second = 1000
    store.put(
        VISITS,
        visit("a", NOON, "consider", left_at=NOON + 10 * second),
        visit("a", NOON + 10 * second, "evaluate", "consider", left_at=NOON + 14 * second),
        visit("a", NOON + 14 * second, "purchase", "evaluate"),
        visit("b", NOON, "consider", left_at=NOON + 20 * second),
        # left in the millisecond in which it was entered
        visit("b", NOON + 20 * second, "evaluate", "consider", left_at=NOON + 20 * second),
        visit("b", NOON + 20 * second, "consider", "evaluate", left_at=NOON + 50 * second),
        visit("b", NOON + 50 * second, "purchase", "consider"),
    )
    assert store.rows("SELECT * FROM stage_transitions ORDER BY 1, 2") == [
        ("", "consider", 2, 2, 1.0, None),
        ("consider", "evaluate", 2, 2, near(2 / 3), 15.0),
        ("consider", "purchase", 1, 1, near(1 / 3), 30.0),
        ("evaluate", "consider", 1, 1, 0.5, 0.0),
        ("evaluate", "purchase", 1, 1, 0.5, 4.0),
    ]


def test_the_lapse_is_a_transition(store: Store) -> None:
    store.put(VISITS, visit("a", NOON, "bond"))
    store.put(CUSTOMERS, {"customer_id": "a", "stage": "bond", "lapses_at": NOON + 5000})
    assert store.rows("SELECT * FROM stage_transitions ORDER BY 1") == [
        ("", "bond", 1, 1, 1.0, None),
        ("bond", "lapsed", 1, 1, 1.0, 5.0),
    ]


def test_the_funnel_counts_customers_that_were_in_both_stages(store: Store) -> None:
    lives = ["consider evaluate purchase enjoy", "consider evaluate consider", "purchase bond"]
    lives += ["consider", "advocate", "evaluate purchase enjoy advocate enjoy"]
    visits = [
        visit(f"{number}", NOON + step, stage)
        for number, life in enumerate(lives)
        for step, stage in enumerate(life.split())
    ]
    store.put(VISITS, *visits)
    assert store.rows("SELECT * FROM funnel ORDER BY rank, stage = 'bond', stage = 'advocate'") == [
        (1, "consider", 3, "", 0, 0, None),
        (2, "evaluate", 3, "consider", 3, 2, near(2 / 3)),
        (3, "purchase", 3, "evaluate", 3, 2, near(2 / 3)),
        (4, "enjoy", 2, "purchase", 3, 2, near(2 / 3)),
        (4, "advocate", 2, "purchase", 3, 1, near(1 / 3)),
        (4, "bond", 1, "purchase", 3, 1, near(1 / 3)),
    ]


# Paths and attribution


def order(key: int, touches: Sequence[tuple[str, str, float]], value: int = 1) -> dict[str, Any]:
    """One order at noon; touches are (channel, campaign, days before)."""
    return {
        "customer_id": f"c{key}",
        "order_key": key,
        "order_id": f"order {key}",
        "ordered_at": NOON,
        "value_e4": value * 10_000,
        "channels": [channel for channel, _, _ in touches],
        "campaigns": [campaign for _, campaign, _ in touches],
        "touched_at": [NOON - round(days * DAY) for _, _, days in touches],
    }


def credited(store: Store, model: str) -> dict[tuple[str, str], tuple[float, float]]:
    sql = f"SELECT channel, campaign, orders, revenue FROM attribution WHERE model = '{model}'"
    return {row[:2]: row[2:] for row in store.rows(sql)}


def test_paths_have_the_time_from_the_first_touch(store: Store) -> None:
    store.put(PATHS, order(1, [("web", "", 2), ("email", "spring", 0.5)], 7), order(2, []))
    assert store.rows("SELECT * FROM paths ORDER BY order_id") == [
        ("c1", moment(NOON), "order 1", Decimal(7), 2, ["web", "email"], ["", "spring"],
         [moment(NOON - 2 * DAY), moment(NOON - DAY // 2)], 172_800.0),
        ("c2", moment(NOON), "order 2", Decimal(1), 0, [], [], [], None),
    ]  # fmt: skip


ORDERS = [
    order(1, [("email", "spring", 21), ("web", "", 14), ("phone", "", 7)], 100),
    order(2, [("web", "", 7), ("email", "summer", 0)], 50),
    order(3, [], 30),
    order(4, [("web", "", 3)], 8),
    order(5, [("web", "", 9), ("email", "spring", 5), ("web", "x", 4), ("chat", "", 1)], 1000),
]
DIRECT = {("", ""): (1, 30)}
CREDITS: dict[str, dict[tuple[str, str], tuple[float, float]]] = {
    "first": {("email", "spring"): (1, 100), ("web", ""): (3, 50 + 8 + 1000), **DIRECT},
    "last": {
        ("phone", ""): (1, 100),
        ("email", "summer"): (1, 50),
        ("web", ""): (1, 8),
        ("chat", ""): (1, 1000),
        **DIRECT,
    },
    "linear": {
        ("email", "spring"): (1 / 3 + 1 / 4, 100 / 3 + 250),
        ("web", ""): (1 / 3 + 1 / 2 + 1 + 1 / 4, 100 / 3 + 25 + 8 + 250),
        ("web", "x"): (1 / 4, 250),
        ("phone", ""): (1 / 3, 100 / 3),
        ("email", "summer"): (1 / 2, 25),
        ("chat", ""): (1 / 4, 250),
        **DIRECT,
    },
    "position": {
        ("email", "spring"): (0.4 + 0.1, 40 + 100),
        ("web", ""): (0.2 + 0.5 + 1 + 0.4, 20 + 25 + 8 + 400),
        ("web", "x"): (0.1, 100),
        ("phone", ""): (0.4, 40),
        ("email", "summer"): (0.5, 25),
        ("chat", ""): (0.4, 400),
        **DIRECT,
    },
    "shapley": {
        ("email", ""): (1 / 3 + 1 / 2 + 1 / 3, 100 / 3 + 25 + 1000 / 3),
        ("web", ""): (1 / 3 + 1 / 2 + 1 + 1 / 3, 100 / 3 + 25 + 8 + 1000 / 3),
        ("phone", ""): (1 / 3, 100 / 3),
        ("chat", ""): (1 / 3, 1000 / 3),
        **DIRECT,
    },
}


@pytest.mark.parametrize("model", CREDITS)
def test_models_credit_touches_as_they_say(store: Store, model: str) -> None:
    store.put(PATHS, *ORDERS)
    assert_credits(credited(store, model), CREDITS[model])


def test_credit_halves_in_seven_days(store: Store) -> None:
    store.put(PATHS, *ORDERS[:4])
    expected = {
        ("email", "spring"): (1 / 7, 100 / 7),
        ("web", ""): (2 / 7 + 1 / 3 + 1, 200 / 7 + 50 / 3 + 8),
        ("phone", ""): (4 / 7, 400 / 7),
        ("email", "summer"): (2 / 3, 100 / 3),
        **DIRECT,
    }
    assert_credits(credited(store, "time_decay"), expected)


def test_touches_of_long_ago_still_share_the_order(store: Store) -> None:
    store.put(PATHS, order(1, [("web", "", 36_500), ("email", "", 36_500)]))
    expected = {("web", ""): (0.5, 0.5), ("email", ""): (0.5, 0.5)}
    assert_credits(credited(store, "time_decay"), expected)


def assert_credits(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    assert found.keys() == expected.keys()
    for key, credit in expected.items():
        assert found[key] == pytest.approx(credit), key


def test_every_model_gives_out_each_order_once(store: Store) -> None:
    store.put(PATHS, *ORDERS)
    sql = "SELECT model, sum(orders), sum(revenue), min(orders) > 0 FROM attribution GROUP BY 1"
    models = ("first", "last", "linear", "markov", "position", "shapley", "time_decay")
    expected = [(model, near(5), pytest.approx(1188), 1) for model in models]
    assert store.rows(f"{sql} ORDER BY 1") == expected


def random_paths(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Paths to orders, and paths that led to none."""
    rng = random.Random(seed)
    channels = ["chat", "email", "phone", "web"]
    found = [[rng.choice(channels) for _ in range(rng.randrange(1, 6))] for _ in range(60)]
    return found[:25], found[25:]


def test_shapley_credit_is_the_mean_marginal_gain_over_all_orders_of_joining(store: Store) -> None:
    paths, _ = random_paths(seed=1)
    store.put(PATHS, *[order(i, [(c, "", 1) for c in path]) for i, path in enumerate(paths)])
    channels = sorted({channel for path in paths for channel in path})
    gains: Counter[str] = Counter()
    turns = list(permutations(channels))
    for turn in turns:
        there: set[str] = set()
        for channel in turn:
            before = sum(set(path) <= there for path in paths)
            there.add(channel)
            gains[channel] += sum(set(path) <= there for path in paths) - before
    expected = {(c, ""): (gains[c] / len(turns),) * 2 for c in channels}
    assert_credits(credited(store, "shapley"), expected)


def put_journeys(
    store: Store, paths: Sequence[Sequence[str]], null_paths: Sequence[Sequence[str]]
) -> None:
    """Insert paths to orders; and those to none, one session a step."""
    store.put(PATHS, *[order(i, [(c, "", 1) for c in path]) for i, path in enumerate(paths)])
    store.put(CUSTOMERS, *[{"customer_id": f"n{i}"} for i in range(len(null_paths))])
    sessions = [
        {"customer_id": f"n{i}", "started_at": NOON + step, "channels": [channel]}
        for i, path in enumerate(null_paths)
        for step, channel in enumerate(path)
    ]
    store.put(SESSIONS, *random.Random(0).sample(sessions, len(sessions)))


def test_removal_effects_of_a_hand_computed_chain(store: Store) -> None:
    put_journeys(store, [["web", "email", "chat"]], [["web"], ["email", "chat", "survey"]])
    session = {"customer_id": "buyer", "started_at": NOON, "channels": ["phone"]}
    store.put(CUSTOMERS, {"customer_id": "buyer", "orders": 1})
    store.put(SESSIONS, session)
    assert store.rows("SELECT * FROM channel_transitions ORDER BY 1, 2") == [
        ("(start)", "email", 1, near(1 / 3)),
        ("(start)", "web", 2, near(2 / 3)),
        ("chat", "(none)", 1, 0.5),
        ("chat", "(order)", 1, 0.5),
        ("email", "chat", 2, 1.0),
        ("web", "(none)", 1, 0.5),
        ("web", "email", 1, 0.5),
    ]
    assert store.rows("SELECT * FROM channel_effects ORDER BY channel") == [
        ("chat", near(1), near(0.4)),
        ("email", near(1), near(0.4)),
        ("web", near(0.5), near(0.2)),
    ]
    expected = {("chat", ""): (0.4, 0.4), ("email", ""): (0.4, 0.4), ("web", ""): (0.2, 0.2)}
    assert_credits(credited(store, "markov"), expected)


def test_removal_effects_are_those_of_the_chain_followed_step_by_step(store: Store) -> None:
    paths, null_paths = random_paths(seed=2)
    put_journeys(store, paths, null_paths)
    found = {row[0]: row[1] for row in store.rows("SELECT * FROM channel_effects")}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for ends, journeys in (("(order)", paths), ("(none)", null_paths)):
        for path in journeys:
            for here, there in zip(["(start)", *path], [*path, ends], strict=True):
                counts[here][there] += 1

    def p_order(removed: str) -> float:
        standing, ordered = {"(start)": 1.0}, 0.0
        for _ in range(500):
            after: dict[str, float] = defaultdict(float)
            for here, mass in standing.items():
                for there, count in counts[here].items():
                    after[there] += mass * count / counts[here].total()
            ordered += after.pop("(order)", 0.0)
            standing = {at: m for at, m in after.items() if at not in (removed, "(none)")}
        return ordered

    channels = {channel for path in paths + null_paths for channel in path}
    assert found == {c: pytest.approx(1 - p_order(c) / p_order("")) for c in channels}


def test_without_orders_nothing_is_credited(store: Store) -> None:
    put_journeys(store, [], [["web"]])
    assert store.rows("SELECT * FROM attribution") == []
    assert store.rows("SELECT * FROM channel_effects") == []
    assert store.rows("SELECT * FROM channel_transitions ORDER BY 1") == [
        ("(start)", "web", 1, 1.0),
        ("web", "(none)", 1, 1.0),
    ]


# Merges, and nothing at all


VIEWS = {
    "customers": 1,
    "customer_value(as_of = '2026-01-01 12:00:00')": 1,
    "sessions": 1,
    "journeys": 2,
    "stage_transitions": 2,
    "issues": 1,
    "paths": 1,
    "channel_transitions": 2,
    "channel_effects": 1,
    "attribution": 7,
}


def test_what_was_merged_away_is_in_no_view(store: Store) -> None:
    when = {"first_order_at": NOON, "last_order_at": NOON, "stage": "bond", "lapses_at": NOON}
    rows: dict[Table, dict[str, Any]] = {
        CUSTOMERS: {"customer_id": "c1", "orders": 1, **when},
        SESSIONS: {"customer_id": "c1", "started_at": NOON, "ended_at": NOON},
        VISITS: visit("c1", NOON, "bond"),
        ISSUES: {"customer_id": "c1", "opened_at": NOON, "last_contact_at": NOON},
        PATHS: order(1, [("web", "", 1)]),
    }
    funnel = "SELECT sum(customers) FROM funnel"
    for table, row in rows.items():
        store.put(table, row)
    assert counts(store) == VIEWS
    assert store.rows(funnel) == [(1,)]
    for table, row in rows.items():
        store.put(table, {**row, "version": 2, "is_deleted": 1})
    assert counts(store) == dict.fromkeys(VIEWS, 0)
    assert store.rows(funnel) == [(0,)]
    for table, row in rows.items():
        store.put(table, {**row, "version": 3})
    assert counts(store) == VIEWS


def counts(store: Store) -> dict[str, int]:
    return {view: store.rows(f"SELECT count() FROM {view}")[0][0] for view in VIEWS}


def test_an_empty_store_has_no_rows_and_an_empty_funnel(store: Store) -> None:
    assert counts(store) == dict.fromkeys(VIEWS, 0)
    assert store.rows("SELECT rank, customers, customers_of_both, share FROM funnel") == [
        (rank, 0, 0, None) for rank in (1, 2, 3, 4, 4, 4)
    ]


def test_every_column_of_tables_and_views_is_explained(store: Store) -> None:
    names = [table.name for table in OURS] + ["model_parameters", "funnel"]
    names += [view for view in VIEWS if "(" not in view]
    sql = (
        "SELECT table, name FROM system.columns WHERE database = currentDatabase()"
        f" AND comment = '' AND table IN ({', '.join(repr(name) for name in names)})"
    )
    assert store.rows(sql) == []
