"""Plain recomputation of the numbers of customers: each statement is judged day by day.

A statement about a window can only change on a day of the touchpoint, or one or two window lengths
later; it is judged on each of these days as it stands in the definitions.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping

from touchstream.agents.recount.facts import Change, Seen
from touchstream.streams.catalogue import ALL

KNOWN_GROUPS = 32
"""Segments and accounts of a customer, together."""
Statement = Callable[[int], bool]
"""Whether something holds on a day."""


def changes_of(statement: Statement, days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Days on which a statement begins (1) or ceases (-1) to hold; it holds on no early day."""
    before = False
    for day in sorted(set(days)):
        now = statement(day)
        if now != before:
            yield day, 1 if now else -1
        before = now


def buyer_changes(lived: Iterable[Seen], windows: Mapping[str, int]) -> Iterator[Change]:
    """Buyers of each kind, for everybody and by segment and account at the order."""
    groups: dict[tuple[str, str], list[int]] = {}
    for seen in lived:
        if seen.fact.is_order:
            for group in (("all", ""), ("segment", seen.segment), ("account", seen.account)):
                counted = group in groups or len(groups) <= KNOWN_GROUPS
                if counted and (group[1] or group[0] == "all"):
                    groups.setdefault(group, []).append(seen.fact.day)
    for group, days in groups.items():
        for level, day, change in _buyers(sorted(days), windows):
            yield Change(level, day, change, *group)


def active_changes(days: Iterable[int], windows: Mapping[str, int]) -> Iterator[Change]:
    """Active customers; `days` are those of all touchpoints."""
    seen_on = sorted(set(days))
    for name, length in windows.items():
        for day, change in changes_of(_active(seen_on, length), _turning_days(seen_on, length)):
            yield Change(f"active@{name}", day, change)
    yield Change(f"active@{ALL}", seen_on[0], 1)
    yield Change("customers", seen_on[0], 1)


def _buyers(orders: list[int], windows: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """Level, day, change; `orders` is the day of each order, sorted."""
    order_days = sorted(set(orders))
    for name, length in windows.items():
        turning_days = _turning_days(order_days, length)
        for level, statement in _statements(orders, order_days, length).items():
            for day, change in changes_of(statement, turning_days):
                yield f"{level}@{name}", day, change
    yield f"buyers@{ALL}", orders[0], 1
    if len(orders) > 1:
        yield f"repeat_buyers@{ALL}", orders[1], 1
    if len(order_days) > 1:
        yield f"repeat_day_buyers@{ALL}", order_days[1], 1


def _active(seen_on: list[int], length: int) -> Statement:
    return lambda x: _number(seen_on, x - length, x) >= 1


def _statements(orders: list[int], order_days: list[int], length: int) -> dict[str, Statement]:
    """What is said of a window of some days by each level."""

    def bought(x: int) -> bool:
        return _number(orders, x - length, x) >= 1

    def bought_twice(x: int) -> bool:
        return _number(orders, x - length, x) >= 2

    def bought_on_two_days(x: int) -> bool:
        return _number(order_days, x - length, x) >= 2

    def bought_before(x: int) -> bool:
        return _number(orders, x - 2 * length, x - length) >= 1

    def bought_again(x: int) -> bool:
        return bought(x) and bought_before(x)

    return {
        "buyers": bought,
        "repeat_buyers": bought_twice,
        "repeat_day_buyers": bought_on_two_days,
        "earlier_buyers": bought_before,
        "retained_buyers": bought_again,
    }


def _turning_days(days: Iterable[int], length: int) -> list[int]:
    return [day + times * length for day in days for times in (0, 1, 2)]


def _number(days: list[int], after: int, until: int) -> int:
    """How many of the sorted days are in (after, until]."""
    return bisect_right(days, until) - bisect_right(days, after)
