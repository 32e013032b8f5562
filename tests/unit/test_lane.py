"""The order inside a chunk, replays, sizes of chunks, and what a failing port leaves behind."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.streams import lane as lane_module
from touchstream.streams.changelog import MARKER, Changelog
from touchstream.streams.effects import Effects
from touchstream.streams.errors import TransientError
from touchstream.streams.lane import (
    RECORD_OVERHEAD_BYTES,
    Lane,
    Layers,
    Ports,
    batches,
    by_partition,
)
from touchstream.streams.log import Entry, Reading
from touchstream.streams.memory_log import MemoryLog
from touchstream.streams.records import Message, Record
from touchstream.streams.stage import Outcome, Stage, run_chunk
from touchstream.streams.state import State
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import FACTS

INPUT, OUTPUT, STATE = "in", "out", "cx.state.copy"
KEY = bytes(16)


class Copy:
    """Sends, inserts and keeps every record."""

    name = "copy"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        assert record.value is not None
        effects.send(OUTPUT, KEY, b"%04d" % record.offset)
        effects.insert(FACTS, (record.offset,))
        state.put(b"k%d" % record.offset, record.value)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        pass


@dataclass
class World:
    """Log, sink and observer that take several turns of the loop and record when they are done."""

    log: MemoryLog = field(default_factory=MemoryLog)
    rows: list[Row] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    broken: str = ""

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        await self._call(topic)
        offset = self.log.extend(topic, partition, entries)
        self.calls.append(f"{topic} done")
        return offset

    def read(self, topic: str, partition: int, start: int) -> Reading:
        return self.log.read(topic, partition, start)

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        await self._call("rows")
        self.rows.extend(rows[FACTS])
        self.calls.append("rows done")

    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None:
        assert records == len(outcome.messages) and seconds >= 0
        self.outcomes.append(outcome)
        self.calls.append("observed")

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        for _ in range(3):
            await asyncio.sleep(0)
        if name == self.broken:
            raise ConnectionError(name)

    @property
    def sent(self) -> list[int]:
        """Offsets of the input records whose messages were appended."""
        return [int((record.value or b"")[-4:]) for record in self.log.partitions[OUTPUT, 0]]


def records(start: int, end: int, size: int = 1) -> list[Record]:
    return [Record(INPUT, 0, offset, 0, None, b"v" * size) for offset in range(start, end)]


def taken(world: World, *, stateful: bool = True) -> Lane:
    ports = Ports(world, world, world, 1, {INPUT: 1})
    changelog = Changelog(world, STATE, 0, 1) if stateful else None
    lane = Lane(Copy(), INPUT, 0, ports, changelog)
    asyncio.run(lane.take())
    world.calls.clear()
    return lane


def process(lane: Lane, chunk: Sequence[Record]) -> None:
    asyncio.run(lane.process(chunk))


def test_messages_and_rows_are_stored_before_state_and_state_before_acknowledgement() -> None:
    world = World()
    process(taken(world), records(0, 3))
    sent, stored = [OUTPUT, f"{OUTPUT} done"], ["rows", "rows done"]
    assert world.calls == [*sent, *stored, STATE, f"{STATE} done", "observed"]


def test_chunks_are_computed_ahead_and_stored_together() -> None:
    world = World()
    lane = taken(world)

    async def advance_twice() -> None:
        await lane.advance(records(0, 2))
        await lane.advance(records(1, 5))
        assert (world.sent, world.rows, lane.applied) == ([0, 1, 2, 3, 4], [], -1)
        assert (lane.advanced, len(lane.values)) == (4, 5)
        await lane.save()

    asyncio.run(advance_twice())
    assert [world.calls.count(name) for name in ("rows", STATE, "observed")] == [1, 1, 2]
    assert (lane.applied, len(world.rows), len(lane.values)) == (4, 5, 5)


def test_chunk_computed_while_another_is_stored_sees_its_state() -> None:
    world = World()
    lane = taken(world)

    async def meanwhile() -> None:
        await lane.advance(records(0, 2))
        saving = asyncio.create_task(lane.save())
        await asyncio.sleep(0)
        assert world.calls[-1] == "rows"
        await lane.advance(records(2, 4))
        assert len(lane.values) == 4
        await saving
        assert (lane.applied, lane.advanced, len(lane.values)) == (1, 3, 4)
        await lane.save()

    asyncio.run(meanwhile())
    assert lane.applied == 3
    assert world.rows == [(offset,) for offset in range(4)]


def test_too_many_rows_ahead_are_stored_before_anything_more_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane_module, "ROWS_AHEAD", 10)
    world = World()
    lane = taken(world)
    asyncio.run(lane.advance(records(0, 10)))
    assert lane.applied == -1
    asyncio.run(lane.advance(records(10, 11)))
    assert lane.applied == 10


@pytest.mark.parametrize("key", [b"new", b"old", b"gone", b"back", b"never"])
def test_newer_layers_hide_older_ones(key: bytes) -> None:
    new, old = {b"new": b"1", b"gone": b"", b"back": b"2"}, {b"gone": b"3", b"old": b"4"}
    layers = Layers(new, {b"back": b""}, old)
    wanted = {b"new": b"1", b"back": b"2", b"old": b"4"}
    assert (layers.get(key), key in layers) == (wanted.get(key), key in wanted)
    assert dict(layers) == wanted
    assert len(layers) == 3


def test_chunk_makes_one_batch_of_each() -> None:
    world = World()
    process(taken(world), records(0, 100))
    assert world.calls.count(OUTPUT) == world.calls.count("rows") == world.calls.count(STATE) == 1


def test_replayed_records_are_skipped() -> None:
    world = World()
    lane = taken(world)
    process(lane, records(0, 3))
    process(lane, records(1, 5))
    assert world.rows == [(0,), (1,), (2,), (3,), (4,)]
    assert lane.applied == 4


def test_chunk_that_is_all_replay_writes_nothing() -> None:
    world = World()
    lane = taken(world)
    process(lane, records(0, 5))
    world.calls.clear()
    process(lane, records(0, 3))
    assert world.calls == []
    assert lane.applied == 4


def test_successor_skips_what_its_predecessor_applied() -> None:
    world = World()
    process(taken(world), records(0, 3))
    successor = taken(world)
    process(successor, records(0, 4))
    assert world.rows == [(0,), (1,), (2,), (3,)]
    assert successor.values == {b"k%d" % offset: b"\xc4\x01v" for offset in range(4)}


def test_lane_without_state_skips_what_it_has_computed_and_what_is_committed() -> None:
    world = World()
    lane = taken(world, stateful=False)
    lane.begin(1)
    process(lane, records(0, 3))
    lane.begin(0)  # it has begun
    process(lane, records(0, 4))
    assert world.rows == [(1,), (2,), (3,)]
    assert STATE not in world.calls


@pytest.mark.parametrize(
    ("applied", "offsets", "known", "missing"),
    [
        (4, [5, 6, 7], -1, None),
        (4, [3, 4, 5], -1, None),
        (4, [2, 3], -1, None),
        (4, [6, 7], -1, 5),
        (4, [5, 7], -1, 6),
        (4, [3, 7], -1, 5),
        (4, [5, 8, 11], -1, 6),
        (4, [5, 8, 11], 7, 9),
        (4, [5, 8, 11], 6, 7),
        (4, [5, 8, 11], 10, None),
        (4, [9], 8, None),
        (4, [9], 6, 7),
        (-1, [0, 1], -1, None),
        (-1, [3], -1, 0),
    ],
)
def test_first_missing_offset_above_those_that_need_not_be_there(
    applied: int, offsets: list[int], known: int, missing: int | None
) -> None:
    lane = taken(World(), stateful=False)
    lane.begin(applied + 1)
    chunk = [Record(INPUT, 0, offset, 0, None, b"v") for offset in offsets]
    assert lane.missing(chunk, known) == missing


def state_batches(world: World) -> list[int]:
    """Bytes of changed keys and values in each state batch."""
    sizes, size = [], 0
    for record in world.log.partitions[STATE, 0]:
        if record.key == MARKER:
            sizes.append(size)
            size = 0
        elif record.key and record.key.startswith(b"k"):
            size += len(record.key) + len(record.value or b"") - 4
    return sizes


def test_chunk_whose_state_would_be_too_large_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "BATCH_BYTES", 1000)
    world = World()
    lane = taken(world)
    process(lane, records(0, 16, size=100))
    assert max(state_batches(world)) <= 500
    assert len(state_batches(world)) == 4
    assert world.sent == list(range(16))
    assert (lane.applied, len(lane.values)) == (15, 16)


def test_size_of_chunks_is_learned_so_nothing_is_computed_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane_module, "BATCH_BYTES", 1000)
    world = World()
    lane = taken(world)
    process(lane, records(0, 16, size=100))
    computed: list[int] = []

    def watched(stage: Stage, chunk: Sequence[Record], *values: Any, **where: Any) -> Outcome:
        computed.extend(record.offset for record in chunk)
        return run_chunk(stage, chunk, *values, **where)

    monkeypatch.setattr(lane_module, "run_chunk", watched)
    process(lane, records(16, 64, size=100))
    assert computed == list(range(16, 64))


def test_chunks_grow_again_when_state_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "BATCH_BYTES", 1000)
    world = World()
    lane = taken(world)
    process(lane, [*records(0, 4, size=400), *records(4, 1000)])
    assert len(world.outcomes) < 60


def test_record_with_too_large_a_state_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "BATCH_BYTES", 1000)
    world = World()
    process(taken(world), [*records(0, 1, size=800), *records(1, 4)])
    assert world.rows == [(0,), (1,), (2,), (3,)]
    assert [outcome.applied for outcome in world.outcomes] == [0, 1, 3]


@pytest.mark.parametrize("broken", [OUTPUT, "rows"])
def test_failing_port_leaves_the_state_as_it_was(broken: str) -> None:
    world = World()
    lane = taken(world)
    world.broken = broken
    with pytest.raises(ConnectionError):
        process(lane, records(0, 3))
    assert not any(call.startswith((STATE, "observed")) for call in world.calls)
    assert lane.changelog is not None
    assert (lane.applied, lane.changelog.image.values) == (-1, {})


def test_chunk_is_not_observed_when_its_state_could_not_be_stored() -> None:
    world = World()
    lane = taken(world)
    world.broken = STATE
    with pytest.raises(ConnectionError):
        process(lane, records(0, 3))
    assert "observed" not in world.calls
    assert lane.applied == -1


def test_messages_stay_in_order_where_they_go() -> None:
    messages = [Message("t", n % 2, b"k", b"%d" % n) for n in range(5)]
    found = by_partition(messages)
    assert {place: [value for _, value, _ in entries] for place, entries in found.items()} == {
        ("t", 0): [b"0", b"2", b"4"],
        ("t", 1): [b"1", b"3"],
    }


def test_headers_travel_with_their_message() -> None:
    found = by_partition([Message("t", 0, b"k", b"v", (("reason", b"odd"),))])
    assert found["t", 0] == [(b"k", b"v", (("reason", b"odd"),))]


SIZES = st.none() | st.integers(0, 400).map(bytes)
LIMIT = 1000


def entry_bytes(entry: Entry) -> int:
    return RECORD_OVERHEAD_BYTES + len(entry[0] or b"") + len(entry[1] or b"")


@given(st.lists(st.tuples(SIZES, st.none() | st.integers(0, 1200).map(bytes), st.just(()))))
def test_batches_stay_below_the_limit_or_hold_one_entry(entries: list[Entry]) -> None:
    for batch in batches(entries, LIMIT):
        assert len(batch) == 1 or sum(map(entry_bytes, batch)) <= LIMIT


@given(st.lists(st.tuples(SIZES, SIZES, st.just(()))))
def test_batches_hold_every_entry_in_order(entries: list[Entry]) -> None:
    assert [entry for batch in batches(entries, LIMIT) for entry in batch] == entries


@given(st.lists(st.tuples(SIZES, SIZES, st.just(()))))
def test_batch_ends_only_where_the_next_entry_has_no_room(entries: list[Entry]) -> None:
    found = list(batches(entries, LIMIT))
    for batch, following in zip(found, found[1:], strict=False):
        assert sum(map(entry_bytes, [*batch, following[0]])) > LIMIT


@pytest.mark.parametrize("broken", ["rows", STATE])
def test_nothing_is_stored_after_a_save_that_failed(broken: str) -> None:
    """A later marker would pass over the state that was not stored."""
    world = World()
    lane = taken(world)

    async def two_saves() -> tuple[BaseException | None, BaseException | None]:
        await lane.advance(records(0, 2))
        world.broken = broken
        first = asyncio.create_task(lane.save())
        await asyncio.sleep(0)
        await lane.advance(records(2, 4))
        second = asyncio.create_task(lane.save())
        await asyncio.wait([first])
        world.broken = ""
        return await asyncio.gather(first, second, return_exceptions=True)

    before = len(world.log.partitions[STATE, 0])
    failures = asyncio.run(two_saves())
    assert [type(each) for each in failures] == [ConnectionError, TransientError]
    assert len(world.log.partitions[STATE, 0]) == before
