"""Routing of chunks to lanes, revocation, assignment, failure, the first seek, and stopping."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from touchstream.streams.changelog import Changelog
from touchstream.streams.dead_letters import Reason
from touchstream.streams.effects import Effects
from touchstream.streams.errors import EXIT_SOFTWARE, OwnershipLost, PoisonError
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.lanes import Lanes, Work
from touchstream.streams.log import Reading
from touchstream.streams.memory_log import MemoryLog
from touchstream.streams.records import Place, Record
from touchstream.streams.stage import Outcome
from touchstream.streams.state import State
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import FACTS

TOPIC, STATE = "in", "cx.state.copy"
ZERO, ONE = (TOPIC, 0), (TOPIC, 1)
POISON = b"poison"


class Copy:
    """Inserts and keeps every record; fails where the value is an exception's name."""

    name = "copy"
    failures: Mapping[bytes, BaseException] = {
        b"error": RuntimeError(),
        b"exit": SystemExit(),
        b"memory": MemoryError(),
        b"cancelled": asyncio.CancelledError(),
        b"lost": OwnershipLost(STATE, 0),
    }

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        if record.value == POISON:
            raise PoisonError(Reason.INVALID_VALUE, "poison")
        if record.value and record.value in self.failures:
            raise self.failures[record.value]
        effects.insert(FACTS, (record.partition, record.offset))
        state.put(b"last", record.offset)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        pass


class WatchedLog(MemoryLog):
    """Remembers from where each partition was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_from: dict[int, list[int]] = defaultdict(list)

    def read(self, topic: str, partition: int, start: int) -> Reading:
        self.read_from[partition].append(start)
        return super().read(topic, partition, start)


@dataclass
class World:
    """Everything around the lanes; rows of a partition wait while its gate is shut."""

    log: WatchedLog = field(default_factory=WatchedLog)
    rows: list[Row] = field(default_factory=list)
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    seeks: list[tuple[Place, int]] = field(default_factory=list)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    def lanes(self, dead_letter_limit: int = 0) -> Lanes:
        ports = Ports(self.log, self, self, 2, {TOPIC: 1})
        return Lanes(ports, self, self.exits.append, dead_letter_limit=dead_letter_limit)

    def shut(self, partition: int) -> asyncio.Event:
        gate = self.gates[partition] = asyncio.Event()
        return gate

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        facts = rows.get(FACTS, [])
        if facts and facts[0][0] in self.gates:
            await self.gates[facts[0][0]].wait()
        self.rows.extend(facts)

    async def seek_back(self, place: Place, offset: int) -> None:
        self.seeks.append((place, offset))

    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None:
        pass

    def put(
        self, lanes: Lanes, partition: int, start: int, end: int, value: bytes = b"v"
    ) -> asyncio.Event:
        """Queue records of a partition; the event is set when they are acknowledged."""
        done = asyncio.Event()
        records = [Record(TOPIC, partition, n, 0, None, value) for n in range(start, end)]

        def acknowledge() -> None:
            self.acknowledged.append((partition, end))
            done.set()

        lanes.put(Copy(), True, (TOPIC, partition), Work(records, acknowledge))
        return done


Body = Callable[[World, Lanes], Awaitable[None]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is late has no time to appear."""
    monkeypatch.setattr("touchstream.streams.lanes.LATE_SECONDS", 0)


def run(body: Body) -> World:
    async def main() -> World:
        world = World()
        lanes = world.lanes()
        await body(world, lanes)
        await lanes.revoke([ZERO, ONE])
        return world

    return asyncio.run(asyncio.wait_for(main(), 30))


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_chunks_of_a_partition_stay_in_order() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        gate = world.shut(0)
        for start in (0, 2, 4):
            last = world.put(lanes, 0, start, start + 2)
        await settle()
        assert world.acknowledged == []
        gate.set()
        await last.wait()

    world = run(body)
    assert world.rows == [(0, offset) for offset in range(6)]
    assert world.acknowledged == [(0, 2), (0, 4), (0, 6)]


def test_partition_is_released_when_its_chunk_is_computed_and_acknowledged_when_durable() -> None:
    released: list[int] = []

    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        gate = world.shut(0)
        for start in (2, 4):
            records = [Record(TOPIC, 0, n, 0, None, b"v") for n in (start, start + 1)]
            done = asyncio.Event()
            work = Work(records, done.set, partial(released.append, start))
            lanes.put(Copy(), True, ZERO, work)
        await settle()
        assert (released, done.is_set()) == ([2, 4], False)
        gate.set()
        await done.wait()

    world = run(body)
    assert world.rows == [(0, offset) for offset in range(6)]


