"""What calls to a server say: when it is waited for, and for how long that explains anything."""

import pytest

from touchstream.streams.server_health import SLOW_SECONDS, Server


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def server(hand: Hand) -> Server:
    return Server("clickhouse", patience_seconds=60, clock=hand)


def test_nobody_waits_for_a_server_that_is_not_called(server: Server, hand: Hand) -> None:
    hand.now += 500
    assert (server.waiting_seconds, server.failures) == (0, 0)
    assert server.last_trouble < hand.now - 10_000


def test_a_quick_call_explains_nothing(server: Server, hand: Hand) -> None:
    with server.call():
        hand.now += SLOW_SECONDS - 1
        assert server.silent_seconds == SLOW_SECONDS - 1
    server.answered()
    assert server.last_trouble < 0
    assert (server.silent_seconds, server.answered_at) == (0, hand.now)


def test_a_slow_call_explains_waiting_until_it_ends(server: Server, hand: Hand) -> None:
    with server.call():
        hand.now += 30
        assert (server.last_trouble, server.waiting_seconds) == (hand.now, 30)
    ended = hand.now
    hand.now += 100
    assert server.last_trouble == ended


def test_a_call_that_outlasts_its_time_limit_is_no_explanation_any_more(
    server: Server, hand: Hand
) -> None:
    with server.call():
        hand.now += 61
        assert server.last_trouble < 0
        assert server.silent_seconds == 61


def test_a_refused_call_explains_waiting_until_an_answer(server: Server, hand: Hand) -> None:
    server.failed()
    hand.now += 40
    server.failed()
    hand.now += 50
    assert (server.retried_seconds, server.last_trouble, server.failures) == (90, hand.now, 2)
    server.answered()
    assert (server.retried_seconds, server.last_trouble) == (0, hand.now - 50)


def test_calls_that_nobody_repeats_explain_nothing_any_more(server: Server, hand: Hand) -> None:
    server.failed()
    failed = hand.now
    hand.now += 61
    assert (server.retried_seconds, server.last_trouble) == (0, failed)


def test_the_oldest_of_several_calls_counts(server: Server, hand: Hand) -> None:
    with server.call():
        hand.now += 3
        with server.call():
            hand.now += 2
            assert server.silent_seconds == 5


def test_a_call_that_raises_is_over(server: Server) -> None:
    with pytest.raises(ConnectionError), server.call():
        raise ConnectionError
    assert server.silent_seconds == 0
