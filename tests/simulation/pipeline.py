"""The whole pipeline in one process: seeded schedules of chunks, crashes, zombies and repetitions.

Lanes are the product's own; log and sink are in memory. A crash is an exception out of a port at a
random call, before or after it took effect; the lane is dropped and another one takes over from an
old committed offset. A zombie is a lane that another one replaces while it sleeps.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from touchstream.agents.course import World
from touchstream.agents.heard import Heard
from touchstream.agents.identifiers import tokens_of
from touchstream.agents.ingest import Ingest
from touchstream.agents.journey_rules import load_journey
from touchstream.agents.operate import Operate
from touchstream.agents.operations import Operation, encode_operation
from touchstream.agents.profile import Profile
from touchstream.agents.recount.customer import Pane, PaneKey
from touchstream.agents.rules_file import default_rules
from touchstream.agents.stitch import Stitch
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.changelog import Changelog
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.customer_tables import CUSTOMERS, PANES
from touchstream.streams.errors import OwnershipLost
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.log import Entry, Reading
from touchstream.streams.memory_log import MemoryLog, MemorySink
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, Stage
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import FACTS, IDENTITIES, OVERRIDES
from touchstream.streams.topics import (
    CUSTOMER,
    IDENTITY,
    OPERATIONS,
    TOUCHPOINTS,
    state_topic,
    touchpoint_topic,
)

Place = tuple[str, int]
SETTINGS = Settings()
CODEC = TouchpointCodec(max_payload_bytes=SETTINGS.max_payload_bytes)
PUBLISHED_AT_MS = 1_900_000_000_000


def profile() -> Profile:
    """The stage under the shipped catalogue and rules."""
    catalogue = load_catalogue()
    return Profile(catalogue, World(catalogue, load_journey()))


class Crash(Exception):
    pass


class Unobserved:
    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None:
        pass


class FaultyPorts:
    """Log and sink of one lane: each call may crash before or after it takes effect."""

    def __init__(self, log: MemoryLog, sink: MemorySink, rng: random.Random, rate: float) -> None:
        self._log, self._sink, self._rng, self._rate = log, sink, rng, rate

    def _maybe_crash(self) -> None:
        if self._rng.random() < self._rate:
            raise Crash

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        self._maybe_crash()
        offset = await self._log.append(topic, partition, entries)
        if self._rng.random() < self._rate:
            offset = await self._log.append(topic, partition, entries)  # a retried request
        self._maybe_crash()
        return offset

    def read(self, topic: str, partition: int, start: int) -> Reading:
        return self._log.read(topic, partition, start)

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        self._maybe_crash()
        await self._sink.insert(rows)
        self._maybe_crash()


class Pipeline:
    """Every partition of every agent, over one log."""

    def __init__(self, seed: int, *, partitions: int, crash_rate: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.log = MemoryLog()
        self.log.clock_ms = PUBLISHED_AT_MS
        self.sink = MemorySink()
        self.partitions = partitions
        self.crash_rate = crash_rate
        self.crashes = 0
        tokens = tokens_of(SETTINGS)
        self.heard = Heard()
        """What operators said, as ingest and operate have heard it; `hear` tells them."""
        ingest = Ingest(CODEC, tokens, SETTINGS, self.heard)
        self.stages: dict[str, tuple[Stage, bool]] = dict.fromkeys(TOUCHPOINTS, (ingest, False))
        self.stages[OPERATIONS] = (Operate(self.heard), False)
        self.stages[IDENTITY] = (Stitch(default_rules()), True)
        self.stages[CUSTOMER] = (profile(), True)
        self.sources = {topic: number for number, topic in enumerate(self.stages)}
        self._lanes: dict[Place, Lane] = {}
        self._zombies: list[tuple[Place, Lane]] = []
        self._next: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}
        self._unsaved: set[Place] = set()
        self._said = 0

    def publish(self, channel: str, touchpoint: Mapping[str, Any]) -> None:
        self.publish_bytes(channel, CODEC.encode(channel, touchpoint))

    def publish_bytes(self, channel: str, value: bytes | None) -> None:
        partition = self.rng.randrange(self.partitions)
        self.log.extend(touchpoint_topic(channel), partition, [(None, value, ())])

    def operate(self, operation: Operation) -> None:
        self.log.extend(OPERATIONS, 0, [(None, encode_operation(operation), ())])

    def hear(self) -> None:
        """Let ingest and operate hear all that was said."""
        for record in self.log.partitions[OPERATIONS, 0][self._said :]:
            self.heard.take(record)
            self._said += 1

    async def state(self, topic: str) -> dict[bytes, bytes]:
        """Durable state of the agent that reads a topic."""
        found: dict[bytes, bytes] = {}
        for place in [(topic, partition) for partition in range(self.partitions)]:
            lane = self._lanes.get(place) or await self._take(place)
            assert lane.changelog
            found |= lane.changelog.image.values
        return found

    async def drain(self) -> None:
        """Run random steps until every log is processed to its end, and all of it is durable."""
        while places := [place for place in self._places() if self._pending(place)]:
            place = self.rng.choice(places)
            if self._pending(place) > 0:
                await self._step(place)
            if self.rng.random() < 0.5:
                await self._save(place)
            if self.rng.random() < self.crash_rate:
                self._fall_asleep(self.rng.choice(places))
            if self._zombies and self.rng.random() < 0.3:
                await self._wake_zombie()

    def _places(self) -> list[Place]:
        return [(topic, p) for topic in self.stages for p in range(self.partitions)]

    def _pending(self, place: Place) -> int:
        """Records to process; less than 0 when all are processed and some not durable."""
        records = len(self.log.partitions[place]) - self._next.get(place, 0)
        return records or -(place in self._unsaved)

    async def _step(self, place: Place) -> None:
        start = self._next.get(place, 0)
        end = start + self.rng.choice((1, 2, 5, 50))
        records = self.log.partitions[place][start:end]
        try:
            lane = self._lanes.get(place) or await self._take(place)
            await lane.advance(records)
        except Crash:
            self._crash(place)
        except OwnershipLost:
            self._lose(place)
        else:
            self._next[place] = start + len(records)
            self._unsaved.add(place)

    async def _save(self, place: Place) -> None:
        """Make durable what was computed ahead."""
        lane = self._lanes.get(place)
        if lane is None or place not in self._unsaved:
            return
        try:
            await lane.save()
        except Crash:
            self._crash(place)
        except OwnershipLost:
            self._lose(place)
        else:
            self._unsaved.discard(place)
            if self.rng.random() < 0.5:
                self._committed[place] = self._next[place]

    def _lose(self, place: Place) -> None:
        del self._lanes[place]
        self._restart(place)

    def _restart(self, place: Place) -> None:
        """Whoever takes the partition begins where it was committed."""
        self._unsaved.discard(place)
        self._next[place] = self._committed.get(place, 0)

    async def _take(self, place: Place) -> Lane:
        topic, partition = place
        stage, stateful = self.stages[topic]
        ports = FaultyPorts(self.log, self.sink, self.rng, self.crash_rate)
        everything = Ports(ports, ports, Unobserved(), self.partitions, self.sources)
        source, name = self.sources[topic], state_topic(stage.name)
        changelog = Changelog(ports, name, partition, source) if stateful else None
        lane = Lane(stage, topic, partition, everything, changelog)
        await lane.take()
        self._lanes[place] = lane
        return lane

    def _crash(self, place: Place) -> None:
        self.crashes += 1
        self._lanes.pop(place, None)
        self._restart(place)

    def _fall_asleep(self, place: Place) -> None:
        """The lane's worker stops answering; its partition will be given to another."""
        if place in self._lanes:
            self._zombies.append((place, self._lanes.pop(place)))
            self._restart(place)

    async def _wake_zombie(self) -> None:
        """A worker that lost its partition without knowing it processes one more chunk."""
        place, lane = self._zombies.pop(self.rng.randrange(len(self._zombies)))
        start = lane.advanced + 1 if lane.changelog else self._committed.get(place, 0)
        records = self.log.partitions[place][start : start + 20]
        if not records:
            return
        try:
            await lane.process(records)
        except (Crash, OwnershipLost):
            return

    def facts(self) -> dict[Row, dict[str, Any]]:
        return self.sink.latest(FACTS, ("identity", "channel", "event_id"), "precedence")

    def customers_of_facts(self) -> set[tuple[str, str]]:
        """Identity and customer of every fact, as the view `touchpoints` shows them."""
        overrides = self.sink.latest(OVERRIDES, ("identity",), "version")
        shown = set()
        for row in self.facts().values():
            identity = row["identity"]
            override: dict[str, Any] = overrides.get((identity,), {"version": 0})
            newer = override["version"] > row["identity_version"]
            shown.add((identity, (override if newer else row)["customer_id"]))
        return shown

    def identities(self) -> dict[str, str]:
        rows = self.sink.latest(IDENTITIES, ("identity",), "version")
        return {str(key[0]): str(row["customer_id"]) for key, row in rows.items()}

    def customers(self) -> dict[str, dict[str, Any]]:
        rows = self.sink.latest(CUSTOMERS, ("customer_id",), "version")
        return {str(key[0]): row for key, row in rows.items() if not row["is_deleted"]}

    def rows(self, table: Table, *key: str) -> list[dict[str, Any]]:
        """Rows of customers' lives that are not deleted."""
        rows = self.sink.latest(table, ("customer_id", *key), "version")
        return [row for row in rows.values() if not row["is_deleted"]]

    def panes(self) -> dict[PaneKey, Pane]:
        """Sums over shards; empty panes left out."""
        sums: dict[PaneKey, Pane] = {}
        key = ("metric", "dimension", "member", "resolution", "start", "shard")
        for at, row in self.sink.latest(PANES, key, "version").items():
            added: Any = row
            n, total, squares, buckets = sums.get(at[:5], (0, 0, 0, {}))
            for bucket, number in added["buckets"].items():
                buckets[bucket] = buckets.get(bucket, 0) + number
            buckets = {bucket: number for bucket, number in buckets.items() if number}
            sums[at[:5]] = (
                n + added["n"],
                total + added["total"],
                squares + added["squares"],
                buckets,
            )
        return {at: pane for at, pane in sums.items() if pane != (0, 0, 0, {})}