@pytest.mark.parametrize(
    ("limit", "chunks", "held"),
    [
        (3, [b"ppp"], [3]),
        (3, [b"pp"], []),
        (3, [b"pp", b"pp"], [4]),
        (3, [b"p", b"vpp", b"p"], [3]),
        (3, [b"ppv", b"pp"], []),
        (3, [b"pppv", b"p"], []),
        (1, [b"v", b"v", b"p"], [1]),
        (0, [b"ppp", b"ppp"], []),
    ],
)
def test_partition_is_held_when_so_many_records_in_a_row_were_rejected(
    limit: int, chunks: list[bytes], held: list[int]
) -> None:
    """Its chunk is stored and acknowledged all the same."""
    seen: list[int] = []
    released: list[int] = []

    async def body(world: World, _: Lanes) -> None:
        lanes, offset = world.lanes(limit), 0
        for chunk in chunks:
            values = [POISON if letter == ord("p") else b"v" for letter in chunk]
            records = [Record(TOPIC, 0, offset + n, 0, None, v) for n, v in enumerate(values)]
            offset += len(chunk)
            done = asyncio.Event()
            work = Work(records, done.set, partial(released.append, offset), seen.append)
            lanes.put(Copy(), True, ZERO, work)
            await done.wait()
        await lanes.revoke([ZERO])

    world = run(body)
    assert (seen, len(released), world.exits) == (held, len(chunks) - len(held), [])


def test_new_owner_of_a_held_partition_counts_anew() -> None:
    seen: list[int] = []

    async def body(world: World, _: Lanes) -> None:
        lanes = world.lanes(2)
        for start in (0, 2, 3):
            if start:
                await lanes.revoke([ZERO])
            done = asyncio.Event()
            records = [
                Record(TOPIC, 0, n, 0, None, POISON) for n in range(start, max(2, start + 1))
            ]
            lanes.put(Copy(), True, ZERO, Work(records, done.set, hold=seen.append))
            await done.wait()
        await lanes.revoke([ZERO])

    run(body)
    assert seen == [2]


def test_partition_does_not_wait_for_another() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        world.shut(0)
        world.put(lanes, 0, 0, 2)
        await world.put(lanes, 1, 0, 2).wait()

    assert run(body).acknowledged == [(1, 2)]


def test_revoked_partition_stops_without_acknowledgement() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        gate = world.shut(0)
        world.put(lanes, 0, 0, 2)
        world.put(lanes, 0, 2, 4)
        await settle()
        await lanes.revoke([ZERO])
        gate.set()
        await settle()

    world = run(body)
    assert (world.acknowledged, world.rows, world.exits) == ([], [], [])


def test_revocation_leaves_other_partitions_alone() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        gate = world.shut(1)
        done = world.put(lanes, 1, 0, 2)
        await settle()
        await lanes.revoke([ZERO])
        gate.set()
        await done.wait()

    assert run(body).acknowledged == [(1, 2)]


def test_state_is_kept_when_the_partition_comes_back() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        await lanes.revoke([ZERO])
        lanes.assign([ZERO])
        await world.put(lanes, 0, 2, 4).wait()

    world = run(body)
    assert world.log.read_from[0] == [0, 3]  # behind claim, key and marker
    assert world.seeks == []


def test_state_is_forgotten_when_another_partition_comes() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        await lanes.revoke([ZERO])
        lanes.assign([ONE])
        lanes.assign([ZERO])
        await world.put(lanes, 0, 2, 4).wait()

    assert run(body).log.read_from[0] == [0, 0]


def test_partition_that_comes_back_sees_what_another_worker_did() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        await lanes.revoke([ZERO])
        other = world.lanes()
        await world.put(other, 0, 2, 4).wait()
        await other.revoke([ZERO])
        lanes.assign([ZERO])
        await world.put(lanes, 0, 0, 6).wait()

    assert run(body).rows == [(0, offset) for offset in range(6)]


@pytest.mark.parametrize("value", list(Copy.failures))
def test_exception_ends_the_process_before_acknowledgement(value: bytes) -> None:
    async def body(world: World, lanes: Lanes) -> None:
        world.put(lanes, 0, 0, 1, value)
        world.put(lanes, 0, 1, 2)
        await settle()

    world = run(body)
    assert (world.exits, world.acknowledged) == ([EXIT_SOFTWARE], [])


