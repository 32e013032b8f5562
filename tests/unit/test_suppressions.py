"""What was erased is known by identity and moment, in the order in which operators said it."""

import logging

import pytest

from touchstream.agents.heard import Heard
from touchstream.agents.operations import SetErased, encode_operation
from touchstream.agents.suppressions import FOREVER, Suppressions, erased_until
from touchstream.streams.records import Record
from touchstream.streams.topics import OPERATIONS

ANN, BOB = bytes(range(16)), bytes(range(16, 32))
ERASED = SetErased([ANN.hex()], "op")
BACK = SetErased([ANN.hex()], "op", back=True)


def said(*operations: SetErased) -> Suppressions:
    """Said as number 1, 2, ... at 1000, 2000, ... ms."""
    found = Suppressions()
    for number, operation in enumerate(operations, 1):
        found.add(number, 1000 * number, operation)
    return found


def test_nothing_is_erased_at_first() -> None:
    assert not Suppressions()
    assert not Suppressions().hold(ANN, -1)


@pytest.mark.parametrize("at_ms", [0, 1000, FOREVER - 1])
def test_an_erased_identity_stays_erased(at_ms: int) -> None:
    assert said(ERASED).hold(ANN, at_ms)
    assert not said(ERASED).hold(BOB, at_ms)


def test_one_that_came_back_is_erased_up_to_that_moment() -> None:
    found = said(ERASED, BACK)
    assert [found.hold(ANN, at) for at in (1999, 2000, 2001)] == [True, False, False]
    assert erased_until(BACK, 2000) == 2000


def test_it_may_be_erased_again() -> None:
    assert said(ERASED, BACK, ERASED).hold(ANN, 5000)


def test_what_was_said_before_an_erasure_is_out_of_date() -> None:
    found = said(BACK, ERASED, BACK)
    assert [found.outdate(ANN, number) for number in (1, 2, 3)] == [True, False, False]
    assert not found.outdate(BOB, 0)


def test_an_erasure_of_what_is_no_token_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    value = encode_operation(SetErased([ANN.hex(), "no token"], "op"))
    with caplog.at_level(logging.WARNING):
        heard.take(Record(OPERATIONS, 0, 3, 1000, None, value))
    assert "offset=3" in caplog.text
    assert not heard.suppressions
