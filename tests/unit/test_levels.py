"""Numbers of customers as they stand, against plain counts of each day."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil

import pytest

from touchstream.agents.ledger import EVERYBODY, Ledger, Member
from touchstream.agents.levels import (
    MOST_GAPS,
    Buying,
    Presence,
    Silence,
    changes_of,
    see_order,
)
from touchstream.streams.topics import DAY_MS

WINDOWS = {"24h": 1, "3d": 3, "7d": 7}
LAST = 80
SEGMENT = ("segment", "vip")
GAP = 9
"""Days: the usual gap of the rules."""
Counts = dict[str, list[int]]
"""By level, of the days from 0 to before LAST; levels that nobody is in are left out."""


def stands(ledger: Ledger, member: Member = EVERYBODY, windows: dict[str, int] = WINDOWS) -> Counts:
    """Where each level stands on each day."""
    changes: dict[str, Counter[int]] = {}
    for (name, at, by, members, is_level), number in ledger.entries:
        if is_level and members == (member,):
            for level, day, sign in changes_of(name, at // DAY_MS, windows):
                changes.setdefault(level, Counter())[day] += number * by * sign
    found = {
        level: [sum(by for day, by in days.items() if day <= end) for end in range(LAST)]
        for level, days in changes.items()
    }
    return {level: counts for level, counts in found.items() if any(counts)}


def by_day(levels: dict[str, Iterable[bool]]) -> Counts:
    found = {level: list(map(int, counts)) for level, counts in levels.items()}
    return {level: counts for level, counts in found.items() if any(counts)}


def random_days(rng: random.Random) -> list[int]:
    """Days of orders: some on one day, some close together, some far apart."""
    days = [rng.randrange(5)]
    while len(days) < rng.choice((1, 2, 5, 12)):
        days.append(days[-1] + rng.choice((0, 0, 1, 1, 2, 3, 4, 6, 7, 8, 14, 15)))
    return [day for day in days if day < LAST - 2 * 7]


def plain_buying(days: Sequence[int]) -> Counts:
    """A customer's part in each level of buyers, counted anew for each day."""
    levels: dict[str, Iterable[bool]] = {}
    for name, length in WINDOWS.items():
        now = [[day for day in days if end - length < day <= end] for end in range(LAST)]
        former = [[d for d in days if e - 2 * length < d <= e - length] for e in range(LAST)]
        levels[f"buyers@{name}"] = map(bool, now)
        levels[f"repeat_buyers@{name}"] = [len(found) >= 2 for found in now]
        levels[f"repeat_day_buyers@{name}"] = [len(set(found)) >= 2 for found in now]
        levels[f"earlier_buyers@{name}"] = map(bool, former)
        both = zip(now, former, strict=True)
        levels[f"retained_buyers@{name}"] = [bool(one and other) for one, other in both]
    ever = [[day for day in days if day <= end] for end in range(LAST)]
    levels["buyers@all"] = map(bool, ever)
    levels["repeat_buyers@all"] = [len(found) >= 2 for found in ever]
    levels["repeat_day_buyers@all"] = [len(set(found)) >= 2 for found in ever]
    return by_day(levels)


@pytest.mark.parametrize("seed", range(60))
def test_buyers_after_each_order_are_those_of_a_count_of_each_day(seed: int) -> None:
    buying, ledger, days = Buying(), Ledger(), random_days(random.Random(seed))
    for number, day in enumerate(days, 1):
        buying.see(day, SEGMENT, WINDOWS, ledger)
        assert stands(ledger, SEGMENT) == plain_buying(days[:number])


def test_days_that_cannot_matter_any_more_are_forgotten() -> None:
    buying, ledger = Buying(), Ledger()
    for day in range(60):
        for _ in range(3):
            buying.see(day, EVERYBODY, WINDOWS, ledger)
    assert len(buying.days) <= 2 * 2 * max(WINDOWS.values())


