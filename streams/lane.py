"""One partition of one agent: each chunk computed, sent on, made durable, acknowledged.

The order is the guarantee: nothing is acknowledged before its messages, its rows and its state are
stored; what is repeated after a crash is skipped by marker and positions. Chunks are computed ahead
of those that are still being stored, so a message does not wait for rows that it has nothing to do
with; what was computed meanwhile is stored together.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from touchstream.streams.changelog import Changelog
from touchstream.streams.errors import TransientError
from touchstream.streams.health import Health
from touchstream.streams.log import Entry, Log, Sink
from touchstream.streams.records import Message, Record
from touchstream.streams.stage import Outcome, Stage, run_chunk
from touchstream.streams.table import Row, Table
from touchstream.streams.topics import BATCH_BYTES

RECORD_OVERHEAD_BYTES = 64
FIRST_RECORDS = 1_000
"""Records of a lane's first chunk, when nothing is known of how much state they change."""
ROWS_AHEAD = 20_000
"""Rows that may wait to be stored before nothing more is computed."""


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
    health: Health = field(default_factory=Health)


@dataclass
class Unsaved:
    """What chunks have changed that is not durable yet."""

    rows: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    changes: dict[bytes, bytes] = field(default_factory=dict)
    applied: int = -1
    chunks: list[tuple[Outcome, int, float]] = field(default_factory=list)
    """Outcome, number of records, and when it was begun."""
    number_of_rows: int = 0
    state_bytes: int = 0

    def add(self, outcome: Outcome, records: int, began: float) -> None:
        """Take the next chunk."""
        for table, rows in outcome.rows.items():
            self.rows[table] += rows
            self.number_of_rows += len(rows)
        self.changes.update(outcome.changes)
        self.state_bytes += outcome.state_bytes
        self.applied = outcome.applied
        self.chunks.append((outcome, records, began))


class Layers(Mapping[bytes, bytes]):
    """Values over older values; an empty one hides what is below it."""

    def __init__(self, *layers: Mapping[bytes, bytes]) -> None:
        """The newest layer first."""
        self._layers = layers

    def __getitem__(self, key: bytes) -> bytes:
        for layer in self._layers:
            if key in layer:
                if layer[key]:
                    return layer[key]
                break
        raise KeyError(key)

    def get(self, key: bytes, default: Any = None) -> Any:
        """Value of a key."""
        for layer in self._layers:
            value = layer.get(key)
            if value is not None:
                return value or default
        return default

    def __iter__(self) -> Iterator[bytes]:
        *newer, oldest = self._layers
        changed = {key for layer in newer for key in layer}
        yield from (key for key in changed if self.get(key))
        yield from (key for key in oldest if key not in changed)

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
        self.rejected_last = 0
        """Records rejected one after the other up to now, as far as this lane has seen them."""
        self._place = topic, partition
        self._ports = ports
        self._computed = -1
        self._fitting = FIRST_RECORDS
        self._saving = Unsaved()
        self._unsaved = Unsaved()
        self._save_turn = asyncio.Lock()

    @property
    def applied(self) -> int:
        """Offset of the last record applied durably; -1 when unknown."""
        return self.changelog.image.applied if self.changelog else -1

    @property
    def advanced(self) -> int:
        """Offset of the last record computed; -1 when unknown."""
        return max(self.applied, self._computed)

    @property
    def values(self) -> Mapping[bytes, bytes]:
        """State of the partition, with what is computed but not durable yet."""
        durable = self.changelog.image.values if self.changelog else {}
        ahead = [each.changes for each in (self._unsaved, self._saving) if each.changes]
        return Layers(*ahead, durable) if ahead else durable

    @property
    def is_full(self) -> bool:
        """Whether so many rows wait to be stored that nothing more should be computed."""
        return self._unsaved.number_of_rows > ROWS_AHEAD

    def begin(self, committed: int) -> None:
        """Without state of its own, a partition begins where its group is committed."""
        if not self.changelog and self._computed < 0:
            self._computed = committed - 1

    def missing(self, records: Sequence[Record], known: int) -> int | None:
        """First offset that should be there and is not; those up to `known` need not be."""
        first, last, due = records[0].offset, records[-1].offset, self.advanced + 1
        if first <= due and last - first < len(records):
            return None
        for record in records:
            absent = max(due, known + 1)
            if absent < record.offset:
                return absent
            due = max(due, record.offset + 1)
        return None

    async def take(self) -> None:
        """Restore the state and become its single writer."""
        self._ports.health.restoring(self._place)
        if self.changelog:
            await self.changelog.take()
        self._ports.health.restored(self._place)

    async def process(self, records: Sequence[Record]) -> None:
        """Take a chunk from computation to durability; replayed records are skipped."""
        await self.advance(records)
        await self.save()

    async def advance(self, records: Sequence[Record]) -> None:
        """Compute records and send their messages; `save` makes them durable.

        A message may be sent before the state that it comes from is durable: should that be lost,
        the same records make the same message at the same position again. A chunk whose state does
        not fit into a batch is computed again with fewer records, so its size follows those before.
        """
        fresh = [record for record in records if record.offset > self.advanced]
        while fresh:
            chunk = fresh[: self._fitting]
            began = time.perf_counter()
            outcome = self._compute(chunk)
            self._fitting = fitting(len(chunk), outcome.state_bytes)
            if outcome.state_bytes <= BATCH_BYTES // 2 or len(chunk) == 1:
                await self._keep(outcome, len(chunk), began)
                fresh = fresh[len(chunk) :]

    async def save(self) -> None:
        """Insert the rows and store the state of all chunks that were computed until now.

        Raises TransientError after a save that failed: a later marker would pass over its state.
        """
        async with self._save_turn:
            if self._saving.chunks:
                raise TransientError(f"{self.topic}[{self.partition}]: an earlier save failed")
            saving, self._unsaved = self._unsaved, Unsaved()
            if not saving.chunks:
                return
            self._saving = saving
            if saving.rows:
                self._ports.health.inserting(self._place, True)
                await self._ports.sink.insert(saving.rows)
                self._ports.health.inserting(self._place, False)
            if self.changelog:
                await self.changelog.append(saving.changes, saving.applied)
            self._saving = Unsaved()
        for outcome, records, began in saving.chunks:
            seconds = time.perf_counter() - began
            self._ports.observer.chunk_done(self, outcome, records, seconds)

    async def _keep(self, outcome: Outcome, records: int, began: float) -> None:
        """Send the messages of a chunk; what it changed waits to be saved."""
        if self._unsaved.state_bytes + outcome.state_bytes > BATCH_BYTES // 2:
            await self.save()
        grouped = by_partition(outcome.messages)
        await asyncio.gather(*(self._append(*place, entries) for place, entries in grouped.items()))
        self._computed = outcome.applied
        self._unsaved.add(outcome, records, began)
        only_rejected = outcome.rejected_last == records
        self.rejected_last = outcome.rejected_last + (self.rejected_last if only_rejected else 0)
        if self.is_full:
            await self.save()

    def _compute(self, records: Sequence[Record]) -> Outcome:
        source = self._ports.sources[self.topic]
        return run_chunk(
            self.stage, records, self.values, source=source, partitions=self._ports.partitions
        )

    async def _append(self, topic: str, partition: int, entries: Sequence[Entry]) -> None:
        for batch in batches(entries, BATCH_BYTES):
            await self._ports.log.append(topic, partition, batch)


def fitting(records: int, state_bytes: int) -> int:
    """How many records should change a quarter of a batch, if that many changed `state_bytes`."""
    return max(1, records * (BATCH_BYTES // 4) // max(1, state_bytes))


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
