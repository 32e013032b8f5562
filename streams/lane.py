"""One partition of one agent: each chunk computed, delivered, made durable, acknowledged.

The order inside a chunk is the guarantee: nothing is acknowledged before its messages, its rows and
its state are stored; what is repeated after a crash is skipped by marker and positions.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from touchstream.streams.changelog import Changelog
from touchstream.streams.log import Entry, Log, Sink
from touchstream.streams.records import Message, Record
from touchstream.streams.stage import Outcome, Stage, run_chunk
from touchstream.streams.topics import BATCH_BYTES

RECORD_OVERHEAD_BYTES = 64


class LaneObserver(Protocol):
    """What telemetry wants to know of a lane."""

    def chunk_done(self, lane: "Lane", outcome: Outcome, records: int, seconds: float) -> None:
        """Called when a chunk is durable, before it is acknowledged."""


@dataclass(frozen=True)
class Ports:
    """The outside world of a lane."""

    log: Log
    sink: Sink
    observer: LaneObserver
    partitions: int
    sources: Mapping[str, int]
    """Identity of each input topic, for positions."""


class Lane:
    """Processes the chunks of one partition, one after the other."""

    def __init__(
        self, stage: Stage, topic: str, partition: int, ports: Ports, changelog: Changelog | None
    ) -> None:
        """`changelog` is None for an agent without state."""
        self.stage = stage
        self.topic = topic
        self.partition = partition
        self.changelog = changelog
        self._ports = ports

    @property
    def applied(self) -> int:
        """Offset of the last record applied; -1 when unknown."""
        return self.changelog.image.applied if self.changelog else -1

    @property
    def values(self) -> Mapping[bytes, bytes]:
        """State of the partition."""
        return self.changelog.image.values if self.changelog else {}

    async def take(self) -> None:
        """Restore the state and become its single writer."""
        if self.changelog:
            await self.changelog.take()

    async def process(self, records: Sequence[Record]) -> None:
        """Take a chunk from computation to durability; replayed records are skipped."""
        fresh = [record for record in records if record.offset > self.applied]
        if not fresh:
            return
        began = time.perf_counter()
        outcome = self._compute(fresh)
        if outcome.state_bytes > BATCH_BYTES // 2 and len(fresh) > 1:
            half = len(fresh) // 2
            await self.process(fresh[:half])
            await self.process(fresh[half:])
            return
        await self._deliver(outcome)
        if self.changelog:
            await self.changelog.append(outcome.changes, outcome.applied)
        seconds = time.perf_counter() - began
        self._ports.observer.chunk_done(self, outcome, len(fresh), seconds)

    def _compute(self, records: Sequence[Record]) -> Outcome:
        source = self._ports.sources[self.topic]
        return run_chunk(
            self.stage, records, self.values, source=source, partitions=self._ports.partitions
        )

    async def _deliver(self, outcome: Outcome) -> None:
        grouped = by_partition(outcome.messages)
        waiting = [self._append(*place, entries) for place, entries in grouped.items()]
        if outcome.rows:
            waiting.append(self._ports.sink.insert(outcome.rows))
        await asyncio.gather(*waiting)

    async def _append(self, topic: str, partition: int, entries: Sequence[Entry]) -> None:
        for batch in batches(entries, BATCH_BYTES):
            await self._ports.log.append(topic, partition, batch)


def by_partition(messages: Sequence[Message]) -> dict[tuple[str, int], list[Entry]]:
    """Messages grouped by where they go, in order."""
    grouped: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for topic, partition, key, value, headers in messages:
        grouped[topic, partition].append((key, value, headers))
    return grouped


def batches(entries: Sequence[Entry], limit_bytes: int) -> Iterator[list[Entry]]:
    """Cut entries into batches below the limit; a single larger entry stands alone."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        length = RECORD_OVERHEAD_BYTES + len(entry[0] or b"") + len(entry[1] or b"")
        if batch and size + length > limit_bytes:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch
