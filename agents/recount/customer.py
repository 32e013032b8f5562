"""Plain recomputation of everything that follows from the final facts of a customer.

Enters: all facts of one customer, in any order. Leaves: what was measured, how levels change, and
the rows of its tables. Naive and slow on purpose: it says what `docs/definitions.md` says, and
nothing is corrected, so it is what incremental results are compared with.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, log
from typing import Any

from touchstream.agents.recount.answers import answer_measurements, invitation_measurements
from touchstream.agents.recount.contacts import (
    call_measurements,
    issue_measurements,
    issue_rows,
    issues_of,
)
from touchstream.agents.recount.facts import Change, Fact, Measurement, Seen, in_order
from touchstream.agents.recount.journey import (
    Journey,
    shipped_journey,
    stage_changes,
    visit_rows,
    visits_of,
)
from touchstream.agents.recount.levels import active_changes, buyer_changes
from touchstream.agents.recount.orders import (
    delivery_measurements,
    late_changes,
    order_measurements,
    orders_of,
    path_rows,
    risk_changes,
    usual_gap,
)
from touchstream.agents.recount.sessions import session_rows, sums_of
from touchstream.streams.catalogue import DAY_SECONDS, Catalogue, Measure, load_catalogue
from touchstream.streams.topics import DAY_MS

RESOLUTIONS = {"minute": 60, "hour": 3_600, "day": DAY_SECONDS}
ZERO_BUCKET = -1
PaneKey = tuple[str, str, str, str, int]
"""Measure, dimension, member, resolution, start in seconds."""
Pane = tuple[int, int, int, dict[int, int]]
"""Number of measurements, their sum, the sum of their squares, and their histogram."""


@dataclass(frozen=True)
class Recount:
    """Everything that follows from the facts of one customer; rows have their columns by name."""

    measurements: list[Measurement]
    changes: list[Change]
    customer: dict[str, Any]
    """`CUSTOMERS` from `account_id` to `lapses_at`; times in ms."""
    sessions: dict[int, dict[str, Any]]
    """By start."""
    visits: dict[tuple[int, str], dict[str, Any]]
    """By time and stage."""
    issues: dict[tuple[int, str], dict[str, Any]]
    """By opening and topic."""
    paths: dict[tuple[int, int], dict[str, Any]]
    """By time and key of the order."""


def recount(
    facts: Iterable[Fact], catalogue: Catalogue | None = None, journey: Journey | None = None
) -> Recount:
    """Recount one customer, who has one fact or more; with the shipped settings by default."""
    catalogue, journey = catalogue or load_catalogue(), journey or shipped_journey()
    ordered = in_order(facts)
    visits, stages = visits_of(ordered, journey)
    lived = list(_lived(ordered, stages))
    issues = issues_of(lived, catalogue, journey)
    orders, deliveries = orders_of(lived)
    order_days = sorted({order.seen.fact.day for order in orders})
    sessions = session_rows(ordered, journey)
    gap = usual_gap(order_days, journey)
    last_at, stage = ordered[-1].occurred_at, stages[-1]
    customer = {
        **sums_of(ordered, catalogue),
        "sessions": len(sessions),
        "open_issues": sum(not issue.solved for issue in issues),
        "solved_issues": sum(issue.solved for issue in issues),
        "usual_gap_days": gap,
        "at_risk_from": (order_days[-1] + gap + 1) * DAY_MS if order_days else None,
        "stage": stage,
        "stage_since": visits[-1].entered_at if visits else None,
        "lapses_at": last_at + journey.lapsed_ms if stage not in ("", "lapsed") else None,
    }
    return Recount(
        [
            *_plain_measurements(lived, catalogue),
            *answer_measurements(lived),
            *invitation_measurements(lived),
            *call_measurements(lived, catalogue),
            *issue_measurements(issues, journey),
            *order_measurements(orders),
            *delivery_measurements(deliveries),
        ],
        [
            *active_changes((fact.day for fact in ordered), catalogue.day_windows),
            *buyer_changes(lived, catalogue.day_windows),
            *risk_changes(order_days, journey),
            *late_changes(orders),
            *stage_changes(visits, last_at, journey),
        ],
        customer,
        sessions,
        visit_rows(visits, journey),
        issue_rows(issues),
        path_rows(ordered, journey),
    )


class Tally:
    """Adds up panes of many customers."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._catalogue = catalogue or load_catalogue()
        self._panes: dict[PaneKey, list[Any]] = {}

    def add(self, measurements: Iterable[Measurement], changes: Iterable[Change]) -> None:
        """Add what was measured and what changed."""
        for key, value in self.values(measurements):
            self._measured(key, value)
        for change in changes:
            self._pane(change_key(change))[1] += change.change

    def values(self, measurements: Iterable[Measurement]) -> Iterator[tuple[PaneKey, int]]:
        """Every pane that each measurement belongs to."""
        for measure, at, value, members in measurements:
            seconds = at // 1000
            for dimension, member in members:
                for resolution, length in RESOLUTIONS.items():
                    if resolution != "minute" or self._has_minutes(dimension):
                        start = seconds // length * length
                        yield (measure, dimension, member, resolution, start), value

    def panes(self) -> dict[PaneKey, Pane]:
        """Panes that are not all zero."""
        return {
            key: (n, total, squares, buckets)
            for key, (n, total, squares, buckets) in self._panes.items()
            if n or total or squares or buckets
        }

    def _has_minutes(self, dimension: str) -> bool:
        return self._catalogue.dimensions[dimension].finest == "minute"

    def _measured(self, key: PaneKey, value: int) -> None:
        measure, pane = self._catalogue.measures[key[0]], self._pane(key)
        pane[0] += 1
        pane[1] += value
        if measure.squares:
            pane[2] += value * value
        if measure.histogram:
            bucket = bucket_of(value)
            pane[3][bucket] = pane[3].get(bucket, 0) + 1

    def _pane(self, key: PaneKey) -> list[Any]:
        return self._panes.setdefault(key, [0, 0, 0, {}])


