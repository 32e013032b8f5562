"""Metric panes: their keys by event time, their sums, their rows."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.customer_messages import Event
from touchstream.agents.panes import PANE, Pane, decode_pane, pane_keys, pane_rows
from touchstream.agents.profile import contribute
from touchstream.streams.state import State
from touchstream.streams.tables import PANES

LENGTHS = {"minute": 60, "hour": 3_600, "day": 86_400}
MOMENTS = st.integers(-(10**12), 10**13)
MEMBERS = st.text(max_size=9)


def named(key: bytes, pane: Pane, shard: int = 0) -> list[dict[str, object]]:
    return [dict(zip(PANES.column_names, row, strict=True)) for row in pane_rows(key, pane, shard)]


def starts(member: str, occurred_at: int) -> dict[str, int]:
    """Start of the panes of a moment, by resolution, read back from their keys."""
    pane = Pane(1, {"orders": (1, 1, 0)})
    rows = [row for key in pane_keys(member, occurred_at) for row in named(key, pane)]
    assert {row["member"] for row in rows} == {member}
    return {str(row["resolution"]): int(str(row["start"])) for row in rows}


def test_moment_lies_in_a_minute_an_hour_and_a_day() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
    found = starts("web", int(moment.timestamp() * 1000))
    assert {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in found.items()} == {
        "minute": "2026-03-04T05:06:00+00:00",
        "hour": "2026-03-04T05:00:00+00:00",
        "day": "2026-03-04T00:00:00+00:00",
    }


@given(MEMBERS, MOMENTS)
def test_every_moment_lies_in_its_panes(member: str, occurred_at: int) -> None:
    found = starts(member, occurred_at)
    assert set(found) == set(LENGTHS)
    for name, start in found.items():
        assert start % LENGTHS[name] == 0
        assert 0 <= occurred_at - 1000 * start < 1000 * LENGTHS[name]


@pytest.mark.parametrize(("last_ms", "next_ms"), [(59_999, 60_000), (-1, 0)])
def test_panes_are_half_open(last_ms: int, next_ms: int) -> None:
    assert starts("web", last_ms)["minute"] + 60 == starts("web", next_ms)["minute"]


def test_keys_carry_the_mark_of_panes() -> None:
    assert {key[:1] for key in pane_keys("web", 0)} == {PANE}


@given(st.tuples(MEMBERS, MOMENTS), st.tuples(MEMBERS, MOMENTS))
def test_panes_of_different_members_never_share_a_key(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    if one[0] != other[0]:
        assert not {*pane_keys(*one)} & {*pane_keys(*other)}


def test_pane_keeps_number_sum_and_squares() -> None:
    pane = Pane()
    for value in (-1, 0, 1, 1):
        pane.add(("nps", value), 1)
    assert pane.metrics == {"nps": (4, 1, 3)}


@pytest.mark.parametrize("metric", ["contacts", "average_handle_time", "orders", "revenue"])
def test_totals_keep_no_squares(metric: str) -> None:
    pane = Pane()
    pane.add((metric, 5), 1)
    assert pane.metrics == {metric: (1, 5, 0)}


MEASURES = st.lists(st.tuples(st.sampled_from(["nps", "csat", "revenue"]), st.integers(-9, 9)))


@given(MEASURES, MEASURES)
def test_what_is_taken_back_leaves_no_trace(
    stay: list[tuple[str, int]], go: list[tuple[str, int]]
) -> None:
    pane, expected = Pane(), Pane()
    for measure in go + stay:
        pane.add(measure, 1)
    for measure in go:
        pane.add(measure, -1)
    for measure in stay:
        expected.add(measure, 1)
    left = {metric: sums for metric, sums in pane.metrics.items() if sums != (0, 0, 0)}
    assert left == {m: sums for m, sums in expected.metrics.items() if sums != (0, 0, 0)}


def test_pane_gives_a_row_for_each_metric() -> None:
    pane = Pane(7, {"nps": (4, 1, 3), "csat": (1, 4000, 16_000_000)})
    _, key, _ = pane_keys("chat", 3_600_000)
    common = {
        "dimension": "channel",
        "member": "chat",
        "resolution": "hour",
        "start": 3600,
        "shard": 2,
        "version": 7,
    }
    assert named(key, pane, 2) == [
        {**common, "metric": "nps", "n": 4, "total": 1, "squares": 3},
        {**common, "metric": "csat", "n": 1, "total": 4000, "squares": 16_000_000},
    ]


def test_emptied_pane_still_gives_its_row() -> None:
    """The row of zeros has to replace the one before."""
    pane = Pane(2)
    pane.add(("orders", 1), 1)
    pane.add(("orders", 1), -1)
    key, *_ = pane_keys("web", 0)
    assert [(row["n"], row["total"]) for row in named(key, pane)] == [(0, 0)]


def test_pane_survives_its_encoding() -> None:
    pane = Pane(7, {"nps": (4, 1, 3)})
    assert decode_pane(msgspec.msgpack.encode(pane)) == pane


ORDER = Event(3_700_000, "purchase", "placed", value_e4=5)


def panes_in(state: State) -> list[Pane]:
    return [pane for pane in state.changed.values() if isinstance(pane, Pane)]


def test_contribution_goes_into_all_three_panes() -> None:
    state = State({})
    contribute(state, ORDER, 1)
    assert set(state.changed) == {*pane_keys("purchase", 3_700_000)}
    assert panes_in(state) == [Pane(1, {"orders": (1, 1, 0), "revenue": (1, 5, 0)})] * 3


def test_version_grows_when_a_contribution_is_taken_back() -> None:
    state = State({})
    contribute(state, ORDER, 1)
    contribute(state, ORDER, -1)
    assert panes_in(state) == [Pane(2, {"orders": (0, 0, 0), "revenue": (0, 0, 0)})] * 3


def test_event_that_measures_nothing_touches_no_pane() -> None:
    state = State({})
    contribute(state, Event(0, "web", "page_viewed"), 1)
    assert state.changed == {}
