"""A simulated ClickHouse behind the product's own writer: what it stores, and how it fails.

An insert may be refused for now, be stored and its answer lost, be stored only after its client has
given up, or be refused for a value in one of its rows. Tables keep the row of the highest version.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from simulator.scheduler import Scheduler

from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PANES, PATHS, SESSIONS, VISITS
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import CHANGES, DEAD_LETTERS, FACTS, IDENTITIES, REFUSED, TABLES

UNSTORABLE = "unstorable"
"""A property of touchpoints whose fact ClickHouse refuses."""
TOO_MANY_PARTS, CANNOT_PARSE = 252, 27
KEYS: Mapping[Table, tuple[tuple[str, ...], str]] = {
    FACTS: (("identity", "channel", "event_id"), "precedence"),
    IDENTITIES: (("identity",), "version"),
    REFUSED: (("identity", "other"), "version"),
    CHANGES: (("identity", "version"), "version"),
    CUSTOMERS: (("customer_id",), "version"),
    SESSIONS: (("customer_id", "started_at"), "version"),
    VISITS: (("customer_id", "entered_at", "stage"), "version"),
    ISSUES: (("customer_id", "opened_at", "topic"), "version"),
    PATHS: (("customer_id", "ordered_at", "order_key"), "version"),
    PANES: (("metric", "dimension", "member", "resolution", "start", "shard"), "version"),
    DEAD_LETTERS: (("topic", "source", "partition", "offset"), "received_at"),
}
"""Key and version of the tables that are checked."""
NAMED = {table.name: table for table in TABLES}
PROPERTIES = FACTS.column_names.index("properties")


@dataclass(frozen=True)
class ClickHouseFaults:
    """How often an insert does not go as it should."""

    refused_rate: float = 0.0
    """Too many parts, or no connection: nothing is stored."""
    lost_rate: float = 0.0
    """Stored, and the answer lost."""
    late_rate: float = 0.0
    """The client gives up, and it is stored later."""


class StoredTable:
    """Rows by key, the one of the highest version."""

    def __init__(self, table: Table, key: Sequence[str], version: str) -> None:
        names = table.column_names
        self.table = table
        self.rows: dict[Row, Row] = {}
        self.columns = names
        self._key: Callable[[Row], Any] = itemgetter(*(names.index(name) for name in key))
        self._is_single = len(key) == 1
        self._version = names.index(version)

    def key_of(self, row: Row) -> Row:
        return (self._key(row),) if self._is_single else self._key(row)

    def version_of(self, row: Row) -> int:
        return int(row[self._version])

    def put(self, row: Row) -> Row | None:
        """Store a row; returns the one of the same key that was there."""
        key = self.key_of(row)
        known = self.rows.get(key)
        if known is None or row[self._version] >= known[self._version]:
            self.rows[key] = row
        return known

    def named(self, row: Row) -> dict[str, Any]:
        return dict(zip(self.columns, row, strict=True))


OnRow = Callable[[StoredTable, Row, Row | None], object]
"""Called with a table, the row that is stored and the one that was there."""


class ClickHouse:
    """The server: tables, and how it treats the next insert."""

    def __init__(self, scheduler: Scheduler, faults: ClickHouseFaults) -> None:
        self.tables = {table: StoredTable(table, *key) for table, key in KEYS.items()}
        self.is_away = False
        self.on_row: OnRow = lambda table, row, known: None
        self._scheduler = scheduler
        self._rng: random.Random = scheduler.rng
        self._faults = faults

    def store(self, table: Table, rows: Sequence[Row]) -> None:
        """Store all rows, or raise what ClickHouse answers when it refuses one of them."""
        if table is FACTS and any(UNSTORABLE in row[PROPERTIES] for row in rows):
            raise DatabaseError("cannot parse a property", code=CANNOT_PARSE)
        stored = self.tables.get(table)
        if stored is None:
            return
        for row in rows:
            self.on_row(stored, row, stored.put(row))

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Take an insert; raises what the client sees."""
        faults, chance = self._faults, self._rng.random()
        if self.is_away or chance < faults.refused_rate:
            raise DatabaseError("too many parts", code=TOO_MANY_PARTS)
        chance -= faults.refused_rate
        if chance < faults.late_rate:
            late = partial(self._store_late, table, rows)
            self._scheduler.add(None, f"ClickHouse stores {len(rows)} {table.name} late", late)
            raise OperationalError("timed out")
        self.store(table, rows)
        if chance < faults.late_rate + faults.lost_rate:
            raise OSError("the connection was reset")

    def _store_late(self, table: Table, rows: Sequence[Row]) -> None:
        try:
            self.store(table, rows)
        except DatabaseError:
            self._scheduler.note("", f"ClickHouse refused {table.name}; nobody hears of it")

    def latest(self, table: Table) -> list[dict[str, Any]]:
        """Rows by column names."""
        stored = self.tables[table]
        return [stored.named(row) for row in stored.rows.values()]


class Client:
    """What the writer uses of a clickhouse-connect client."""

    def __init__(self, server: ClickHouse) -> None:
        self._server = server

    def create_insert_context(self, table: str, **options: Any) -> SimpleNamespace:
        """What says where data go."""
        return SimpleNamespace(table=table, **options)

    def insert(self, data: Sequence[Sequence[Any]], context: SimpleNamespace) -> None:
        """Insert columns."""
        self._server.insert(NAMED[context.table], list(zip(*data, strict=True)))

    def close(self) -> None:
        """Nothing to close."""
