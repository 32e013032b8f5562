"""Chunk borders do not matter, poison leaves its neighbours alone, values are coded once.

And what a stage says goes where it should.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_args
from unittest.mock import patch

import msgspec
import oracle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipeline import Pipeline, profile

from touchstream.agents import activity, root, stitch
from touchstream.agents.activity import decode_customer_state
from touchstream.agents.customer_messages import decode_customer
from touchstream.agents.identity_messages import IdentityMessage, decode_identity
from touchstream.agents.operations import Operation, SetErased, SetMark, SetRules, SetWord
from touchstream.agents.panes import MEMBERS, PANE, decode_pane
from touchstream.agents.profile import VIEW
from touchstream.agents.rules import Kind
from touchstream.agents.rules_file import default_rules
from touchstream.agents.stitch import Stitch
from touchstream.streams import customer_tables
from touchstream.streams import state as state_module
from touchstream.streams.alerts import Alert, alert_id, decode_alert
from touchstream.streams.customer_tables import (
    CUSTOMERS,
    ISSUES,
    PANES,
    PATHS,
    SESSIONS,
    VISITS,
)
from touchstream.streams.dead_letters import Reason
from touchstream.streams.effects import Effects
from touchstream.streams.internal import unframe
from touchstream.streams.memory_log import MemorySink
from touchstream.streams.positions import POSITION_BYTES, frame, input_position
from touchstream.streams.records import Message, Record
from touchstream.streams.stage import Stage, run_chunk
from touchstream.streams.state import State
from touchstream.streams.table import Row
from touchstream.streams.tables import (
    CHANGES,
    DEAD_LETTERS,
    FACTS,
    IDENTITIES,
    LINKS,
    OVERRIDES,
    REFUSED,
    RULES,
    WORDS,
)
from touchstream.streams.topics import ALERTS, CUSTOMER, DEAD_LETTER, IDENTITY, partition_of

SOURCE, PARTITIONS = 5, 2
STITCH = Stitch(default_rules())
STAGES: dict[str, Stage] = {IDENTITY: STITCH, CUSTOMER: profile()}
KEYS_OF_TABLES = {
    IDENTITIES: ("identity",),
    CUSTOMERS: ("customer_id",),
    SESSIONS: ("customer_id", "started_at"),
    VISITS: ("customer_id", "entered_at", "stage"),
    ISSUES: ("customer_id", "opened_at", "topic"),
    PATHS: ("customer_id", "order_key"),
    PANES: ("metric", "dimension", "member", "resolution", "start", "shard"),
}
INSERTED = (FACTS, LINKS, REFUSED, CHANGES, OVERRIDES, WORDS, RULES)
BOTH = pytest.mark.parametrize("topic", STAGES)


@pytest.fixture(scope="module", autouse=True)
def small_heaps() -> Iterator[None]:
    """Few identities are enough for what needs many."""
    with patch.object(root, "COUNT_FIRST", 2), patch.object(stitch, "SWEPT_AT_ONCE", 8):
        yield


@cache
def log_of(topic: str) -> list[Record]:
    """A partition of a topic as the simulated pipeline left it, replays and duplicates included.

    Operators deny, allow and erase, and change the rules to and fro.
    """
    published = oracle.random_touchpoints(random.Random(4), 12, 120)
    simulation = Pipeline(4, partitions=PARTITIONS, crash_rate=0.01)
    rules = default_rules()
    kinds = {**rules.kinds, "email": Kind(60, max_links=1)}
    strict = msgspec.structs.replace(rules, max_component=4, kinds=kinds)
    found = [oracle.identities(touchpoint) for _, touchpoint in published]
    found = [identities for identities in found if len(identities) > 1]
    pairs = [(one.hex(), other.hex()) for (_, one, _), (_, other, _), *_ in found]
    said: list[Operation] = [SetWord(*pair, False, "ann") for pair in pairs[:6]]
    said += [SetWord(*pair, True, "ann") for pair in pairs[3:5]]
    seen = next(one for one, _ in pairs if partition_of(bytes.fromhex(one), PARTITIONS) == 0)
    said += [SetMark(seen, True, "ann"), SetMark(seen, False, "ann")]
    said += [SetRules(strict, "strict", "bob"), SetRules(rules, "as before", "bob")]
    said += [SetErased(sorted({seen, *(one for one, _ in pairs[:8])}), "ann")]
    for number, (channel, touchpoint) in enumerate(published * 2):
        simulation.publish(channel, touchpoint)
        if said and number % 18 == 17:
            asyncio.run(simulation.drain())
            simulation.operate(said.pop(0))
    asyncio.run(simulation.drain())
    return simulation.log.partitions[topic, 0]


@dataclass
class Played:
    """All that a stage makes of a log."""

    messages: list[Message]
    values: dict[bytes, Any]
    rows: dict[str, list[str]]
    """Of tables into which every row goes as it is made."""
    counts: Counter[tuple[str, str]]
    observed: tuple[list[tuple[str, float]], list[int]]
    latest: list[dict[Row, dict[str, object]]]


def play(stage: Stage, log: Sequence[Record], borders: Sequence[int] = ()) -> Played:
    """Run a stage over a log in chunks that end at the borders."""
    messages: list[Message] = []
    values: dict[bytes, bytes] = {}
    counts: Counter[tuple[str, str]] = Counter()
    observations: list[tuple[str, float]] = []
    caused_at: list[int] = []
    sink = MemorySink()
    for start, end in pairwise(sorted({0, *borders, len(log)})):
        outcome = run_chunk(stage, log[start:end], values, source=SOURCE, partitions=PARTITIONS)
        messages += outcome.messages
        values = {key: value for key, value in (values | outcome.changes).items() if value}
        counts += outcome.counts
        observations += outcome.observations
        caused_at += outcome.caused_at
        asyncio.run(sink.insert(outcome.rows))
    latest = [sink.latest(table, key, "version") for table, key in KEYS_OF_TABLES.items()]
    rows = {table.name: sorted(map(repr, sink.rows[table])) for table in INSERTED}
    return Played(messages, shown(stage, values), rows, counts, (observations, caused_at), latest)


def shown(stage: Stage, values: dict[bytes, bytes]) -> dict[bytes, Any]:
    """Values with panes and members decoded: their maps and sets have no order of their own."""
    if stage.name != "profile":
        return dict(values)
    members = msgspec.msgpack.Decoder(set[str]).decode
    decoders: dict[bytes, Any] = {PANE: decode_pane, MEMBERS: members}
    return {key: decoders.get(key[:1], bytes)(value) for key, value in values.items()}


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
    assert kinds_in(IDENTITY) == {kind.__name__ for kind in get_args(IdentityMessage)}
    assert kinds_in(CUSTOMER) == {"Touched", "Move", "Arrive"}


def test_log_of_identities_makes_rows_of_every_table() -> None:
    assert [name for name, rows in played_at_once(IDENTITY).rows.items() if not rows] == []


def test_log_of_customers_makes_rows_of_every_table() -> None:
    found = zip(KEYS_OF_TABLES, played_at_once(CUSTOMER).latest, strict=True)
    assert {table for table, rows in found if not rows} == {IDENTITIES}


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
        whole = play(profile(), log)
        cut = play(profile(), log, [border % len(log) for border in borders])
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
        "no text": record._replace(value=head + msgspec.msgpack.encode(["odd"])[:-3] + b"\xff" * 3),
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
        ("no text", Reason.WRONG_TYPE),
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
    outcome = run_chunk(STITCH, chunk, {}, source=SOURCE, partitions=PARTITIONS)
    assert outcome.applied == record.offset


@pytest.mark.parametrize(
    ("poison", "last"), [((), 0), ((0, 1, 3), 0), ((1, 3, 4), 2), ((0, 1, 2, 3, 4), 5)]
)
def test_records_rejected_in_a_row_at_the_end_are_counted(poison: Sequence[int], last: int) -> None:
    chunk = [
        record._replace(value=None) if number in poison else record
        for number, record in enumerate(log_of(IDENTITY)[:5])
    ]
    outcome = run_chunk(STITCH, chunk, {}, source=SOURCE, partitions=PARTITIONS)
    assert outcome.rejected_last == last


def test_computing_a_chunk_changes_nothing_but_the_outcome() -> None:
    values: dict[bytes, bytes] = {}
    run_chunk(STITCH, log_of(IDENTITY)[:30], values, source=SOURCE, partitions=PARTITIONS)
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


def test_keys_of_a_prefix_are_sorted_and_as_the_chunk_has_left_them() -> None:
    state = State({key: encoded([1]) for key in (b"b2", b"b1", b"a", b"b3")})
    state.put(b"b0", [2])
    state.put(b"c", [2])
    state.put(b"b1", None)
    state.put(b"b2", [3])
    assert state.keys(b"b") == [b"b0", b"b2", b"b3"]


def test_key_that_was_removed_and_put_again_is_there() -> None:
    state = State({b"k": encoded([1])})
    state.put(b"k", None)
    state.put(b"k", [2])
    assert state.keys(b"") == [b"k"]


PLACE = Record("topic", 5, 77, 1_700, b"key", b"value")
"""Of a partition beyond those that topics have here."""


def effects_of(*records: Record) -> Effects:
    effects = Effects(SOURCE, PARTITIONS)
    for record in records or (PLACE,):
        effects.begin(record)
    return effects


KEYS = st.binary(min_size=16, max_size=16)


@given(KEYS)
def test_message_goes_to_the_partition_of_its_key(key: bytes) -> None:
    effects = effects_of()
    effects.send(IDENTITY, key, b"body")
    (message,) = effects.messages
    assert message.partition == partition_of(key, PARTITIONS)


def test_broadcast_goes_to_every_partition() -> None:
    effects = Effects(SOURCE, 5)
    effects.begin(PLACE)
    effects.broadcast(IDENTITY, bytes(16), b"body")
    assert [(m.topic, m.partition, m.key) for m in effects.messages] == [
        (IDENTITY, partition, bytes(16)) for partition in range(5)
    ]
    assert {(m.value or b"")[POSITION_BYTES:] for m in effects.messages} == {b"body"}


@pytest.mark.parametrize("partition", [0, 1])
def test_message_can_go_to_a_partition_whatever_its_key(partition: int) -> None:
    effects = effects_of()
    effects.send_to(IDENTITY, partition, bytes(16), b"body")
    assert [m.partition for m in effects.messages] == [partition]


def test_messages_of_all_sorts_stand_at_rising_positions() -> None:
    effects = effects_of()
    effects.send(IDENTITY, bytes(16), b"body")
    effects.broadcast(IDENTITY, bytes(16), b"body")
    effects.send_to(IDENTITY, 1, bytes(16), b"body")
    positions = [(m.value or b"")[:POSITION_BYTES] for m in effects.messages]
    assert positions == sorted(set(positions))


def test_positions_begin_anew_with_each_record() -> None:
    effects = effects_of()
    effects.send(IDENTITY, bytes(16), b"")
    effects.begin(PLACE._replace(offset=78))
    effects.send(IDENTITY, bytes(16), b"")
    assert [message.value for message in effects.messages] == [
        frame(input_position(SOURCE, 5, offset), 0, b"") for offset in (77, 78)
    ]


def alerted(times: int = 1) -> Effects:
    effects = effects_of()
    for _ in range(times):
        effects.alert("shared", "Why.", cause=("a", "b"), customer="c1", evidence={"links": 3})
    return effects


def test_alert_has_the_place_and_time_of_its_record() -> None:
    (message,) = alerted().messages
    assert (message.topic, message.partition, message.key) == (ALERTS, 5 % PARTITIONS, None)
    assert decode_alert(message.value) == Alert(
        alert_id=alert_id("shared", "a", "b"),
        kind="shared",
        raised_at=1_700,
        customer_id="c1",
        reason="Why.",
        evidence={"links": "3"},
        source_topic="topic",
        source_partition=5,
        source_offset=77,
    )


def test_alert_is_a_row_too() -> None:
    row = (alert_id("shared", "a", "b"), "shared", 1_700, "c1", "Why.", {"links": "3"})
    assert alerted().rows == {customer_tables.ALERTS: [row]}


def test_alert_is_counted_by_its_kind() -> None:
    assert alerted(2).counts == {("alerts", "shared"): 2}


def test_alert_takes_no_position_of_the_messages_to_agents() -> None:
    effects = alerted()
    effects.send(IDENTITY, bytes(16), b"")
    assert effects.messages[1].value == frame(input_position(SOURCE, 5, 77), 0, b"")


class Observer:
    """A stage that only measures."""

    name = "observer"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        effects.observe("size", record.offset)
        effects.repaired(record.timestamp_ms)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        effects.observe("size", -1)


def test_outcome_has_what_was_observed_in_order() -> None:
    records = [PLACE, PLACE._replace(offset=78, timestamp_ms=1_800)]
    outcome = run_chunk(Observer(), records, {}, source=SOURCE, partitions=PARTITIONS)
    assert outcome.observations == [("size", 77), ("size", 78), ("size", -1)]
    assert outcome.caused_at == [1_700, 1_800]
