"""A simulated Kafka: the topics in memory, appends that arrive twice, late or with an error.

A batch is stored whole or not at all. `stored` hears of every batch as it is stored.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from simulator.scheduler import Scheduler

from touchstream.streams.log import Entry, Reading
from touchstream.streams.memory_log import MemoryLog
from touchstream.streams.records import Record

PUBLISHED_AT_MS = 1_900_000_000_000
Place = tuple[str, int]
Stored = Callable[[Place, int], object]
"""Called with the place and the offset of the first record."""


class Refused(Exception):
    """The broker answered with an error that is not tried again."""


@dataclass(frozen=True)
class BrokerFaults:
    """How often an append does not go as it should."""

    again_rate: float = 0.0
    """Stored twice, before it is answered: the answer was lost and the request sent again."""
    late_rate: float = 0.0
    """Stored once more, some time after it was answered: a request that nobody waits for."""
    refused_rate: float = 0.0
    """Answered with an error: half of these are stored all the same."""
    hidden_rate: float = 0.0
    """Fetched without some records that the next fetch will see: they came by a slower way."""


class Broker:
    """Topics of partitions."""

    def __init__(self, scheduler: Scheduler, faults: BrokerFaults) -> None:
        self.log = MemoryLog()
        self.log.clock_ms = PUBLISHED_AT_MS
        self._scheduler = scheduler
        self._rng: random.Random = scheduler.rng
        self._faults = faults
        self.listeners: list[Stored] = []
        self._fetched_to: dict[Place, int] = defaultdict(int)
        """Offset up to which everything was seen, so that it stays to be seen."""
        self.is_repeating = False
        """Whether what is being stored is an old request."""

    def end(self, place: Place) -> int:
        """Offset of the next record of a partition."""
        return len(self.log.partitions[place])

    def fetch(self, place: Place, position: int, number: int) -> list[Record]:
        """Records from a position on, at most so many; the last one is there in any case."""
        records = self.log.partitions[place][position : position + number]
        first_new = max(0, self._fetched_to[place] - position)
        self._fetched_to[place] = max(self._fetched_to[place], position + len(records))
        if first_new + 1 < len(records) and self._rng.random() < self._faults.hidden_rate:
            start = self._rng.randrange(first_new, len(records) - 1)
            end = self._rng.randrange(start + 1, len(records))
            del records[start:end]
        return records

    def store(self, place: Place, entries: Sequence[Entry]) -> int:
        """Append a batch now; returns the offset of its first record."""
        self.log.clock_ms += 1
        base = self.log.extend(*place, entries)
        for stored in self.listeners:
            stored(place, base)
        return base

    def arrive(self, place: Place, entries: Sequence[Entry]) -> int:
        """Take a producer's request; returns the offset that it is answered with."""
        chance = self._rng.random()
        if chance < self._faults.refused_rate / 2:
            raise Refused("not stored")
        base = self.store(place, entries)
        if chance < self._faults.refused_rate:
            raise Refused("stored, but not acknowledged")
        if self._rng.random() < self._faults.again_rate:
            base = self.store(place, entries)
        if self._rng.random() < self._faults.late_rate:
            again = partial(self._repeat, place, entries)
            self._scheduler.add(None, f"the same batch again to {place[0]}[{place[1]}]", again)
        return base

    def _repeat(self, place: Place, entries: Sequence[Entry]) -> None:
        self.is_repeating = True
        self.store(place, entries)
        self.is_repeating = False

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Append a batch from a worker."""
        what = f"append {len(entries)} to {topic}[{partition}]"
        act = partial(self.arrive, (topic, partition), list(entries))
        return await self._scheduler.request(what, act)

    async def read(self, topic: str, partition: int, start: int) -> Reading:
        """Read half of what there is, and then to the end as it is when the request arrives."""
        end = len(self.log.partitions[topic, partition])
        half = start + (end - start) // 2
        yield await self._read(topic, partition, start, half)
        yield await self._read(topic, partition, half, None)

    async def _read(self, topic: str, partition: int, start: int, end: int | None) -> list[Record]:
        def act() -> list[Record]:
            records = self.log.read_now(topic, partition, start)
            return records if end is None else records[: end - start]

        return await self._scheduler.request(f"read {topic}[{partition}] from {start}", act)
