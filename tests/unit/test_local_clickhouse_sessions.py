"""Sessions of the embedded ClickHouse, with handles that record and a clock that is set by hand."""

from collections.abc import Iterator
from typing import Any

import pytest

from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code
from touchstream.streams.local.clickhouse_handle import Handle
from touchstream.streams.local.clickhouse_request import SessionUse
from touchstream.streams.local.clickhouse_sessions import Sessions

USE = SessionUse("s", 60.0, must_exist=False, close_after=False)


class Connection:
    """Stands in for chDB's connection."""

    _conn: Any = None

    def __init__(self) -> None:
        self.is_closed = False

    def query(self, query: str, format: str, params: object = None) -> Any:
        raise AssertionError(query)

    def send_insert(self, query: str, format: str) -> Any:
        raise AssertionError(query)

    def close(self) -> None:
        self.is_closed = True


class Clock:
    """Seconds, moved by the test."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def opened() -> list[Connection]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(opened: list[Connection], clock: Clock) -> Iterator[Sessions]:
    def open_handle() -> Handle:
        opened.append(Connection())
        return Handle(opened[-1], (RuntimeError,))

    sessions = Sessions(open_handle, clock)
    yield sessions
    sessions.close()


def test_calls_of_one_session_share_a_handle(sessions: Sessions, opened: list[Connection]) -> None:
    with sessions.lease(USE) as first:
        pass
    with sessions.lease(USE) as second:
        assert second is first
    assert len(opened) == 1


def test_a_second_call_at_the_same_time_is_refused(sessions: Sessions) -> None:
    with sessions.lease(USE), pytest.raises(ClickHouseError) as raised, sessions.lease(USE):
        pass
    assert raised.value.code == Code.SESSION_IS_LOCKED


def test_a_session_that_must_exist_and_does_not_is_refused(sessions: Sessions) -> None:
    use = SessionUse("s", 60.0, must_exist=True, close_after=False)
    with pytest.raises(ClickHouseError) as raised, sessions.lease(use):
        pass
    assert raised.value.code == Code.SESSION_NOT_FOUND


def test_an_idle_session_is_closed_after_its_timeout(
    sessions: Sessions, opened: list[Connection], clock: Clock
) -> None:
    with sessions.lease(USE):
        pass
    clock.seconds = 59.0
    sessions.close_idle()
    assert not opened[0].is_closed
    clock.seconds = 60.0
    sessions.close_idle()
    assert opened[0].is_closed
    assert len(sessions) == 0


def test_a_busy_session_never_expires(
    sessions: Sessions, opened: list[Connection], clock: Clock
) -> None:
    with sessions.lease(USE):
        clock.seconds = 1e6
        sessions.close_idle()
        assert not opened[0].is_closed


def test_a_session_is_closed_when_its_call_asks_for_it(
    sessions: Sessions, opened: list[Connection]
) -> None:
    with sessions.lease(SessionUse("s", 60.0, must_exist=False, close_after=True)):
        pass
    assert opened[0].is_closed


def test_a_handle_whose_settings_cannot_be_undone_is_not_used_again(
    sessions: Sessions, opened: list[Connection]
) -> None:
    with sessions.lease(USE) as handle:
        handle.is_spoiled = True
    assert opened[0].is_closed
    assert len(sessions) == 0
