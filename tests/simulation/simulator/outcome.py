"""What must hold at the end: the publisher's ledger against ClickHouse and the topics.

(a) every accepted event is in the facts or among the dead letters, exactly once;
(b) the metric panes equal what is recomputed;
(c) customers equal `resolve` on all evidence, and their lives what is recomputed.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import oracle
from simulator.checks import READERS, Checks
from simulator.clickhouse import UNSTORABLE, ClickHouse
from simulator.findings import Violation

from touchstream.agents.evidence import Vertex, decode_vertex
from touchstream.agents.recount.customer import Pane, PaneKey
from touchstream.agents.turn import VERTEX
from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PANES, PATHS, SESSIONS, VISITS
from touchstream.streams.dead_letters import REFUSED_ROW
from touchstream.streams.tables import DEAD_LETTERS, FACTS, IDENTITIES
from touchstream.streams.topics import IDENTITY

LIVES = ((SESSIONS, "sessions"), (VISITS, "visits"), (ISSUES, "issues"), (PATHS, "paths"))
OWN = {"version", "is_deleted"}


class Outcome:
    """Compares what has come out with what must."""

    def __init__(self, checks: Checks, clickhouse: ClickHouse) -> None:
        self._checks, self._clickhouse = checks, clickhouse

    def compare(self, published: list[oracle.Published]) -> None:
        """Compare everything; raises Violation."""
        erased = self._checks.ledger.erased()
        left = oracle.without(published, erased) if erased else published
        self._events(left, erased)
        self._lives(left, self._customers(left))

    def _events(self, left: list[oracle.Published], erased: set[bytes]) -> None:
        names = {token.hex() for token in erased}
        facts = Counter(
            (row["channel"], row["event_id"])
            for row in self._clickhouse.latest(FACTS)
            if row["identity"] not in names
        )
        letters = self._clickhouse.latest(DEAD_LETTERS)
        refused = {
            (fact["channel"], fact["event_id"])
            for fact in (json.loads(r["value"]) for r in letters if r["reason"] == REFUSED_ROW)
            if fact["identity"] not in names
        }
        expected = {(channel, t["event_id"]): UNSTORABLE in t["properties"] for channel, t in left}
        _same("a", "facts", dict(facts), {e: 1 for e, bad in expected.items() if not bad})
        _same("a", "refused rows", refused, {e for e, bad in expected.items() if bad})
        rejected = self._checks.ledger.rejected()
        kept = self._clickhouse.tables[DEAD_LETTERS].rows
        found = [(topic, partition, offset) for topic, _, partition, offset in kept]
        found = [key for key in found if not key[0].startswith("clickhouse.")]
        _same("a", "dead letters", Counter(found), Counter(rejected))
        _same("a", "dead letters in their topic", set(self._checks.letters), rejected)

    def _customers(self, left: list[oracle.Published]) -> dict[str, str]:
        words, shared, rules = self._checks.ledger.words()
        expected = oracle.customers_of(left, words, rules, shared)
        known = {token.hex(): f"c{(v.customer or b'').hex()}" for token, v in self._vertices()}
        _same("c", "identities in state", known, expected)
        rows = self._clickhouse.latest(IDENTITIES)
        stored = {r["identity"]: r["customer_id"] for r in rows if r["identity"] in expected}
        _same("c", "identities in ClickHouse", stored, expected)
        return expected

    def _vertices(self) -> list[tuple[bytes, Vertex]]:
        """Identities that were seen, in durable state."""
        return [
            (key[1:], vertex)
            for (topic, _), durable in self._checks.durable.items()
            if READERS[topic] == IDENTITY
            for key, value in durable.values.items()
            if key[:1] == VERTEX and (vertex := decode_vertex(value)).first_seen is not None
        ]

    def _lives(self, left: list[oracle.Published], customers: dict[str, str]) -> None:
        lives = oracle.lives_of(left, customers)
        rows = {
            row["customer_id"]: row
            for row in self._clickhouse.latest(CUSTOMERS)
            if not row["is_deleted"]
        }
        _same("c", "customers", set(rows), set(customers.values()))
        for name, life in lives.items():
            columns = life.customer.keys() & rows[name].keys()
            _same(
                "c",
                f"customer {name}",
                {column: _rounded(rows[name][column]) for column in columns},
                {column: _rounded(life.customer[column]) for column in columns},
            )
        _same("b", "panes", self._panes(), oracle.panes_of(lives.values()))
        for table, name in LIVES:
            expected = [
                {"customer_id": customer, **row}
                for customer, life in lives.items()
                for row in getattr(life, name).values()
            ]
            kept = [row for row in self._clickhouse.latest(table) if not row["is_deleted"]]
            found = [{k: v for k, v in row.items() if k not in OWN} for row in kept]
            _same("c", name, Counter(map(_text, found)), Counter(map(_text, expected)))

    def _panes(self) -> dict[PaneKey, Pane]:
        """Sums over shards; empty panes left out."""
        sums: dict[PaneKey, Pane] = {}
        for at, row in self._clickhouse.tables[PANES].rows.items():
            *_, n, total, squares, buckets, _ = row
            known = sums.get(at[:5], (0, 0, 0, {}))
            histogram = {b: known[3].get(b, 0) + buckets.get(b, 0) for b in known[3] | buckets}
            histogram = {bucket: number for bucket, number in histogram.items() if number}
            sums[at[:5]] = (known[0] + n, known[1] + total, known[2] + squares, histogram)
        return {at: pane for at, pane in sums.items() if pane != (0, 0, 0, {})}


def _same(check: str, what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Violation(check, f"{what}: {_unlike(found, expected)}")


def _unlike(found: Any, expected: Any) -> str:
    """What is only on one side, in short."""
    if isinstance(found, dict):
        keys = sorted((k for k in found | expected if found.get(k) != expected.get(k)), key=str)
        parts = [f"{k}: found {found.get(k)!r}, expected {expected.get(k)!r}" for k in keys]
        return f"{len(parts)} differ: " + "; ".join(parts[:3])
    missing, more = sorted(map(str, expected - found)), sorted(map(str, found - expected))
    return f"{len(missing)} missing: {missing[:3]}; {len(more)} too many: {more[:3]}"


def _rounded(value: Any) -> Any:
    """Sums of floats come in any order."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else value
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _text(row: Mapping[str, Any]) -> str:
    """A row as text, whatever holds its lists."""
    return str({k: list(v) if isinstance(v, tuple) else v for k, v in sorted(row.items())})