def test_process_ends_even_when_the_log_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def exception(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("touchstream.streams.lanes.log.exception", exception)

    async def body(world: World, lanes: Lanes) -> None:
        world.put(lanes, 0, 0, 1, b"memory")
        await settle()

    assert run(body).exits == [EXIT_SOFTWARE]


@pytest.mark.parametrize("error", [RuntimeError(), MemoryError(), asyncio.CancelledError()])
@pytest.mark.parametrize("nth", [0, 1])
def test_failing_acknowledgement_ends_the_process(error: BaseException, nth: int) -> None:
    """The first chunk of a lane, and one after it."""

    async def body(world: World, lanes: Lanes) -> None:
        def acknowledge() -> None:
            raise error

        if nth:
            await world.put(lanes, 0, 0, 1).wait()
        lanes.put(Copy(), True, ZERO, Work([Record(TOPIC, 0, nth, 0, None, b"v")], acknowledge))
        await settle()

    assert run(body).exits == [EXIT_SOFTWARE]


def test_worker_whose_partition_was_claimed_ends_its_process() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        await Changelog(world.log, STATE, 0, 1).take()
        world.put(lanes, 0, 2, 4)
        await settle()

    world = run(body)
    assert (world.exits, world.acknowledged) == ([EXIT_SOFTWARE], [(0, 2)])


def test_first_chunk_beyond_the_marker_seeks_back() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        await lanes.revoke([ZERO])
        world.put(lanes, 0, 5, 7)
        await settle()

    world = run(body)
    assert world.seeks == [(ZERO, 2)]
    assert world.acknowledged == [(0, 2)]


def test_chunk_read_again_after_the_seek_is_processed() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        world.put(lanes, 0, 5, 7)
        await world.put(lanes, 0, 0, 7).wait()

    assert run(body).rows == [(0, offset) for offset in range(7)]


def test_seek_back_happens_once() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        world.put(lanes, 0, 5, 7)
        await world.put(lanes, 0, 5, 7).wait()  # the records before are no longer kept
        world.put(lanes, 0, 9, 11)
        await world.put(lanes, 0, 9, 11).wait()

    world = run(body)
    assert world.seeks == [(ZERO, 0), (ZERO, 7)]
    assert world.acknowledged == [(0, 7), (0, 11)]


@pytest.mark.parametrize("start", [0, 1, 2])
def test_first_chunk_that_reaches_the_marker_is_processed(start: int) -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await world.put(lanes, 0, 0, 2).wait()
        await lanes.revoke([ZERO])
        await world.put(lanes, 0, start, 4).wait()

    world = run(body)
    assert (world.seeks, world.rows) == ([], [(0, offset) for offset in range(4)])


@pytest.mark.parametrize(("committed", "seeks"), [(5, []), (6, []), (3, [(ZERO, 3)])])
def test_lane_without_state_begins_where_the_group_is_committed(
    committed: int, seeks: list[tuple[Place, int]]
) -> None:
    async def body(world: World, lanes: Lanes) -> None:
        for _ in range(1 + len(seeks)):
            done = asyncio.Event()
            work = Work([Record(TOPIC, 0, 5, 0, None, b"v")], done.set, committed=committed)
            lanes.put(Copy(), False, ZERO, work)
        await done.wait()

    assert run(body).seeks == seeks


def test_what_is_missing_in_a_chunk_is_read_again_from_there() -> None:
    """A broker has shown 4 and 5 before 2 and 3; afterwards it shows all."""

    async def body(world: World, lanes: Lanes) -> None:
        chunk = [Record(TOPIC, 0, n, 0, None, b"v") for n in (0, 1, 4, 5)]
        unexpected = partial(world.acknowledged.append, (0, 6))
        lanes.put(Copy(), True, ZERO, Work(chunk, unexpected))
        await settle()
        assert world.seeks == [(ZERO, 2)]
        await world.put(lanes, 0, 2, 7).wait()

    world = run(body)
    assert world.rows == [(0, offset) for offset in range(7)]
    assert world.acknowledged == [(0, 7)]


def test_what_is_missing_for_good_is_passed_over() -> None:
    """Markers of transactions, or what was deleted."""

    async def body(world: World, lanes: Lanes) -> None:
        for start in (0, 2):
            chunk = [Record(TOPIC, 0, n, 0, None, b"v") for n in (0, 1, 4, 6) if n >= start]
            done = asyncio.Event()
            lanes.put(Copy(), True, ZERO, Work(chunk, done.set))
        await done.wait()

    world = run(body)
    assert (world.seeks, world.rows) == ([(ZERO, 2)], [(0, 0), (0, 1), (0, 4), (0, 6)])


def test_stop_finishes_the_chunks_in_work() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        gate = world.shut(0)
        world.put(lanes, 0, 0, 2)
        world.put(lanes, 0, 2, 4)
        await settle()
        stopping = asyncio.create_task(lanes.stop(30))
        await settle()
        assert not stopping.done()
        gate.set()
        await stopping

    assert run(body).acknowledged == [(0, 2), (0, 4)]


def test_stop_leaves_what_another_worker_has_claimed_to_it_and_finishes_the_rest() -> None:
    """Faust tells nobody of a rebalance while it stops, so a lane may learn of it from Kafka."""

    async def body(world: World, lanes: Lanes) -> None:
        gate, other = world.shut(0), world.shut(1)
        world.put(lanes, 0, 0, 2)
        world.put(lanes, 1, 0, 2)
        await settle()
        stopping = asyncio.create_task(lanes.stop(1000))
        successor = world.lanes()
        taken = world.put(successor, 0, 0, 2)
        await settle()
        gate.set()
        await taken.wait()
        assert not stopping.done()
        other.set()
        await stopping
        await successor.revoke([ZERO])

    world = run(body)
    assert (sorted(world.acknowledged), world.exits) == ([(0, 2), (1, 2)], [])


def test_stop_abandons_what_does_not_end_in_time() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        gate = world.shut(0)
        world.put(lanes, 0, 0, 2)
        await settle()
        await lanes.stop(0)
        gate.set()
        await settle()

    assert run(body).acknowledged == []


def test_stop_without_lanes_returns() -> None:
    async def body(world: World, lanes: Lanes) -> None:
        await lanes.stop(30)

    assert run(body).exits == []
