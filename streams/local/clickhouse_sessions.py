"""Sessions of the ClickHouse interface: one engine handle each, for one call at a time, until idle.

A session keeps what SQL leaves on its handle (temporary tables, SET, USE). As on a server, a second
call at the same time is refused, and an idle session is forgotten after its timeout.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code
from touchstream.streams.local.clickhouse_handle import Handle
from touchstream.streams.local.clickhouse_request import SessionUse


@dataclass
class _Session:
    handle: Handle
    busy: bool
    expires_at: float


class Sessions:
    """The open sessions by name; `clock` counts seconds."""

    def __init__(
        self, open_handle: Callable[[], Handle], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_handle = open_handle
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    @contextmanager
    def lease(self, use: SessionUse) -> Iterator[Handle]:
        """Hold the session's handle; raises ClickHouseError if it is busy or unknown."""
        session = self._take(use)
        try:
            yield session.handle
        finally:
            self._give_back(use, session)

    def close_idle(self) -> None:
        """Forget every session whose time is over."""
        with self._lock:
            now = self._clock()
            over = [n for n, s in self._sessions.items() if not s.busy and s.expires_at <= now]
            for name in over:
                self._sessions.pop(name).handle.close()

    def close(self) -> None:
        """Close every session; no call may be running."""
        with self._lock:
            for session in self._sessions.values():
                session.handle.close()
            self._sessions.clear()

    def _take(self, use: SessionUse) -> _Session:
        with self._lock:
            session = self._sessions.get(use.name)
            if session is None:
                if use.must_exist:
                    raise ClickHouseError(Code.SESSION_NOT_FOUND, f"no session {use.name}")
                session = self._sessions[use.name] = _Session(self._open_handle(), False, 0.0)
            if session.busy:
                raise ClickHouseError(
                    Code.SESSION_IS_LOCKED, f"session {use.name} is locked by a concurrent call"
                )
            session.busy = True
            return session

    def _give_back(self, use: SessionUse, session: _Session) -> None:
        with self._lock:
            session.busy = False
            session.expires_at = self._clock() + use.timeout_seconds
            if use.close_after or session.handle.is_spoiled:
                del self._sessions[use.name]
                session.handle.close()
