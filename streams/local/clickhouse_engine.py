"""The embedded engine: opens chDB on a directory and answers calls, several at a time.

A call without a session gets a handle of its own (opening one costs 0.3 ms), so that nothing a
statement sets can reach another call; a call with a session gets the session's handle.
The reader gets a new handle for each call, with its role and limits; sessions are the writer's.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import chdb
from chdb import ChdbError

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.clickhouse_access import (
    ROLE,
    access_configuration,
    check_query,
    outside_tables,
    restrict,
)
from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code
from touchstream.streams.local.clickhouse_handle import Counts, Handle, Kind
from touchstream.streams.local.clickhouse_request import Call, SessionUse
from touchstream.streams.local.clickhouse_sessions import Sessions

ACCESS_FILE = "touchstream-access.xml"
ERRORS = (ChdbError, RuntimeError)
HARMLESS = ("READ_ONLY", "UNKNOWN")
"""Kinds that GET may run: what the classifier cannot parse, the engine refuses with a reason."""
USE = re.compile(r"USE\b", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What a call brought: the bytes of its result, their format, and what it cost."""

    body: bytes
    format: str
    counts: Counts
    elapsed_ns: int


class Engine:
    """The one engine of this process; its methods may be called from several threads."""

    def __init__(self, directory: Path, database: str) -> None:
        """Open `directory`; the reader may read `database`."""
        self._directory = directory
        try:
            file = directory / ACCESS_FILE
            file.write_text(access_configuration(file, database), encoding="utf-8")
            # chDB stops its engine with the last handle: this one stays open for all the others.
            self._keep = self._open_handle(f"?config-file={quote(str(file))}")
            self._outside = outside_tables(self._keep)
        except (*ERRORS, OSError) as error:
            raise ConfigurationError(
                f"cannot open the ClickHouse directory {directory}: another process may have it "
                f"open, or it is not one ({str(error).strip()})"
            ) from None
        self.sessions = Sessions(self._open_handle)

    def answer(self, call: Call) -> Answer:
        """Run one call to its end; raises ClickHouseError."""
        started_ns = time.perf_counter_ns()
        with self._handle(call.session) as handle:
            kind = _check(handle, call)
            handle.use(call.database)
            with handle.settings(call.settings):
                body, format_name, counts = _run(handle, call)
            handle.may_have_settings |= kind.name not in ("READ_ONLY", "MUTATING")
            if call.session and USE.match(call.statement.sql):
                handle.remember_database()
        return Answer(body, format_name, counts, time.perf_counter_ns() - started_ns)

    def answer_reader(self, call: Call) -> Answer:
        """Run one call that may only read; raises ClickHouseError."""
        started_ns = time.perf_counter_ns()
        with self._handle(None) as handle:
            handle.query(f"SET ROLE {ROLE}", "Null", {})
            check_query(handle, call, self._outside)
            handle.use(call.database)
            restrict(handle, call.settings)
            body, format_name, counts = _run(handle, call)
        return Answer(body, format_name, counts, time.perf_counter_ns() - started_ns)

    def cancel_queries(self) -> None:
        """Ask every running query to end with an error."""
        with self._handle(None) as handle:
            handle.query("KILL QUERY WHERE true ASYNC", "Null", {})

    def close(self) -> None:
        """Close sessions and engine; no call may be running."""
        self.sessions.close()
        self._keep.close()

    def _open_handle(self, options: str = "") -> Handle:
        connection = chdb.connect(f"{self._directory}{options}")  # type: ignore[no-untyped-call]  # chdb's
        return Handle(connection, ERRORS)

    @contextmanager
    def _handle(self, session: SessionUse | None) -> Iterator[Handle]:
        if session is not None:
            with self.sessions.lease(session) as handle:
                yield handle
            return
        handle = self._open_handle()
        try:
            yield handle
        finally:
            handle.close()


def _check(handle: Handle, call: Call) -> Kind:
    kind = handle.classify(call.statement.sql)
    is_insert = call.statement.rows is not None
    if kind.statements > 1:
        raise ClickHouseError(Code.SYNTAX_ERROR, "several statements in one query")
    if call.read_only and (is_insert or kind.name not in HARMLESS):
        raise ClickHouseError(Code.READONLY, "GET may only read: send the statement with POST")
    return kind


def _run(handle: Handle, call: Call) -> tuple[bytes, str, Counts]:
    if call.statement.rows is not None:
        return b"", call.default_format, handle.insert(call.statement, call.parameters)
    body, counts = handle.query(call.statement.sql, call.default_format, call.parameters)
    return body, call.statement.format or call.default_format, counts