def panes(
    measurements: Iterable[Measurement],
    changes: Iterable[Change],
    catalogue: Catalogue | None = None,
) -> dict[PaneKey, Pane]:
    """Panes of everything that was measured."""
    tally = Tally(catalogue)
    tally.add(measurements, changes)
    return tally.panes()


def change_key(change: Change) -> PaneKey:
    """The one pane of a change."""
    return change.level, change.dimension, change.member, "day", change.day * DAY_SECONDS


def bucket_of(value: int) -> int:
    """Bucket of a histogram with errors of at most 1%."""
    return ceil(log(value) / log(1.01 / 0.99)) if value >= 1 else ZERO_BUCKET


def _lived(facts: Iterable[Fact], stages: Iterable[str]) -> Iterator[Seen]:
    """Each touchpoint with what the customer has right after it."""
    segment = account = ""
    for fact, stage in zip(facts, stages, strict=True):
        segment, account = fact.segment or segment, fact.account_id or account
        yield Seen(fact, segment, account, stage)


def _plain_measurements(lived: Iterable[Seen], catalogue: Catalogue) -> Iterator[Measurement]:
    """Measures that the catalogue defines by their touchpoints."""
    plain = [measure for measure in catalogue.measures.values() if measure.on]
    for seen in lived:
        for measure in plain:
            if seen.fact.kind in measure.on:
                value = _value(seen.fact, measure)
                if value is not None:
                    yield seen.measured(measure.name, value)


def _value(fact: Fact, measure: Measure) -> int | None:
    """What the catalogue takes of a touchpoint; an order without a value is worth nothing."""
    match measure.value:
        case "":
            return 1
        case "value_e4":
            return fact.value_e4 or 0
        case "rating":
            return None if fact.rating is None else round(fact.rating * measure.scale)
        case "wait_ms":
            return fact.wait_ms
    return fact.handle_ms
