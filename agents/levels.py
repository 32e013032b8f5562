"""Numbers of customers as they stand: who bought, bought again, came back, has gone silent.

A customer is counted in a window from one day until another, so a number of customers is a sum of
changes, some of them in the future. The next order cancels what it prevents.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil

import msgspec

from touchstream.agents.ledger import EVERYBODY, Ledger, Member

FIRST_BOUGHT = "first bought"
SEEN_AFTER = "seen after day "
"""Changes that many customers have in common stand for all that follows from them."""
MOST_GROUPS = 32
"""Segments and accounts, together, of which a customer is counted as a buyer: the first ones."""
MOST_GAPS = 16
FEWEST_GAPS = 3
"""With fewer gaps between order days the usual gap is the one of the rules."""


class Buying(msgspec.Struct, array_like=True):
    """Order days of one customer, all or those as a member of a dimension."""

    days: list[int] = []
    """Days that can still matter, an entry for each order, at most two a day."""
    orders: int = 0
    """Up to 2."""
    several_days: bool = False

    def see(self, day: int, member: Member, windows: dict[str, int], ledger: Ledger) -> None:
        """Count an order; never one of an earlier day than those before."""
        before = self.days
        if not before:
            ledger.shift(FIRST_BOUGHT, day, 1, member)
            self.days = [day]
        elif before[-2:] != [day, day]:
            for window, length in windows.items():
                for measure, start, end in _added(before, day, length):
                    ledger.shift(f"{measure}@{window}", start, 1, member)
                    ledger.shift(f"{measure}@{window}", end, -1, member)
            oldest = day - max(windows.values(), default=0)
            self.days = [*(each for each in before if each > oldest), day]
        self._count_for_ever(day, bool(before) and before[-1] == day, member, ledger)

    def _count_for_ever(self, day: int, same_day: bool, member: Member, ledger: Ledger) -> None:
        if self.orders == 0:
            ledger.shift("buyers@all", day, 1, member)
        elif self.orders == 1:
            ledger.shift("repeat_buyers@all", day, 1, member)
        if self.orders and not self.several_days and not same_day:
            self.several_days = True
            ledger.shift("repeat_day_buyers@all", day, 1, member)
        self.orders = min(self.orders + 1, 2)


class Silence(msgspec.Struct, array_like=True):
    """Gaps between a customer's order days, and from when on its silence is unusual."""

    last_day: int | None = None
    order_days: int = 0
    gaps: list[int] = []
    """The latest ones, in days."""

    def see(self, day: int, churn_gap_days: int, ledger: Ledger) -> int | None:
        """Take an order; the gap before it in days, None on the day of the one before."""
        if day == self.last_day:
            return None
        gap, expected = None, self.risk_day(churn_gap_days)
        if self.last_day is not None and expected is not None:
            gap = day - self.last_day
            ledger.shift("at_risk", max(day, expected), -1)
            self.gaps = [*self.gaps, gap][-MOST_GAPS:]
        self.last_day = day
        self.order_days += 1
        ledger.shift("at_risk", day + self.usual_gap(churn_gap_days) + 1, 1)
        return gap

    def usual_gap(self, churn_gap_days: int) -> int:
        """90th percentile (nearest rank) of the latest gaps, days."""
        if len(self.gaps) < FEWEST_GAPS:
            return churn_gap_days
        return sorted(self.gaps)[ceil(0.9 * len(self.gaps)) - 1]

    def risk_day(self, churn_gap_days: int) -> int | None:
        """First day of an unusual silence; None without orders."""
        if self.last_day is None:
            return None
        return self.last_day + self.usual_gap(churn_gap_days) + 1


class Presence(msgspec.Struct, array_like=True):
    """The last day a customer was seen."""

    last_day: int | None = None

    def see(self, day: int, ledger: Ledger) -> None:
        """Count a touchpoint."""
        if day != self.last_day:
            last = "" if self.last_day is None else self.last_day
            ledger.shift(f"{SEEN_AFTER}{last}", day, 1)
            self.last_day = day


def see_order(
    buying: dict[str, Buying],
    day: int,
    members: Iterable[Member],
    windows: dict[str, int],
    ledger: Ledger,
) -> None:
    """Count an order for everybody and for the members it belongs to."""
    for member in (EVERYBODY, *members):
        name = "\0".join(member)
        if name not in buying and len(buying) > MOST_GROUPS:
            continue
        buying.setdefault(name, Buying()).see(day, member, windows, ledger)


def changes_of(level: str, day: int, windows: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """Level, day and change behind a change that stands for many, or the change itself."""
    if level == FIRST_BOUGHT:
        for window, length in windows.items():
            yield f"buyers@{window}", day, 1
            yield f"buyers@{window}", day + length, -1
            yield f"earlier_buyers@{window}", day + length, 1
            yield f"earlier_buyers@{window}", day + 2 * length, -1
    elif level.startswith(SEEN_AFTER):
        text = level.removeprefix(SEEN_AFTER)
        last = int(text) if text else None
        if last is None:
            yield "customers", day, 1
            yield "active@all", day, 1
        for window, length in windows.items():
            start = day if last is None or day > last + length else last + length
            yield f"active@{window}", start, 1
            yield f"active@{window}", day + length, -1
    else:
        yield level, day, 1


def _added(days: Sequence[int], day: int, length: int) -> Iterator[tuple[str, int, int]]:
    """Level, first day and end of what an order adds to the days on which a customer is counted.

    Only days on which the earlier orders, those of `days`, did not count it already.
    """
    last = days[-1]
    if day != last:
        start, end = max(day, last + length), day + length
        yield "buyers", start, end
        yield "earlier_buyers", start + length, end + length
        for earlier in _united([each + length for each in days], length):
            both = max(earlier[0], start), min(earlier[1], end)
            if both[0] < both[1]:
                yield "retained_buyers", *both
        yield from _repeated("repeat_day_buyers", sorted(set(days)), day, length)
    yield from _repeated("repeat_buyers", days, day, length)


def _repeated(
    level: str, days: Sequence[int], day: int, length: int
) -> Iterator[tuple[str, int, int]]:
    """A customer is counted from one order until the order before it leaves the window."""
    start = day if len(days) < 2 else max(day, days[-2] + length)
    end = days[-1] + length
    if start < end:
        yield level, start, end


def _united(starts: Iterable[int], length: int) -> list[tuple[int, int]]:
    """Disjoint spans; `starts` are in order."""
    found: list[tuple[int, int]] = []
    for start in starts:
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], start + length
        else:
            found.append((start, start + length))
    return found
