"""Chunk borders do not matter, poison leaves its neighbours alone, values are coded once."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import msgspec
import oracle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipeline import Pipeline

from touchstream.agents import activity
from touchstream.agents.activity import decode_customer_state
from touchstream.agents.messages import decode_customer, decode_identity
from touchstream.agents.profile import VIEW, Profile
from touchstream.agents.stitch import Stitch
from touchstream.streams import state as state_module
from touchstream.streams.dead_letters import Reason
from touchstream.streams.internal import unframe
from touchstream.streams.memory_log import MemorySink
from touchstream.streams.records import Message, Record
from touchstream.streams.stage import Stage, run_chunk
from touchstream.streams.state import State
from touchstream.streams.tables import CUSTOMERS, DEAD_LETTERS, FACTS, IDENTITIES, PANES, Row
from touchstream.streams.topics import CUSTOMER, DEAD_LETTER, IDENTITY

SOURCE, PARTITIONS = 5, 2
STAGES: dict[str, Stage] = {IDENTITY: Stitch(), CUSTOMER: Profile()}
BOTH = pytest.mark.parametrize("topic", STAGES)


@cache
def log_of(topic: str) -> list[Record]:
    """A partition of a topic as the simulated pipeline left it, replays and duplicates included."""
    published = oracle.random_touchpoints(random.Random(4), 12, 120)
    simulation = Pipeline(4, partitions=PARTITIONS, crash_rate=0.01)
    for channel, touchpoint in published * 2:
        simulation.publish(channel, touchpoint)
    asyncio.run(simulation.drain())
    return simulation.log.partitions[topic, 0]


@dataclass
class Played:
    """All that a stage makes of a log."""

    messages: list[Message]
    values: dict[bytes, bytes]
    facts: list[Row]
    counts: Counter[tuple[str, str]]
    latest: list[dict[Row, dict[str, object]]]


def play(stage: Stage, log: Sequence[Record], borders: Sequence[int] = ()) -> Played:
    """Run a stage over a log in chunks that end at the borders."""
    messages: list[Message] = []
    values: dict[bytes, bytes] = {}
    counts: Counter[tuple[str, str]] = Counter()
    sink = MemorySink()
    for start, end in pairwise(sorted({0, *borders, len(log)})):
        outcome = run_chunk(stage, log[start:end], values, source=SOURCE, partitions=PARTITIONS)
        messages += outcome.messages
        values |= outcome.changes
        counts += outcome.counts
        asyncio.run(sink.insert(outcome.rows))
    latest = [
        sink.latest(IDENTITIES, ("identity",), "version"),
        sink.latest(CUSTOMERS, ("customer_id",), "version"),
        sink.latest(PANES, ("metric", "member", "resolution", "start"), "version"),
    ]
    values = {key: value for key, value in values.items() if value}
    return Played(messages, values, sink.rows[FACTS], counts, latest)


@cache
def played_at_once(topic: str) -> Played:
    return play(STAGES[topic], log_of(topic))


BORDERS = st.lists(st.integers(0, 2000), max_size=40)
EACH_ALONE = list(range(2000))


@cache
def kinds_in(topic: str) -> set[str]:
    decode: Any = {IDENTITY: decode_identity, CUSTOMER: decode_customer}[topic]
    return {type(decode(unframe(record)[-1])).__name__ for record in log_of(topic)}


def test_logs_hold_every_kind_of_message() -> None:
    assert kinds_in(IDENTITY) == {"Touch", "Link", "Root", "Report", "Assign"}
    assert kinds_in(CUSTOMER) == {"Touched", "Move", "Arrive"}


@BOTH
def test_logs_hold_replays(topic: str) -> None:
    assert played_at_once(topic).counts["replayed", ""] > 0


@BOTH
@settings(max_examples=25, deadline=None)
@example(borders=EACH_ALONE)
@given(borders=BORDERS)
def test_outcome_does_not_depend_on_chunk_borders(topic: str, borders: list[int]) -> None:
    log = log_of(topic)
    found = play(STAGES[topic], log, [border % len(log) for border in borders])
    assert found == played_at_once(topic)


def customers_in(played: Played) -> dict[bytes, Any]:
    """Decoded: a set of folded keys has no order of its own."""
    values = played.values.items()
    return {key: decode_customer_state(value) for key, value in values if key[:1] == VIEW}


@settings(max_examples=10, deadline=None)
@example(borders=EACH_ALONE, recent=1)
@given(borders=BORDERS, recent=st.integers(1, 3))
def test_folding_does_not_depend_on_chunk_borders(borders: list[int], recent: int) -> None:
    log = log_of(CUSTOMER)
    with patch.object(activity, "RECENT_EVENTS", recent):
        whole = play(Profile(), log)
        cut = play(Profile(), log, [border % len(log) for border in borders])
    assert customers_in(cut) == customers_in(whole)
    assert cut.latest == whole.latest


def poisoned(record: Record, kind: str) -> Record:
    value = record.value or b""
    body = unframe(record)[-1]
    head = value[: len(value) - len(body)]
    return {
        "null": record._replace(value=None),
        "no key": record._replace(key=None),
        "short key": record._replace(key=b"short"),
        "no body": record._replace(value=head),
        "not msgpack": record._replace(value=head + b"\xc1"),
        "odd tag": record._replace(value=head + msgspec.msgpack.encode(["odd"])),
        "wrong type": record._replace(value=head + body[:-1]),
    }[kind]


@BOTH
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("null", Reason.NULL_VALUE),
        ("no key", Reason.BAD_FRAMING),
        ("short key", Reason.BAD_FRAMING),
        ("no body", Reason.BAD_FRAMING),
        ("not msgpack", Reason.WRONG_TYPE),
        ("odd tag", Reason.WRONG_TYPE),
        ("wrong type", Reason.WRONG_TYPE),
    ],
)
def test_poison_record_becomes_a_dead_letter_and_its_neighbours_stay(
    topic: str, kind: str, reason: Reason
) -> None:
    before, record, *after = log_of(topic)[:30]
    poison = poisoned(record, kind)
    options = {"source": SOURCE, "partitions": PARTITIONS}
    clean = run_chunk(STAGES[topic], [before, *after], {}, **options)
    found = run_chunk(STAGES[topic], [before, poison, *after], {}, **options)
    letters = [message for message in found.messages if message.topic == DEAD_LETTER]
    assert [(m.key, m.value, dict(m.headers)["reason"]) for m in letters] == [
        (poison.key, poison.value, reason.encode())
    ]
    assert [row[4] for row in found.rows.pop(DEAD_LETTERS)] == [reason]
    assert found.counts.pop(("dead_letters", reason)) == 1
    assert [message for message in found.messages if message not in letters] == clean.messages
    assert (found.rows, found.changes, found.counts) == (clean.rows, clean.changes, clean.counts)


def test_chunk_that_ends_in_poison_is_applied_to_its_end() -> None:
    before, record = log_of(IDENTITY)[:2]
    chunk = [before, record._replace(value=None)]
    outcome = run_chunk(Stitch(), chunk, {}, source=SOURCE, partitions=PARTITIONS)
    assert outcome.applied == record.offset


def test_computing_a_chunk_changes_nothing_but_the_outcome() -> None:
    values: dict[bytes, bytes] = {}
    run_chunk(Stitch(), log_of(IDENTITY)[:30], values, source=SOURCE, partitions=PARTITIONS)
    assert values == {}


class Decoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, value: bytes) -> list[int]:
        self.calls += 1
        return msgspec.msgpack.decode(value, type=list[int])


def encoded(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def test_object_is_decoded_once_a_chunk() -> None:
    state, decode = State({b"k": encoded([1])}), Decoder()
    assert state.get(b"k", decode) is state.get(b"k", decode)
    assert decode.calls == 1


def test_object_that_was_put_is_not_decoded() -> None:
    state, decode = State({b"k": encoded([1])}), Decoder()
    state.put(b"k", [2])
    assert state.get(b"k", decode) == [2]
    assert decode.calls == 0


def test_object_is_encoded_once_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def encode(value: object) -> bytes:
        calls.append(value)
        return encoded(value)

    monkeypatch.setattr(state_module, "encode", encode)
    state = State({})
    numbers: list[int] = []
    for number in range(5):
        numbers.append(number)
        state.put(b"k", numbers)
    assert state.encode_changes() == {b"k": encoded([0, 1, 2, 3, 4])}
    assert len(calls) == 1


def test_object_that_was_only_read_is_not_written() -> None:
    state = State({b"k": encoded([1])})
    state.get(b"k", Decoder())
    assert state.encode_changes() == {}


def test_missing_key_is_none_without_decoding() -> None:
    decode = Decoder()
    assert State({}).get(b"k", decode) is None
    assert decode.calls == 0


def test_removed_key_is_gone_at_once_and_empty_in_the_changes() -> None:
    state = State({b"k": encoded([1])})
    state.put(b"k", None)
    assert state.get(b"k", Decoder()) is None
    assert state.encode_changes() == {b"k": b""}


def test_removed_key_can_be_put_again() -> None:
    state = State({b"k": encoded([1])})
    state.put(b"k", None)
    state.put(b"k", [2])
    assert state.encode_changes() == {b"k": encoded([2])}


def test_changes_stand_in_the_order_of_their_first_put() -> None:
    state = State({})
    for key in (b"b", b"a", b"b"):
        state.put(key, [1])
    assert list(state.changed) == [b"b", b"a"]
