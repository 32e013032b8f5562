"""A simulated worker process: the product's lanes and writer, with a consumer of chunks.

It may stop for good at any step (`crash`), for a while (`is_frozen`), or as it should (`stop`).
A worker that is gone does nothing any more; requests that it had sent may still arrive.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulator.broker import Broker, Place
from simulator.clickhouse import ClickHouse, Client
from simulator.group import Group
from simulator.scheduler import RUNNING, Scheduler

from touchstream.streams.clickhouse_writer import ClickHouseWriter, Inserter, Pace
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.lanes import Lanes, Work
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, Stage
from touchstream.streams.table import Row, Table

SETTINGS = Settings(flush_rows=50)
CHUNK_RECORDS = (1, 2, 5, 20)
STOP_SECONDS = 8.0
WRONG_START_RATE = 0.05
"""Of partitions with state where a worker begins to read too far ahead."""


class Unobserved:
    """Telemetry that keeps nothing."""

    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None: ...
    def inserted(self, table: Table, rows: int, seconds: float) -> None: ...
    def retried(self, table: Table, error: Exception) -> None: ...
    def rejected(self, table: Table, row: Row, error: Exception) -> None: ...


@dataclass(frozen=True)
class World:
    """What all workers share."""

    scheduler: Scheduler
    broker: Broker
    group: Group
    clickhouse: ClickHouse
    partitions: int
    sources: Mapping[str, int]
    died: Callable[["Worker"], object]
    """Called when a worker is gone without a word."""


class Worker:
    """One process; a member of the group."""

    def __init__(self, name: str, world: World, stages: Mapping[str, tuple[Stage, bool]]) -> None:
        """`stages` by the topic that each reads, and whether it has state."""
        self.name = name
        self.is_gone = self.is_frozen = self._is_stopping = False
        self.places: list[Place] = []
        self._world, self._stages = world, stages
        self._context = copy_context()
        self._context.run(RUNNING.set, self)
        self._positions: dict[Place, int] = {}
        self._busy: set[Place] = set()
        """Their chunk is being computed."""
        self._fetching: set[Place] = set()
        self._begun: dict[Place, int] = {}
        """Where the group was committed when the partitions came."""
        self._acknowledged: dict[Place, int] = {}
        self._generation = 0
        self._context.run(self._build)

    def _build(self) -> None:
        loop, rng = asyncio.get_running_loop(), self._world.scheduler.rng
        client = Client(self._world.clickhouse)
        inserter = Inserter(SETTINGS, connect=lambda *_, **__: client)  # type: ignore[arg-type]
        pace = Pace(rng=rng.random, clock=loop.time, now=loop.time)
        nobody = Unobserved()
        self._writer = ClickHouseWriter(
            SETTINGS, nobody, nobody.rejected, inserter=inserter, pace=pace
        )
        world = self._world
        ports = Ports(world.broker, self._writer, nobody, world.partitions, world.sources)
        self._lanes = Lanes(ports, self, self._end_process)

    # Life

    def start(self) -> None:
        """Join the group."""
        self._world.group.join(self)

    def crash(self) -> None:
        """Stop for good, in the middle of everything."""
        self.is_gone = True
        self._world.scheduler.forget(self)
        self._world.died(self)

    def stop(self) -> None:
        """End as on SIGTERM: finish the chunks in work, then leave."""
        if not self._is_stopping:
            self._is_stopping = True
            self._task(self._stop())

    async def _stop(self) -> None:
        self._positions.clear()
        await self._lanes.stop(STOP_SECONDS)
        await self._writer.close()
        self._send_commit()
        self._world.scheduler.note(self.name, "has stopped")
        self.is_gone = True
        self._world.group.leave(self)

    def _end_process(self, code: int) -> None:
        if not self.is_gone:
            self._world.scheduler.note(self.name, f"ends with exit code {code}")
            self.crash()

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        context = self._context.copy()
        asyncio.get_running_loop().create_task(work, context=context)

    # Member of the group

    def give_up(self) -> None:
        """Stop all lanes, then ask for partitions again."""
        self._task(self._give_up())

    async def _give_up(self) -> None:
        self._positions.clear()
        self._busy.clear()
        self._fetching.clear()
        await self._lanes.revoke(self.places)
        self._send_commit()
        self._generation = self._world.group.generation
        self._world.group.rejoin(self)

    def put_out(self) -> None:
        """It was not a member for a while: give everything up and join again."""
        self._task(self._join_again())

    async def _join_again(self) -> None:
        await self._give_up()
        self._world.group.join(self)

    def receive(self, places: list[Place], generation: int) -> None:
        """Begin where the group was committed."""
        if generation <= self._generation or self._is_stopping:
            return
        self._generation = generation
        self.places = places
        self._acknowledged.clear()
        self._lanes.assign(places)
        committed = self._world.group.committed
        self._begun = {place: committed.get(place, 0) for place in places}
        self._positions = {place: self._start(place, committed.get(place, 0)) for place in places}
        for place in places:
            self.poll(place)

    def _start(self, place: Place, committed: int) -> int:
        rng, end = self._world.scheduler.rng, self._world.broker.end(place)
        stateful = self._stages[place[0]][1]
        if stateful and committed < end and rng.random() < WRONG_START_RATE:
            return rng.randrange(committed, end)
        return committed

    # Consumer

    def poll(self, place: Place) -> None:
        """Fetch the next chunk of a partition, if it is ours, idle, and there is something."""
        position = self._positions.get(place)
        if position is None or position >= self._world.broker.end(place):
            return
        if place in self._busy or place in self._fetching:
            return
        self._fetching.add(place)
        what = f"fetches {place[0]}[{place[1]}] from {position}"
        fetched = partial(self._fetched, place, self._generation)
        self._world.scheduler.add(self, what, fetched)

    def _fetched(self, place: Place, generation: int) -> None:
        position = self._positions.get(place)
        if position is None or generation != self._generation:
            return
        self._fetching.discard(place)
        self._busy.add(place)
        number = self._world.scheduler.rng.choice(CHUNK_RECORDS)
        records = self._world.broker.fetch(place, position, number)
        self._positions[place] = records[-1].offset + 1
        stage, stateful = self._stages[place[0]]
        work = Work(
            list(records),
            partial(self._acknowledge, place, records),
            partial(self._release, place),
            committed=self._begun[place],
        )
        self._context.run(self._lanes.put, stage, stateful, place, work)

    def _release(self, place: Place) -> None:
        self._busy.discard(place)
        self.poll(place)

    def _acknowledge(self, place: Place, records: Sequence[Record]) -> None:
        if self.is_gone:
            return
        if not self._acknowledged:
            self._world.scheduler.add(self, "commits", self._send_commit)
        self._acknowledged[place] = records[-1].offset + 1

    def _send_commit(self) -> None:
        offsets, self._acknowledged = self._acknowledged, {}
        if offsets and not self.is_gone:
            group = self._world.group
            commit = partial(group.commit, self, self._generation, offsets)
            what = f"commit of {len(offsets)} partitions"
            self._world.scheduler.add(None, what, commit, sender=self)

    async def seek_back(self, place: Place, offset: int) -> None:
        """Read a partition again from `offset`."""
        what = f"seeks {place[0]}[{place[1]}] back to {offset}"
        await self._world.scheduler.request(what, lambda: None)
        if place in self._positions:
            self._positions[place] = offset
        self._release(place)
