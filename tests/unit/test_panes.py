"""Metric panes: by event time and member, with their sums, histograms, limits and rows."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from touchstream.agents.ledger import EVERYBODY, Measurement
from touchstream.agents.levels import FIRST_BOUGHT, SEEN_AFTER
from touchstream.agents.panes import (
    ACCURACY,
    GAMMA,
    MEMBERS,
    OTHER,
    PANE,
    ZERO_BUCKET,
    Pane,
    Panes,
    bucket_of,
    decode_pane,
)
from touchstream.streams.catalogue import parse_catalogue
from touchstream.streams.customer_tables import PANES
from touchstream.streams.state import State
from touchstream.streams.table import Row

CATALOGUE = parse_catalogue(
    """
settings.windows = { 1h = 3600, 7d = 604800 }
[dimensions]
channel = { finest = "minute", members = 1000, help = "x" }
campaign = { finest = "hour", members = 1000, help = "x" }
team = { finest = "hour", members = 2, help = "x" }
[measures]
nps = { squares = true, help = "x" }
wait = { histogram = true, help = "x" }
order = { help = "x" }
buyers = { level = "windows", help = "x" }
[metrics]
""",
    "metrics.toml",
)
LENGTHS = {"minute": 60, "hour": 3_600, "day": 86_400}
MOMENTS = st.integers(-(10**12), 10**13)
NAMES = st.text(max_size=9)
WEB = ("channel", "web")
Entry = tuple[Measurement, int]
Shown = dict[str, Any]


def entry(
    measure: str, value: int = 1, number: int = 1, member: tuple[str, str] = WEB, at: int = 0
) -> Entry:
    return (measure, at, value, (member,), False), number


def level(name: str, day: int = 0, by: int = 1, number: int = 1) -> Entry:
    return (name, day * 86_400_000, by, (EVERYBODY,), True), number


def shown(rows: Iterable[Row]) -> list[Shown]:
    return [dict(zip(PANES.column_names, row, strict=True)) for row in rows]


class Chunks:
    """Panes of one partition, chunk by chunk."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def add(self, entries: Iterable[Entry]) -> list[Shown]:
        """One chunk; its rows."""
        state, panes = State(self.values), Panes(CATALOGUE)
        panes.add(entries, state)
        rows = shown(panes.flush(2, state))
        self.values = self.values | state.encode_changes()
        return rows


def row_of(*entries: Entry, resolution: str = "day") -> Shown:
    """The only row of a resolution."""
    (row,) = [row for row in Chunks().add(entries) if row["resolution"] == resolution]
    return row


def starts(name: str, at: int) -> dict[str, int]:
    """Start of the panes of a moment, by resolution."""
    rows = Chunks().add([entry("order", member=("channel", name), at=at)])
    assert {(row["dimension"], row["member"]) for row in rows} == {("channel", name)}
    return {row["resolution"]: row["start"] for row in rows}


def test_moment_lies_in_a_minute_an_hour_and_a_day() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
    found = starts("web", int(moment.timestamp() * 1000))
    assert {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in found.items()} == {
        "minute": "2026-03-04T05:06:00+00:00",
        "hour": "2026-03-04T05:00:00+00:00",
        "day": "2026-03-04T00:00:00+00:00",
    }


@given(NAMES, MOMENTS)
def test_every_moment_lies_in_its_panes(name: str, at: int) -> None:
    found = starts(name, at)
    assert set(found) == set(LENGTHS)
    for resolution, start in found.items():
        assert start % LENGTHS[resolution] == 0
        assert 0 <= at - 1000 * start < 1000 * LENGTHS[resolution]


@pytest.mark.parametrize(("last_ms", "next_ms"), [(59_999, 60_000), (-1, 0)])
def test_panes_are_half_open(last_ms: int, next_ms: int) -> None:
    assert starts("web", last_ms)["minute"] + 60 == starts("web", next_ms)["minute"]


def test_finest_pane_is_the_one_of_the_dimension() -> None:
    rows = Chunks().add([entry("order", member=("campaign", "spring"))])
    assert [row["resolution"] for row in rows] == ["hour", "day"]


def test_measurement_goes_into_the_panes_of_all_its_members() -> None:
    members = (WEB, ("campaign", "spring"))
    rows = Chunks().add([(("order", 0, 1, members, False), 1)])
    found = [(row["dimension"], row["member"]) for row in rows if row["resolution"] == "day"]
    assert found == [*members]


def test_level_has_panes_of_a_day_only_and_no_number() -> None:
    (row,) = Chunks().add([level("buyers@30d", day=1, by=-1)])
    assert (row["metric"], row["dimension"], row["member"]) == ("buyers@30d", *EVERYBODY)
    assert (row["resolution"], row["start"]) == ("day", 86_400)
    assert (row["n"], row["total"]) == (0, -1)


