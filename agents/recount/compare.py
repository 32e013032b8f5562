"""Compares what is stored with what the facts say: the engine of `touchstream reconcile`.

Enters: facts and stored rows, customer by customer, then the stored panes. Leaves: differences.
Identities are judged anew by their latest touchpoints only: what such a customer lived through in
an order, and panes that it belongs to, are not compared when they differ.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isclose
from typing import Any, NamedTuple

from touchstream.agents.recount.customer import Pane, PaneKey, Recount, Tally, change_key, recount
from touchstream.agents.recount.facts import Measurement, fact_of_row
from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PATHS, SESSIONS, VISITS
from touchstream.streams.table import MAYBE_MOMENT, MOMENT, Table
from touchstream.streams.topics import DAY_MS

KEPT_TOUCHPOINTS = 512
"""Of an identity, one by one; see `docs/definitions.md`."""
OTHER = "(other)"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOT_RECOUNTED = {
    "customer_id",
    "identities",
    "identity_kinds",
    "changed_at",
    "version",
    "is_deleted",
}
IN_ANY_ORDER = {
    "touchpoints",
    "touchpoints_by_channel",
    "contacts",
    "contacts_by_channel",
    "orders",
    "revenue_e4",
    "returns",
    "returned_e4",
    "answers",
    "answer_sums",
    "texts_scored",
    "sentiment_sum",
    "advocacy",
}
"""Columns of customers that no order of touchpoints changes."""
DIMENSIONS_IN_ANY_ORDER = {"channel", "queue", "team", "campaign"}
ORDERED_MEASURES = {
    "responded",
    "order_returned",
    "purchase_gap",
    "delivery_on_time",
    "delivery_lateness",
    "first_contact_resolved",
    "first_contact_resolved_finally",
    "repeated",
    "switched",
    "issue_contacts",
    "reopened",
}
KINDS: dict[Table, tuple[str, tuple[str, ...]]] = {
    CUSTOMERS: ("customer", ()),
    SESSIONS: ("session", ("started_at",)),
    VISITS: ("visit", ("entered_at", "stage")),
    ISSUES: ("issue", ("opened_at", "topic")),
    PATHS: ("path", ("ordered_at", "order_key")),
}
"""Kind of difference and key within a customer, by table."""
Row = Mapping[str, Any]


class Difference(NamedTuple):
    """A figure that is stored otherwise than the facts say, as text."""

    kind: str
    key: str
    stored: str
    recomputed: str


class Reconciliation:
    """One comparison of everything, or of customers last seen and panes that start in a period."""

    def __init__(self, since_ms: int | None = None, until_ms: int | None = None) -> None:
        self._since = float("-inf") if since_ms is None else since_ms
        self._until = float("inf") if until_ms is None else until_ms
        self._tally = Tally()
        self._long_panes: set[tuple[str, str, int]] = set()
        self._long_levels: set[str] = set()
        self.long: set[str] = set()
        """Customers of identities with more touchpoints than are kept."""
        self.not_compared = 0
        """Figures that differ and may do so because of them."""
        self.checked: Counter[str] = Counter()
        """How many of each kind were compared."""

    def customers(
        self, facts: Mapping[str, Sequence[Row]], stored: Mapping[Table, Sequence[Row]]
    ) -> Iterator[Difference]:
        """Compare some customers; each comes once, with all its facts and stored rows."""
        rows: dict[str, dict[Table, list[Row]]] = {}
        for table, each in stored.items():
            for row in each:
                rows.setdefault(row["customer_id"], {}).setdefault(table, []).append(row)
        for customer in sorted({*facts, *rows}):
            result = self._recount(customer, facts.get(customer, ()))
            mine = rows.get(customer, {})
            if result is None:  # its identities were only seen beside those of others
                mine = {**mine, CUSTOMERS: [*filter(_has_touchpoints, mine.get(CUSTOMERS, ()))]}
            if self._in_period(result, mine.get(CUSTOMERS, ())):
                self.checked["touchpoint"] += len(facts.get(customer, ()))
                for table in KINDS:
                    yield from self._rows(customer, table, mine.get(table, ()), result)

    def panes(
        self, stored: Iterable[tuple[PaneKey, Pane]], crowded: Collection[str]
    ) -> Iterator[Difference]:
        """Compare all panes, after all customers; `crowded` dimensions in total only."""
        wanted: dict[PaneKey, Pane] = {}
        found: dict[PaneKey, Pane] = {}
        for key, pane in self._tally.panes().items():
            if self._since <= key[4] * 1000 < self._until:
                _fold(wanted, key, pane, crowded)
        for key, pane in stored:
            if key[1] in crowded:
                _fold(found, key, pane, crowded)
            elif self._since <= key[4] * 1000 < self._until:
                yield from self._pane(key, pane, wanted.pop(key, None))
        for key in sorted({*wanted, *found}):
            if self._since <= key[4] * 1000 < self._until:
                yield from self._pane(key, found.get(key), wanted.get(key))

    def _recount(self, customer: str, rows: Sequence[Row]) -> Recount | None:
        if not rows:
            return None
        result = recount(map(fact_of_row, rows))
        measured = [each for each in result.measurements if self._may_matter(each)]
        self._tally.add(measured, result.changes)
        if max(Counter(row["identity"] for row in rows).values()) > KEPT_TOUCHPOINTS:
            self.long.add(customer)
            self._long_levels.update(change_key(each)[0] for each in result.changes)
            for key, _ in self._tally.values(measured):
                self._long_panes.add((key[0], key[3], key[4]))
        return result

    def _may_matter(self, measurement: Measurement) -> bool:
        return self._since <= measurement.at < self._until + DAY_MS

    def _in_period(self, result: Recount | None, stored: Sequence[Row]) -> bool:
        times = [row["last_touch_at"] for row in stored]
        if result:
            times.append(result.customer["last_touch_at"])
        whole = self._since == float("-inf") and self._until == float("inf")
        return whole or any(at is not None and self._since <= at < self._until for at in times)

    def _rows(
        self, customer: str, table: Table, stored: Sequence[Row], result: Recount | None
    ) -> Iterator[Difference]:
        kind, names = KINDS[table]
        found = {tuple(row[name] for name in names): row for row in stored}
        wanted = _recounted(table, result)
        for key in sorted({*found, *wanted}):
            self.checked[kind] += 1
            of_key = zip(names, key, strict=True)
            words = [customer, *(_shown(name, value, table) for name, value in of_key)]
            one, other = found.get(key), wanted.get(key)
            if one is None or other is None:
                there = [("one" if each is not None else "none") for each in (one, other)]
                difference = Difference(kind, " ".join(words), *there)
                yield from self._unless_long(customer, "", difference)
                continue
            for name, _ in table.columns:
                if name not in NOT_RECOUNTED and not _equal(name, one, other):
                    texts = (_shown(name, each[name], table) for each in (one, other))
                    difference = Difference(kind, " ".join([*words, name]), *texts)
                    yield from self._unless_long(customer, name, difference)

    def _unless_long(self, customer: str, column: str, found: Difference) -> Iterator[Difference]:
        whole_customer = found.kind == "customer" and not column
        if customer in self.long and column not in IN_ANY_ORDER and not whole_customer:
            self.not_compared += 1
        else:
            yield found

    def _pane(self, key: PaneKey, one: Pane | None, other: Pane | None) -> Iterator[Difference]:
        self.checked["pane"] += 1
        one, other = _plain(one), _plain(other)
        if one == other:
            return
        measure, dimension, _, resolution, start = key
        ordered = measure in ORDERED_MEASURES or dimension not in DIMENSIONS_IN_ANY_ORDER
        place = measure, resolution, start
        if ordered and (place in self._long_panes or measure in self._long_levels):
            self.not_compared += 1
            return
        words = (*key[:4], _moment(start * 1000))
        yield Difference("pane", " ".join(filter(None, words)), _figures(one), _figures(other))


def _recounted(table: Table, result: Recount | None) -> Mapping[Any, Row]:
    if result is None:
        return {}
    rows: dict[Table, Mapping[Any, Row]] = {
        CUSTOMERS: {(): result.customer},
        SESSIONS: {(at,): row for at, row in result.sessions.items()},
        VISITS: result.visits,
        ISSUES: result.issues,
        PATHS: result.paths,
    }
    return rows[table]


def _equal(name: str, stored: Row, recomputed: Row) -> bool:
    """Sentiments may differ by what rounding each to ten-thousandths can do."""
    one, other = stored[name], recomputed[name]
    if name == "answer_sums":
        return all(
            isclose(one.get(each, 0), other.get(each, 0), abs_tol=0.0001) for each in {*one, *other}
        )
    if name == "sentiment_sum":
        return isclose(one, other, abs_tol=0.0001 * max(1, recomputed["texts_scored"]))
    if isinstance(one, float) and other is not None:
        return isclose(one, other, abs_tol=0.0001)
    if isinstance(one, Mapping):
        return _without_zeros(one) == _without_zeros(other)
    return bool(one == other)


def _without_zeros(counts: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in counts.items() if value or value is False}


def _fold(panes: dict[PaneKey, Pane], key: PaneKey, pane: Pane, crowded: Collection[str]) -> None:
    """Add a pane; members of crowded dimensions are added up."""
    if key[1] not in crowded:
        panes[key] = pane
        return
    key = (*key[:2], "", *key[3:])
    n, total, squares, buckets = panes.get(key, (0, 0, 0, {}))
    summed = Counter(buckets)
    summed.update(pane[3])
    panes[key] = n + pane[0], total + pane[1], squares + pane[2], dict(summed)


def _plain(pane: Pane | None) -> Pane | None:
    """A pane without empty buckets; None when it is empty."""
    if pane is None:
        return None
    n, total, squares, buckets = pane
    full = _without_zeros(buckets)
    return (n, total, squares, full) if n or total or squares or full else None


def _figures(pane: Pane | None) -> str:
    if pane is None:
        return "nothing"
    n, total, squares, buckets = pane
    text = f"n {n} total {total} squares {squares}"
    return f"{text} buckets {dict(sorted(buckets.items()))}" if buckets else text


def _shown(name: str, value: Any, table: Table) -> str:
    kinds = dict(table.columns)
    return _moment(value) if kinds[name] in (MOMENT, MAYBE_MOMENT) else str(value)


def _moment(ms: int | None) -> str:
    try:
        return "never" if ms is None else (EPOCH + timedelta(milliseconds=ms)).isoformat()
    except OverflowError:
        return str(ms)


def _has_touchpoints(customer: Row) -> bool:
    return bool(customer["touchpoints"])
