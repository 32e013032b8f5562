"""What operators say reaches the identities it is about, and nothing else does."""

import json
from typing import Any

import pytest

from touchstream.agents.evidence import Mark
from touchstream.agents.heard import Heard
from touchstream.agents.identity_messages import (
    Erase,
    IdentityMessage,
    Marked,
    Ruled,
    Said,
    decode_identity,
)
from touchstream.agents.judgement import Refused
from touchstream.agents.operate import Operate
from touchstream.agents.operations import (
    Operation,
    SetErased,
    SetMark,
    SetRules,
    SetWord,
    decode_operation,
    encode_operation,
)
from touchstream.agents.resolution import Word
from touchstream.agents.rules_file import default_rules
from touchstream.agents.suppressions import FOREVER
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.internal import unframe
from touchstream.streams.records import Message, Record
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.tables import DEAD_LETTERS
from touchstream.streams.topics import DEAD_LETTER, IDENTITY, OPERATIONS, partition_of

NOW_MS = 1_700_000_000_000
SOURCE, PARTITIONS = 5, 4
A, B = bytes(range(16)), bytes(range(100, 116))
WORD = SetWord(A.hex(), B.hex(), True, "ann", "same person")
RULES = SetRules(default_rules(), "the file", "ann")


def record(value: bytes | None, offset: int = 6, partition: int = 0) -> Record:
    return Record(OPERATIONS, partition, offset, NOW_MS, None, value)


def operate(*records: Record) -> Outcome:
    return run_chunk(Operate(), records, {}, source=SOURCE, partitions=PARTITIONS)


def said(operation: Operation, offset: int = 6) -> list[Message]:
    return operate(record(encode_operation(operation), offset)).messages


def told(message: Message) -> IdentityMessage:
    body = unframe(Record(message.topic, message.partition, 0, 0, message.key, message.value))[-1]
    return decode_identity(body)


@pytest.mark.parametrize(
    ("operation", "key", "expected"),
    [
        (WORD, A, Said(B, Word(7, True, "ann", "same person", NOW_MS))),
        (
            SetWord(B.hex(), A.hex(), False, "bob"),
            B,
            Said(A, Word(7, False, "bob", "", NOW_MS)),
        ),
        (
            SetMark(A.hex(), True, "ann", "a switchboard"),
            A,
            Marked(Mark(7, Refused.SHARED, "ann", "a switchboard", NOW_MS)),
        ),
        (SetMark(A.hex(), False, "bob"), A, Marked(Mark(7, None, "bob", "", NOW_MS))),
    ],
    ids=["allow", "deny", "mark", "unmark"],
)
def test_word_goes_to_the_identity_it_names_first(
    operation: Operation, key: bytes, expected: IdentityMessage
) -> None:
    (message,) = said(operation)
    assert (message.topic, message.key) == (IDENTITY, key)
    assert message.partition == partition_of(key, PARTITIONS)
    assert told(message) == expected


@pytest.mark.parametrize(
    ("back", "reason", "until"),
    [(False, Refused.ERASED, FOREVER), (True, None, NOW_MS)],
    ids=["erase", "back"],
)
def test_erasure_goes_to_each_identity(back: bool, reason: Refused | None, until: int) -> None:
    messages = said(SetErased([A.hex(), B.hex()], "ann", "request 17", back))
    assert [message.key for message in messages] == [A, B]
    mark = Mark(7, reason, "ann", "request 17", NOW_MS)
    assert [told(message) for message in messages] == [Erase(mark, until)] * 2


@pytest.mark.parametrize("operation", [WORD, SetMark(B.hex(), True, "ann")], ids=["word", "mark"])
@pytest.mark.parametrize(("number", "passed"), [(6, 1), (7, 1), (8, 0)])
def test_what_was_said_of_an_identity_before_it_was_erased_is_not_passed_on(
    operation: Operation, number: int, passed: int
) -> None:
    """The operation is number 7; when the log is read again, later erasures are known."""
    heard = Heard()
    heard.suppressions.add(number, NOW_MS, SetErased([B.hex()], "ann"))
    records = [record(encode_operation(operation))]
    outcome = run_chunk(Operate(heard), records, {}, source=SOURCE, partitions=PARTITIONS)
    assert len(outcome.messages) == passed
    assert outcome.counts["suppressed", ""] == 1 - passed


def test_rules_go_to_every_partition() -> None:
    messages = said(RULES)
    assert [(m.topic, m.partition) for m in messages] == [(IDENTITY, p) for p in range(PARTITIONS)]
    expected = Ruled(7, default_rules(), "ann", NOW_MS, "the file")
    assert [told(message) for message in messages] == [expected] * PARTITIONS


