"""The plain recomputation, against scenarios computed by hand and against real purchases."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from scenarios import DAY, NOON, SCENARIOS, Published, Scenario, at, call, chat, order, touch

from touchstream.agents.facts import details, ten_thousandths
from touchstream.agents.recount.compare import KINDS, NOT_RECOUNTED, Reconciliation, Row
from touchstream.agents.recount.customer import Recount, Tally, bucket_of, panes, recount
from touchstream.agents.recount.facts import Fact, fact_of_row, fact_of_touchpoint
from touchstream.streams.customer_tables import CUSTOMERS, SESSIONS
from touchstream.streams.demo.cdnow import CUSTOMERS as CDNOW_CUSTOMERS
from touchstream.streams.demo.cdnow import ORDERS, REPEAT_CUSTOMERS, REVENUE, purchases, touchpoint
from touchstream.streams.table import Table

REPEAT_CUSTOMERS_BY_DAY = 11_516
COHORT_DAY = (datetime(1997, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days


def counted(touchpoints: Sequence[Published]) -> Recount:
    return recount([fact_of_touchpoint(channel, each) for channel, each in touchpoints])


def rows_of(result: Recount) -> list[Mapping[Any, Row]]:
    """Rows of the tables of `KINDS`."""
    customer = {(): result.customer}
    return [customer, result.sessions, result.visits, result.issues, result.paths]


def levels_of(result: Recount) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    sums: dict[tuple[str, str, str], Counter[int]] = {}
    for change in result.changes:
        group = change.level, change.dimension, change.member
        sums.setdefault(group, Counter())[change.day - DAY] += change.change
    return {
        group: sorted((day, change) for day, change in days.items() if change)
        for group, days in sums.items()
    }


def claimed(rows: Mapping[Any, Row], claims: Sequence[Row] | None) -> list[Row]:
    """Rows by time, with the columns that are claimed of them."""
    ordered = [rows[key] for key in sorted(rows)]
    wanted = [set(claim) for claim in claims or ()]
    wanted += [set(row) for row in ordered[len(wanted) :]]
    return [
        {name: value for name, value in row.items() if name in names}
        for row, names in zip(ordered, wanted, strict=False)
    ]


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario.name)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    assert isinstance(request.param, Scenario)
    return request.param


def test_scenario_measures_what_was_computed_by_hand(scenario: Scenario) -> None:
    result = counted(scenario.touchpoints)
    found = {
        name: sorted((each.at, each.value) for each in result.measurements if each.measure == name)
        for name in scenario.measured
    }
    assert found == {name: list(values) for name, values in scenario.measured.items()}


def test_scenario_has_the_members_computed_by_hand(scenario: Scenario) -> None:
    measurements = sorted(counted(scenario.touchpoints).measurements, key=lambda each: each.at)
    found = {
        name: [sorted(each.members) for each in measurements if each.measure == name]
        for name in scenario.members
    }
    assert found == {name: [*map(sorted, each)] for name, each in scenario.members.items()}


def test_scenario_changes_levels_as_computed_by_hand(scenario: Scenario) -> None:
    found = levels_of(counted(scenario.touchpoints))
    assert {group: found.get(group, []) for group in scenario.levels} == scenario.levels


def test_scenario_leaves_the_rows_computed_by_hand(scenario: Scenario) -> None:
    result = counted(scenario.touchpoints)
    assert {name: result.customer[name] for name in scenario.customer} == scenario.customer
    for rows, claims in (
        (result.sessions, scenario.sessions),
        (result.visits, scenario.visits),
        (result.issues, scenario.issues),
        (result.paths, scenario.paths),
    ):
        assert claims is None or claimed(rows, claims) == list(claims)


def test_rows_have_the_columns_of_their_tables() -> None:
    result = counted([call(0), touch("web.page_viewed", at(1)), order(2)])
    for table, found in zip(KINDS, rows_of(result), strict=True):
        columns = {name for name, _ in table.columns} - NOT_RECOUNTED
        assert [set(row) for row in found.values()] == [columns] * len(found), table.name


def test_facts_of_rows_and_of_touchpoints_are_the_same() -> None:
    for scenario in SCENARIOS:
        for channel, each in scenario.touchpoints:
            assert fact_of_row(row_of(channel, each)) == fact_of_touchpoint(channel, each, "one")


def row_of(channel: str, touchpoint: Mapping[str, Any], identity: str = "one") -> dict[str, Any]:
    """The row of facts, as `facts.fact_row` makes it."""
    common = {"event_id", "occurred_at", "action", "identifiers", "account_id", "campaign"}
    common |= {"consent", "properties"}
    fields = {name: value for name, value in touchpoint.items() if name not in common}
    texts = ("order_id", "question", "about_channel", "queue", "topic")
    figures = ("score", "scale_min", "scale_max", "wait_ms", "handle_ms", "resolved")
    fact = fact_of_touchpoint(channel, touchpoint)
    return {
        "identity": identity,
        "channel": channel,
        **{name: touchpoint[name] for name in ("event_id", "occurred_at", "action")},
        **{name: touchpoint.get(name) or "" for name in ("account_id", "campaign", *texts)},
        **{name: touchpoint.get(name) for name in figures},
        "handle_ms": fact.handle_ms,
        "value_e4": ten_thousandths(touchpoint.get("value")),
        "details": details(fields),
        "consent": touchpoint.get("consent") or {},
        "properties": touchpoint.get("properties") or {},
    }


def test_panes_have_the_resolutions_of_their_dimension() -> None:
    result = counted([call(0, 12.5, campaign="spring", resolved=True)])
    found = panes(result.measurements, result.changes)
    start, hour, midnight = (at(0, hour) // 1000 for hour in (12.5, 12, 0))
    assert {key[1:]: pane[:3] for key, pane in found.items() if key[0] == "repeated"} == {
        ("channel", "phone", "minute", start): (1, 0, 0),
        ("channel", "phone", "hour", hour): (1, 0, 0),
        ("channel", "phone", "day", midnight): (1, 0, 0),
        ("campaign", "spring", "hour", hour): (1, 0, 0),
        ("campaign", "spring", "day", midnight): (1, 0, 0),
    }


def test_panes_add_up_figures_squares_and_buckets() -> None:
    result = counted([chat(0, 1, handle_ms=1), chat(0, 2, handle_ms=100), chat(0, 3, handle_ms=0)])
    found = panes(result.measurements, result.changes)
    pane = found["handle_time", "channel", "chat", "day", at(0) // 1000]
    assert pane == (3, 101, 0, {0: 1, 231: 1, -1: 1})
    assert found["contact", "channel", "chat", "day", at(0) // 1000] == (3, 3, 0, {})
    assert found["customers", "all", "", "day", at(0) // 1000] == (0, 1, 0, {})


@pytest.mark.parametrize("value", [1, 2, 7, 99, 100, 12_345, 10**9])
def test_a_bucket_is_within_one_percent(value: int) -> None:
    growth = 1.01 / 0.99
    high: float = growth ** bucket_of(value)
    assert high / growth < value * (1 + 1e-9) and value <= high * (1 + 1e-9)


def test_panes_that_cancel_are_dropped() -> None:
    result = counted([touch("web.page_viewed", at(0, 1)), touch("web.prices_viewed", at(0, 2))])
    keys = {key[:3] for key in panes(result.measurements, result.changes)}
    assert ("customers", "stage", "evaluate") in keys
    assert ("customers", "stage", "consider") not in keys


@pytest.fixture(scope="module")
def cdnow() -> list[Recount]:
    facts: dict[str, list[Fact]] = {}
    for purchase in purchases():
        each = fact_of_touchpoint("purchase", touchpoint(purchase))
        facts.setdefault(purchase.customer, []).append(each)
    return [recount(each) for each in facts.values()]


@pytest.fixture(scope="module")
def cdnow_levels(cdnow: list[Recount]) -> dict[str, Counter[int]]:
    found: dict[str, Counter[int]] = {}
    for result in cdnow:
        for change in result.changes:
            if change.dimension == "all":
                found.setdefault(change.level, Counter())[change.day] += change.change
    return found


def level_on(levels: Counter[int], day: int) -> int:
    return sum(change for each, change in levels.items() if each <= day)


def test_cdnow_customers_orders_and_revenue(cdnow: list[Recount]) -> None:
    assert len(cdnow) == CDNOW_CUSTOMERS
    assert sum(each.customer["orders"] for each in cdnow) == ORDERS
    assert sum(each.customer["revenue_e4"] for each in cdnow) == REVENUE * 10_000


def test_cdnow_repeat_customers(cdnow_levels: dict[str, Counter[int]]) -> None:
    found = {name: sum(days.values()) for name, days in cdnow_levels.items() if "@all" in name}
    assert found == {
        "active@all": CDNOW_CUSTOMERS,
        "buyers@all": CDNOW_CUSTOMERS,
        "repeat_buyers@all": REPEAT_CUSTOMERS,
        "repeat_day_buyers@all": REPEAT_CUSTOMERS_BY_DAY,
    }


def test_cdnow_gaps_between_order_days(cdnow: list[Recount]) -> None:
    gaps = [m.value for each in cdnow for m in each.measurements if m.measure == "purchase_gap"]
    assert len(gaps) == 44_021
    assert sum(gaps) / len(gaps) == pytest.approx(72.213989, abs=1e-6)


def test_cdnow_buyers_of_90_days_and_how_many_of_them_buy_again(
    cdnow_levels: dict[str, Counter[int]],
) -> None:
    ends = [COHORT_DAY + 90 * number - 1 for number in range(1, 7)]
    found = {
        level: [level_on(cdnow_levels[f"{level}@90d"], day) for day in ends]
        for level in ("buyers", "earlier_buyers", "retained_buyers")
    }
    assert found["buyers"][:5] == [23_570, 5_349, 4_202, 4_210, 3_752]
    assert found["earlier_buyers"] == [0, *found["buyers"][:5]]
    assert found["retained_buyers"] == [0, 5_349, 2_253, 2_013, 1_918, 1_749]


LIFE = [call(0), call(1), touch("web.page_viewed", at(2), campaign="c"), order(3, order_id="a")]


def stored_of(result: Recount) -> dict[Table, list[dict[str, Any]]]:
    return {
        table: [{"customer_id": "ann", **row} for row in found.values()]
        for table, found in zip(KINDS, rows_of(result), strict=True)
    }


def facts_of(touchpoints: Sequence[Published]) -> dict[str, list[Row]]:
    return {"ann": [row_of(*each) for each in touchpoints]}


def test_what_was_recomputed_is_no_different() -> None:
    result, run = counted(LIFE), Reconciliation()
    found = list(run.customers(facts_of(LIFE), stored_of(result)))
    stored = panes(result.measurements, result.changes)
    found += run.panes(stored.items(), ())
    assert found == []
    assert run.checked["touchpoint"] == 4
    assert run.checked["pane"] == len(stored)


def test_a_wrong_column_a_missing_row_and_a_wrong_pane_are_differences() -> None:
    result, run = counted(LIFE), Reconciliation()
    rows = stored_of(result)
    rows[CUSTOMERS][0]["orders"] = 2
    rows[SESSIONS].pop()
    stored = panes(result.measurements, result.changes)
    key = "order", "channel", "purchase", "day", at(3) // 1000
    stored[key] = (2, 2, 0, {})
    found = [*run.customers(facts_of(LIFE), rows), *run.panes(stored.items(), ())]
    assert [tuple(each) for each in found] == [
        ("customer", "ann orders", "2", "1"),
        ("session", "ann 2024-10-07T12:00:00+00:00", "none", "one"),
        (
            "pane",
            "order channel purchase day 2024-10-07T00:00:00+00:00",
            "n 2 total 2 squares 0",
            "n 1 total 1 squares 0",
        ),
    ]


def test_customers_and_panes_without_facts_are_differences() -> None:
    result, run = counted(LIFE), Reconciliation()
    rows = {CUSTOMERS: stored_of(result)[CUSTOMERS]}
    found = [*run.customers({}, rows)]
    found += run.panes([(("order", "channel", "web", "day", 0), (1, 1, 0, {}))], ())
    assert [each.kind for each in found] == ["customer", "pane"]
    assert (found[0].stored, found[0].recomputed) == ("one", "none")
    assert found[1].recomputed == "nothing"


def test_empty_panes_and_zero_counts_are_no_differences() -> None:
    result, run = counted(LIFE), Reconciliation()
    rows = stored_of(result)
    rows[CUSTOMERS][0]["answers"] = {"csat": 0}
    rows[CUSTOMERS][0]["answer_sums"] = {"csat": 0.0}
    found = [*run.customers(facts_of(LIFE), rows)]
    empty = {("mention", "channel", "web", "day", 0): (0, 0, 0, {7: 0})}
    found += run.panes({**panes(result.measurements, result.changes), **empty}.items(), ())
    assert found == []


def test_a_consent_that_was_refused_is_not_one_that_is_unknown() -> None:
    life = [touch("web.page_viewed", NOON, consent={"marketing": False})]
    rows = stored_of(counted(life))
    rows[CUSTOMERS][0]["consent"] = {}
    found = Reconciliation().customers(facts_of(life), rows)
    assert [each.key for each in found] == ["ann consent"]


def test_a_crowded_dimension_is_compared_in_total() -> None:
    life = [call(0, queue="a"), call(1, queue="b")]
    result, run = counted(life), Reconciliation()
    assert [*run.customers(facts_of(life), stored_of(result))] == []
    stored = {}
    for key, pane in panes(result.measurements, result.changes).items():
        member = "(other)" if key[1] == "queue" else key[2]
        stored[(*key[:2], member, *key[3:])] = pane
    assert [*run.panes(stored.items(), ("queue",))] == []


def test_a_period_is_of_panes_that_start_and_customers_last_seen_in_it() -> None:
    run = Reconciliation(at(2), at(3))
    assert [*run.customers(facts_of(LIFE), {})] == []
    found = [*run.panes((), ())]
    assert found
    assert {each.key.split()[-1][:10] for each in found} == {"2024-10-06"}
    whole = Reconciliation(at(3), at(4))
    assert [each.kind for each in whole.customers(facts_of(LIFE), {})][0] == "customer"


def test_of_identities_with_many_touchpoints_only_sums_are_compared() -> None:
    life = [touch("web.page_viewed", at(0, 0, n)) for n in range(513)]
    result, run = counted(life), Reconciliation()
    rows = stored_of(result)
    rows[CUSTOMERS][0]["stage"] = "bond"
    rows[CUSTOMERS][0]["touchpoints"] = 512
    rows[SESSIONS].clear()
    found = [*run.customers(facts_of(life), rows)]
    assert [each.key for each in found] == ["ann touchpoints"]
    assert (run.long, run.not_compared) == ({"ann"}, 2)
    tally = Tally()
    tally.add(result.measurements, ())
    found = [*run.panes(tally.panes().items(), ())]
    assert found == []
    assert run.not_compared > 2
