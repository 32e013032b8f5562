"""One chDB handle: its database, its settings, queries and inserts, with errors as ClickHouseError.

Handles of one process share the engine and run in parallel; what a statement leaves behind (SET,
USE, temporary tables) stays on its handle. One thread at a time may use a handle.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code, from_engine
from touchstream.streams.local.clickhouse_request import Statement

PYTHON_FORMATS = frozenset({"arrowtable", "dataframe", "datastore"})
"""Names that chDB's binding takes for Python objects; to a server they are unknown."""


NOT_STORED = """(match(name, '^CANNOT_(WRITE|OPEN|CREATE|FSYNC|TRUNCATE|MKDIR|ALLOCATE)') OR name IN
    ('NOT_ENOUGH_SPACE', 'TOO_MANY_PARTS', 'TABLE_IS_READ_ONLY', 'MEMORY_LIMIT_EXCEEDED',
    'STD_EXCEPTION'))"""
"""Errors that keep rows from being stored. Only these: others may be those of somebody's query."""


class Connection(Protocol):
    """The part of `chdb`'s connection that is used here."""

    _conn: Any

    def query(self, query: str, format: str, params: Mapping[str, str] | None = None) -> Any:
        """Run one statement."""

    def send_insert(self, query: str, format: str) -> Any:
        """Begin an insert whose rows are appended as bytes."""

    def close(self) -> None:
        """Release the handle."""


@dataclass(frozen=True)
class Kind:
    """Class of a text (READ_ONLY, MUTATING, CONTROL, UNKNOWN, ...) and its number of statements."""

    name: str
    statements: int


@dataclass(frozen=True)
class Counts:
    """Rows and bytes that a call read and wrote."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0


class Handle:
    """A connection to the engine with the session state that calls share."""

    def __init__(self, connection: Connection, errors: tuple[type[Exception], ...]) -> None:
        self._connection = connection
        self._errors = errors
        self._database = "default"
        self._home = "default"
        self.may_have_settings = False
        """Whether a statement of the session (SET) may have changed settings."""
        self.is_spoiled = False
        """Whether a setting could not be undone; such a handle must not be used again."""

    def close(self) -> None:
        """Release the handle; the engine stops with its last one."""
        self._connection.close()

    def classify(self, sql: str) -> Kind:
        """What the engine's own classifier says that `sql` would do, without running it."""
        # Not part of chDB's public interface: the version is pinned, and tests use every answer.
        found = self._connection._conn.classify_query(sql)
        return Kind(found["query_class"].name, found["statement_count"])

    def query(
        self, sql: str, format_name: str, parameters: Mapping[str, str]
    ) -> tuple[bytes, Counts]:
        """Answer of one statement in `format_name`, unless its FORMAT clause says otherwise."""
        if format_name.lower() in PYTHON_FORMATS:
            raise ClickHouseError(Code.UNKNOWN_FORMAT, f"Unknown format {format_name}")
        result = self._run(sql, format_name, parameters)
        counts = Counts(
            result.rows_read(), result.bytes_read(), result.rows_written(), result.bytes_written()
        )
        return result.bytes() or b"", counts

    def insert(self, statement: Statement, parameters: Mapping[str, str]) -> Counts:
        """Stream the rows into the INSERT; on an error no part of a block is stored.

        chDB says that rows are written when they could not be stored (disk full, too many parts,
        table read-only): what the engine has counted as such an error meanwhile tells. It may have
        been another call's; then the caller sends rows again that are stored already.
        """
        before = self._counted_errors()
        for name, value in parameters.items():
            # An insert stream takes no parameters; a later call of the session overrides them.
            self._run(f"SET param_{name} = {quote(value)}")
        try:
            with self._connection.send_insert(statement.sql, str(statement.format)) as stream:
                stream.append(statement.rows)
                result = stream.finish()
        except self._errors as error:
            raise from_engine(str(error)) from None
        for code, (times, text) in self._counted_errors().items():
            if times > before.get(code, (0, ""))[0]:
                raise ClickHouseError(code, text)
        return Counts(written_rows=result.rows_written, written_bytes=result.bytes_written)

    def use(self, database: str | None) -> None:
        """Enter the call's database, or the one the session has chosen with USE."""
        wanted = database or self._home
        if wanted != self._database:
            self._run(f"USE `{wanted.replace('`', '``')}`")
            self._database = wanted

    def remember_database(self) -> None:
        """After a USE statement: later calls of the session start where it led."""
        answer, _ = self.query("SELECT currentDatabase()", "TabSeparatedRaw", {})
        self._home = self._database = answer.decode().rstrip("\n")

    @contextmanager
    def settings(self, values: Mapping[str, str]) -> Iterator[None]:
        """Apply settings for the length of the block and put back what was there."""
        if not values:
            yield
            return
        undo = self._undo_of(values)
        self._run("SET " + ", ".join(f"{name} = {quote(value)}" for name, value in values.items()))
        try:
            yield
        finally:
            try:
                self._run(undo)
            except ClickHouseError:  # for example `readonly`, which cannot be left again
                self.is_spoiled = True

    def _undo_of(self, values: Mapping[str, str]) -> str:
        # Reading system.settings takes 4 ms, so only where there can be something to read.
        changed = self._changed_settings(values) if self.may_have_settings else {}
        return "SET " + ", ".join(f"{name} = {changed.get(name, 'DEFAULT')}" for name in values)

    def _changed_settings(self, names: Iterable[str]) -> dict[str, str]:
        listed = ", ".join(quote(name) for name in names)
        sql = f"SELECT name, value FROM system.settings WHERE changed AND name IN ({listed})"
        rows, _ = self.query(sql, "JSONEachRow", {})
        return {row["name"]: quote(row["value"]) for row in map(json.loads, rows.splitlines())}

    def _counted_errors(self) -> dict[int, tuple[int, str]]:
        """How often the engine has met each error so far, and what it said last."""
        sql = f"SELECT code, value, last_error_message FROM system.errors WHERE {NOT_STORED}"
        rows, _ = self.query(sql, "JSONCompactEachRow", {})
        found = (json.loads(line) for line in rows.splitlines())
        return {int(code): (int(times), text) for code, times, text in found}

    def _run(
        self, sql: str, format_name: str = "Null", parameters: Mapping[str, str] | None = None
    ) -> Any:
        try:
            return self._connection.query(sql, format_name, params=parameters)
        except self._errors as error:
            raise from_engine(str(error)) from None


def quote(value: str) -> str:
    """A string literal of ClickHouse."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