@pytest.mark.parametrize("offset", [0, 1, 41])
def test_number_of_an_operation_is_its_place_in_the_log_from_one_on(offset: int) -> None:
    for message in said(WORD, offset) + said(RULES, offset):
        heard = told(message)
        assert isinstance(heard, Said | Ruled)
        number = heard.word.number if isinstance(heard, Said) else heard.number
        assert number == offset + 1


def test_operations_keep_no_state_and_write_no_rows() -> None:
    outcome = operate(record(encode_operation(WORD)), record(encode_operation(RULES), 7))
    assert (outcome.changes, outcome.rows) == ({}, {})


@pytest.mark.parametrize("operation", [WORD, SetMark(A.hex(), True, "ann"), RULES])
def test_operation_comes_back_as_it_was_said(operation: Operation) -> None:
    assert decode_operation(encode_operation(operation)) == operation


def altered(**fields: Any) -> bytes:
    """The word with other fields; None leaves one out."""
    whole = {**json.loads(encode_operation(WORD)), **fields}
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


DEEP = b'{"x": ' + b"[" * 100_000

POISON = {
    "no value": (None, Reason.NULL_VALUE),
    "empty": (b"", Reason.WRONG_TYPE),
    "no JSON": (b"allow!", Reason.WRONG_TYPE),
    "cut": (encode_operation(WORD)[:-1], Reason.WRONG_TYPE),
    "no object": (b"[]", Reason.WRONG_TYPE),
    "no text": (b'{"operation": "\xff"}', Reason.WRONG_TYPE),
    "too deep": (DEEP, Reason.WRONG_TYPE),
    "unknown operation": (altered(operation="forget"), Reason.WRONG_TYPE),
    "no operation": (altered(operation=None), Reason.WRONG_TYPE),
    "no operator": (altered(operator=None), Reason.WRONG_TYPE),
    "no flag": (altered(allow="yes"), Reason.WRONG_TYPE),
    "number for a token": (altered(one=1), Reason.WRONG_TYPE),
    "empty token": (altered(one=""), Reason.INVALID_VALUE),
    "short token": (altered(one=A.hex()[2:]), Reason.INVALID_VALUE),
    "long token": (altered(other=B.hex() + "00"), Reason.INVALID_VALUE),
    "odd token": (altered(other=B.hex()[1:]), Reason.INVALID_VALUE),
    "customer for a token": (altered(one="c" + A.hex()), Reason.INVALID_VALUE),
    "kind and value for a token": (altered(other="email:ann@b.c"), Reason.INVALID_VALUE),
    "one identity only": (altered(other=A.hex()), Reason.INVALID_VALUE),
    "one identity in two spellings": (altered(other=A.hex().upper()), Reason.INVALID_VALUE),
    "erasure of no token": (
        encode_operation(SetErased([A.hex(), "no token"], "ann")),
        Reason.INVALID_VALUE,
    ),
    "no mark of a token": (
        encode_operation(SetMark("cookie:1", True, "ann")),
        Reason.INVALID_VALUE,
    ),
    "rules without kinds": (
        b'{"operation": "rules", "rules": [], "text": "", "operator": "ann"}',
        Reason.WRONG_TYPE,
    ),
    "rules that allow nothing": (
        encode_operation(RULES).replace(b",200,1000,50,", b",0,0,0,"),
        Reason.WRONG_TYPE,
    ),
}


@pytest.mark.parametrize("name", POISON)
def test_what_is_no_operation_becomes_a_dead_letter(name: str) -> None:
    value, reason = POISON[name]
    outcome = operate(record(value))
    (letter,) = outcome.messages
    assert (letter.topic, letter.value) == (DEAD_LETTER, value)
    assert dict(letter.headers)["reason"] == reason.encode()
    assert [row[4] for row in outcome.rows[DEAD_LETTERS]] == [reason]


def test_what_is_no_operation_raises_a_poison_error() -> None:
    with pytest.raises(PoisonError) as raised:
        decode_operation(altered(operator=None))
    assert raised.value.reason == Reason.WRONG_TYPE


@pytest.mark.parametrize("operation", [WORD, RULES], ids=["word", "rules"])
@pytest.mark.parametrize("partition", [1, 3])
def test_operation_in_another_partition_has_no_place_in_the_order(
    operation: Operation, partition: int
) -> None:
    (letter,) = operate(record(encode_operation(operation), partition=partition)).messages
    assert letter.topic == DEAD_LETTER
    assert dict(letter.headers)["reason"] == Reason.INVALID_VALUE.encode()


def test_operations_around_poison_are_passed_on() -> None:
    value = encode_operation(WORD)
    messages = operate(record(value), record(b"", 7), record(value, 8)).messages
    assert [message.topic for message in messages] == [IDENTITY, DEAD_LETTER, IDENTITY]