def test_without_windows_only_all_time_is_counted() -> None:
    buying, ledger = Buying(), Ledger()
    for day in (0, 0, 5):
        buying.see(day, EVERYBODY, {}, ledger)
    assert set(stands(ledger, windows={})) == {
        "buyers@all",
        "repeat_buyers@all",
        "repeat_day_buyers@all",
    }


def test_order_counts_for_everybody_and_for_each_group_by_itself() -> None:
    buying: dict[str, Buying] = {}
    ledger, account = Ledger(), ("account", "acme")
    for day, groups in ((0, [SEGMENT]), (2, [SEGMENT, account]), (5, [account]), (9, [])):
        see_order(buying, day, groups, WINDOWS, ledger)
    assert stands(ledger) == plain_buying([0, 2, 5, 9])
    assert stands(ledger, SEGMENT) == plain_buying([0, 2])
    assert stands(ledger, account) == plain_buying([2, 5])


def plain_risk(days: Sequence[int]) -> Counts:
    """Days on which the last order day is longer ago than usual until then."""
    at_risk = []
    for end in range(LAST):
        known = sorted({day for day in days if day <= end})
        at_risk.append(bool(known) and end > known[-1] + usual_gap(known))
    return by_day({"at_risk": at_risk})


def usual_gap(days: Sequence[int]) -> int:
    gaps = sorted([later - day for day, later in pairwise(days)][-MOST_GAPS:])
    return GAP if len(gaps) < 3 else gaps[ceil(0.9 * len(gaps)) - 1]


@pytest.mark.parametrize("seed", range(60))
def test_customers_at_risk_after_each_order_are_those_of_a_count_of_each_day(seed: int) -> None:
    silence, ledger, days = Silence(), Ledger(), random_days(random.Random(seed))
    gaps = []
    for number, day in enumerate(days, 1):
        gaps.append(silence.see(day, GAP, ledger))
        assert stands(ledger) == plain_risk(days[:number])
        known = sorted(set(days[:number]))
        assert silence.usual_gap(GAP) == usual_gap(known)
        assert silence.risk_day(GAP) == known[-1] + usual_gap(known) + 1
        assert silence.order_days == len(known)
    later = [later - day if later > day else None for day, later in pairwise(days)]
    assert gaps == [None, *later]


def test_old_gaps_are_forgotten() -> None:
    silence, ledger = Silence(), Ledger()
    for day in (0, 40, *range(41, 41 + MOST_GAPS)):
        silence.see(day, GAP, ledger)
    assert silence.gaps == [1] * MOST_GAPS
    assert silence.order_days == MOST_GAPS + 2


def plain_presence(days: Sequence[int]) -> Counts:
    levels: dict[str, Iterable[bool]] = {
        f"active@{name}": [any(end - length < day <= end for day in days) for end in range(LAST)]
        for name, length in WINDOWS.items()
    }
    for level in ("customers", "active@all"):
        levels[level] = [min(days) <= end for end in range(LAST)]
    return by_day(levels)


@pytest.mark.parametrize("seed", range(60))
def test_active_customers_after_each_touchpoint_are_those_of_a_count_of_each_day(
    seed: int,
) -> None:
    presence, ledger, days = Presence(), Ledger(), random_days(random.Random(seed))
    for number, day in enumerate(days, 1):
        presence.see(day, ledger)
        assert stands(ledger) == plain_presence(days[:number])


def test_change_that_stands_for_itself_is_one() -> None:
    assert [*changes_of("late", -3, WINDOWS)] == [("late", -3, 1)]


def test_days_before_1970_are_days() -> None:
    presence, ledger = Presence(), Ledger()
    for day in (-5, -3):
        presence.see(day, ledger)
    found = Counter[tuple[str, int]]()
    for (name, at, by, _, _), number in ledger.entries:
        for level, day, sign in changes_of(name, at // DAY_MS, {"3d": 3}):
            found[level, day] += number * by * sign
    expected = {("customers", -5): 1, ("active@all", -5): 1, ("active@3d", -5): 1}
    assert +found == expected
    assert -found == {("active@3d", 0): 1}
