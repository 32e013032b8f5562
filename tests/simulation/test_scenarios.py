"""The product's own course of a customer, against the scenarios computed by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from scenarios import DAY, SCENARIOS, Group, Published, Scenario
from test_lives import ME, WORLD, Life, net_levels

from touchstream.agents.view import customer_row
from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PATHS, SESSIONS, VISITS
from touchstream.streams.table import Row, Table

Shown = dict[str, Any]


def lived(touchpoints: Sequence[Published]) -> Life:
    life = Life()
    for channel, each in touchpoints:
        life.see(b"me", (channel, {"properties": {}, **each}))
    return life


@pytest.fixture(
    scope="module",
    params=[(each, turned) for each in SCENARIOS for turned in (False, True)],
    ids=lambda param: param[0].name + ", the last first" * param[1],
)
def case(request: pytest.FixtureRequest) -> tuple[Scenario, Life]:
    """A scenario, and what came of it in the order given or the other way round."""
    scenario, turned = request.param
    return scenario, lived(scenario.touchpoints[::-1] if turned else scenario.touchpoints)


def measurements(life: Life, measure: str) -> list[tuple[int, int, list[tuple[str, str]]]]:
    """All that stands of a measure: moment, value and members, sorted."""
    found = [
        (at, value, sorted(members))
        for (name, at, value, members, is_level), number in life.measured.items()
        for _ in range(number)
        if name == measure and not is_level
    ]
    return sorted(found)


def levels(life: Life) -> dict[Group, list[tuple[int, int]]]:
    """Changes by level and member: day, counted from DAY, and sum; without zeros."""
    sums: dict[Group, list[tuple[int, int]]] = {}
    for (level, day, *member), by in net_levels(life.measured).items():
        sums.setdefault((level, *member), []).append((day - DAY, by))
    return {group: sorted(days) for group, days in sums.items()}


def rows(life: Life, table: Table) -> list[Shown]:
    """Rows of a table that stand, by time."""
    found = sorted(row for key, row in life.rows.items() if key[0] is table and row)
    return [named(table.column_names[1:-2], row) for row in found]


def named(columns: Sequence[str], row: Row) -> Shown:
    values = (list(each) if isinstance(each, tuple) else each for each in row)
    return dict(zip(columns, values, strict=True))


def claimed(found: Sequence[Shown], claims: Sequence[Any]) -> list[Shown]:
    """The columns that are claimed; all of rows that nobody claims."""
    claims = [*claims, *found[len(claims) :]]
    return [{name: row[name] for name in claim} for row, claim in zip(found, claims, strict=False)]


def test_scenario_measures_what_was_computed_by_hand(case: tuple[Scenario, Life]) -> None:
    scenario, life = case
    found = {
        name: [(at, value) for at, value, _ in measurements(life, name)]
        for name in scenario.measured
    }
    assert found == {name: list(values) for name, values in scenario.measured.items()}


def test_scenario_has_the_members_computed_by_hand(case: tuple[Scenario, Life]) -> None:
    scenario, life = case
    found = {
        name: [members for _, _, members in measurements(life, name)] for name in scenario.members
    }
    assert found == {name: [*map(sorted, each)] for name, each in scenario.members.items()}


def test_scenario_changes_levels_as_computed_by_hand(case: tuple[Scenario, Life]) -> None:
    scenario, life = case
    found = levels(life)
    assert {group: found.get(group, []) for group in scenario.levels} == scenario.levels


def test_scenario_leaves_the_rows_computed_by_hand(case: tuple[Scenario, Life]) -> None:
    scenario, life = case
    row = named(CUSTOMERS.column_names, customer_row(ME, life.customer, WORLD.rules))
    assert {name: row[name] for name in scenario.customer} == scenario.customer
    for table, claims in (
        (SESSIONS, scenario.sessions),
        (VISITS, scenario.visits),
        (ISSUES, scenario.issues),
        (PATHS, scenario.paths),
    ):
        assert claims is None or claimed(rows(life, table), claims) == list(claims)


def test_nothing_is_measured_less_than_never(case: tuple[Scenario, Life]) -> None:
    _, life = case
    assert all(number >= 0 for entry, number in life.measured.items() if not entry[-1])