def levels(rows: Iterable[Shown]) -> dict[tuple[str, int], int]:
    """Sum by level and day."""
    return {(row["metric"], row["start"] // 86_400): row["total"] for row in rows}


def test_change_that_stands_for_many_goes_into_the_panes_of_all() -> None:
    rows = Chunks().add([level(FIRST_BOUGHT, 3), level(SEEN_AFTER, 3), level(f"{SEEN_AFTER}3", 5)])
    assert levels(rows) == {
        ("buyers@7d", 3): 1,
        ("buyers@7d", 10): -1,
        ("earlier_buyers@7d", 10): 1,
        ("earlier_buyers@7d", 17): -1,
        ("customers", 3): 1,
        ("active@all", 3): 1,
        ("active@7d", 3): 1,
        ("active@7d", 10): 0,
        ("active@7d", 12): -1,
    }


def test_change_that_stands_for_many_is_taken_back_from_all() -> None:
    chunks = Chunks()
    chunks.add([level(FIRST_BOUGHT, 3)])
    assert set(levels(chunks.add([level(FIRST_BOUGHT, 3, number=-1)])).values()) == {0}


def test_keys_carry_the_mark_of_what_they_hold() -> None:
    chunks = Chunks()
    chunks.add([entry("order")])
    assert {key[:1] for key in chunks.values} == {PANE, MEMBERS}


@given(st.tuples(NAMES, MOMENTS), st.tuples(NAMES, MOMENTS))
def test_panes_of_different_members_never_share_a_row(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    entries = [entry("order", member=("channel", name), at=at) for name, at in {one, other}]
    rows = [row for row in Chunks().add(entries) if row["resolution"] == "day"]
    if one[0] != other[0]:
        assert sorted(row["member"] for row in rows) == sorted((one[0], other[0]))
        assert [row["n"] for row in rows] == [1, 1]


def test_pane_keeps_number_sum_and_squares() -> None:
    row = row_of(*(entry("nps", value) for value in (-1, 0, 1, 1)))
    assert (row["n"], row["total"], row["squares"], row["version"]) == (4, 1, 3, 4)


def test_measures_without_squares_or_a_histogram_have_none() -> None:
    row = row_of(entry("order", 5))
    assert (row["n"], row["total"], row["squares"], row["buckets"]) == (1, 5, 0, {})


def test_measurement_counts_as_often_as_its_number_says() -> None:
    row = row_of(entry("nps", -1, number=3))
    assert (row["n"], row["total"], row["squares"]) == (3, -3, 3)


def test_pane_gives_a_row_for_each_measure() -> None:
    rows = Chunks().add([entry("nps", at=3_600_000), entry("wait", 0, at=3_600_000)])
    where = {"dimension": "channel", "member": "web", "shard": 2, "version": 1}
    assert [row for row in rows if row["resolution"] == "hour"] == [
        {"metric": measure, **where, "resolution": "hour", "start": 3_600, "n": 1, **sums}
        for measure, sums in (
            ("nps", {"total": 1, "squares": 1, "buckets": {}}),
            ("wait", {"total": 0, "squares": 0, "buckets": {ZERO_BUCKET: 1}}),
        )
    ]


def test_emptied_pane_still_gives_its_row() -> None:
    """The row of zeros has to replace the one before."""
    chunks = Chunks()
    chunks.add([entry("wait", 7)])
    for row in chunks.add([entry("wait", 7, number=-1)]):
        assert (row["n"], row["total"], row["version"]) == (0, 0, 2)
        assert not any(row["buckets"].values())


def test_rows_are_given_for_what_changed_only() -> None:
    chunks = Chunks()
    chunks.add([entry("nps"), entry("order"), entry("order", at=60_000)])
    rows = chunks.add([entry("order", at=60_000)])
    assert [(row["metric"], row["resolution"], row["start"]) for row in rows] == [
        ("order", "minute", 60),
        ("order", "hour", 0),
        ("order", "day", 0),
    ]
    assert [row["n"] for row in rows] == [2, 3, 3]


def test_chunk_without_measurements_gives_no_rows() -> None:
    chunks = Chunks()
    assert chunks.add([]) == []
    assert chunks.values == {}


ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(["nps", "wait", "order"]),
        st.integers(-9, 9),
        st.sampled_from([1, 1, 2, -1]),
        st.tuples(st.sampled_from(["channel", "team"]), st.sampled_from("abcd")),
        st.sampled_from([0, 61_000, 4_000_000]),
    )
)


def decoded(values: Mapping[bytes, bytes]) -> dict[bytes, Any]:
    """Panes, and the sets of members, which have no order of their own."""
    return {
        key: decode_pane(value) if key[:1] == PANE else sorted(msgspec.msgpack.decode(value))
        for key, value in values.items()
    }


@given(ENTRIES, st.lists(st.integers(0, 50)))
def test_panes_do_not_depend_on_chunk_borders(entries: list[Entry], borders: list[int]) -> None:
    whole, cut = Chunks(), Chunks()
    rows = whole.add(entries)
    latest: dict[tuple[Any, ...], Shown] = {}
    for start, end in pairwise(sorted({0, *borders, len(entries)})):
        for row in cut.add(entries[start:end]):
            latest[tuple(row[name] for name in PANES.column_names[:6])] = row
    assert decoded(cut.values) == decoded(whole.values)
    assert sorted(latest.values(), key=str) == sorted(rows, key=str)


@given(ENTRIES, ENTRIES)
def test_what_is_taken_back_leaves_no_trace(stay: list[Entry], go: list[Entry]) -> None:
    both, expected = Chunks(), Chunks()
    both.add([*stay, *go])
    both.add([(measurement, -number) for measurement, number in go])
    expected.add(stay)
    assert left_in(both) == left_in(expected)


def left_in(chunks: Chunks) -> dict[bytes, Any]:
    """Sums and buckets that are not 0, by pane, of the dimension without a limit."""
    found: dict[bytes, Any] = {}
    for key, value in chunks.values.items():
        if key[:1] == PANE and b"team" not in key:
            pane = decode_pane(value)
            sums = {name: each[:3] for name, each in pane.sums.items() if any(each[:3])}
            found[key] = (
                sums,
                {
                    (name, bucket): number
                    for name, buckets in pane.buckets.items()
                    for bucket, number in buckets.items()
                    if number
                },
            )
    return {key: left for key, left in found.items() if any(left)}


def teams(rows: Iterable[Shown]) -> dict[str, int]:
    """Number of measurements by member, of a day."""
    return {row["member"]: row["n"] for row in rows if row["resolution"] == "day"}


def in_team(name: str, number: int = 1) -> Entry:
    return entry("order", number=number, member=("team", name))


def test_members_beyond_the_limit_are_counted_together() -> None:
    chunks = Chunks()
    assert teams(chunks.add(map(in_team, "abcda"))) == {"a": 2, "b": 1, OTHER: 2}
    assert teams(chunks.add(map(in_team, "ec"))) == {OTHER: 4}


def test_member_beyond_the_limit_is_taken_back_from_where_it_was_counted() -> None:
    chunks = Chunks()
    chunks.add(map(in_team, "abc"))
    assert teams(chunks.add([in_team("a", -1), in_team("c", -1)])) == {"a": 0, OTHER: 0}
    assert teams(chunks.add([in_team("c"), in_team("a")])) == {"a": 1, OTHER: 1}


def test_dimensions_have_limits_of_their_own() -> None:
    entries = [
        entry("order", member=(dimension, each))
        for dimension in ("team", "campaign")
        for each in "abc"
    ]
    members = [
        (row["dimension"], row["member"])
        for row in Chunks().add(entries)
        if row["resolution"] == "day"
    ]
    assert members == [("team", "a"), ("team", "b"), ("team", OTHER)] + [
        ("campaign", each) for each in "abc"
    ]


def test_everybody_is_no_member_that_is_limited() -> None:
    chunks = Chunks()
    chunks.add([level("buyers@30d")])
    assert {key[:1] for key in chunks.values} == {PANE}


def quantile(buckets: Mapping[int, int], share: float) -> float:
    """Of a histogram: the middle of the bucket in which the nearest rank lies."""
    rank, seen = ceil(share * sum(buckets.values())), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            break
    return 0 if bucket == ZERO_BUCKET else 2 * GAMMA**bucket / (GAMMA + 1)


def check_quantiles(values: Sequence[int]) -> None:
    buckets = row_of(*(entry("wait", value) for value in values))["buckets"]
    for share in (0.01, 0.5, 0.9, 0.99, 1):
        exact = sorted(values)[ceil(share * len(values)) - 1]
        assert quantile(buckets, share) == pytest.approx(exact, rel=ACCURACY * (1 + 1e-6), abs=0)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
@example([0, 1, 2, 3])
def test_quantiles_of_a_histogram_are_within_one_percent(values: list[int]) -> None:
    check_quantiles(values)


def test_quantiles_of_waiting_times_are_within_one_percent() -> None:
    rng = random.Random(7)
    check_quantiles([int(rng.lognormvariate(10, 1.5)) for _ in range(5_000)])


def test_buckets_of_a_year_of_milliseconds_are_few() -> None:
    assert bucket_of(1) == 0
    assert bucket_of(366 * 86_400_000) < 1_300


def test_pane_survives_its_encoding() -> None:
    pane = Pane({"nps": (4, 1, 3, 7)}, {"wait": {-1: 2, 300: 1}})
    assert decode_pane(msgspec.msgpack.encode(pane)) == pane
