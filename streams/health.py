"""The health of a worker: what happened goes in, with the clock; ready or stuck comes out.

A worker is *stuck* when something that depends on nobody else makes no progress: a chunk that was
fetched is not computed, a computed one does not become durable, an acknowledged one is not
committed, a restore reads nothing, nothing is fetched, or an event loop does not answer. Waiting
for ClickHouse or Kafka is not that, however long it takes; but then the worker is not *ready*.

Called on the event loop, read in other threads. Nothing here names a customer or a value.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from touchstream.streams.in_hand import InHand, Pending, Wait
from touchstream.streams.records import Place
from touchstream.streams.running_time import Clock, Pulse
from touchstream.streams.server_health import Server


class Phase(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting: no partitions yet"
    REBALANCING = "rebalancing: partitions are shared out anew"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Limits:
    """How long something may wait until the worker is not ready, and until it is stuck."""

    ready_seconds: float = 30.0
    stuck_seconds: float = 120.0


class Health:
    """What a worker did last, and when."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        clock: Clock = time.monotonic,
        process_clock: Clock = time.monotonic,
    ) -> None:
        """`clock` may stand still while the main event loop does, not so `process_clock`."""
        self.limits = limits or Limits()
        self.phase = Phase.STARTING
        self.clickhouse = Server("clickhouse", clock=clock)
        self.kafka = Server("kafka", clock=clock)
        self.pulses: dict[str, Pulse] = {}
        """Event loops that must answer, by name."""
        self._clock = clock
        self._process_clock = process_clock
        self._partitions: dict[Place, InHand] = {}
        self._read_at = self._polled_at = clock()

    def watch(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        answered: Callable[[], object] = lambda: None,
    ) -> None:
        """This event loop must answer from now on; `answered` is called in it, when it does."""
        if name not in self.pulses:
            self.pulses[name] = Pulse(loop, self._process_clock, answered)

    def assigned(self, places: Collection[Place]) -> None:
        """These are all partitions that the worker has now."""
        known = self._partitions
        self._partitions = {place: known.get(place) or InHand() for place in places}
        self._polled_at = self._clock()
        self._enter(Phase.RUNNING)

    def revoked(self, places: Collection[Place]) -> None:
        """These were taken away and are given up."""
        self._partitions = {p: each for p, each in self._partitions.items() if p not in places}
        self._enter(Phase.REBALANCING)

    def stopping(self) -> None:
        """The worker was asked to stop."""
        self.phase = Phase.STOPPING

    def _enter(self, phase: Phase) -> None:
        if self.phase is not Phase.STOPPING:
            self.phase = phase

    def polled(self) -> None:
        """Kafka was asked for records."""
        self._polled_at = self._clock()

    def received(self, place: Place) -> None:
        """A chunk was fetched."""
        self._of(place).computing.add(self._clock())

    def restoring(self, place: Place) -> None:
        """The state of a partition is being read."""
        self._of(place).restoring_since = self._clock()

    def read(self) -> None:
        """Some of a state was read, or there was nothing more to read."""
        self._read_at = self._clock()

    def restored(self, place: Place) -> None:
        """The state of a partition is there."""
        self._of(place).restored(self._clock())

    def abandoned(self, place: Place) -> None:
        """What is in hand of a partition will be fetched again."""
        self._of(place).computing = Pending()

    def computed(self, place: Place) -> None:
        """A chunk was computed; what remains is to store it."""
        self._of(place).computed(self._clock())

    def held(self, place: Place, rejected: int) -> None:
        """A partition is not read any more, after so many records in a row that were rejected."""
        self._of(place).held_after = rejected

    def inserting(self, place: Place, waits: bool) -> None:
        """Whether rows of a partition wait for ClickHouse."""
        self._of(place).waits_for_rows = waits

    def stored(self, place: Place) -> None:
        """A computed chunk is durable."""
        self._of(place).saving.take(self._clock())

    def acknowledged(self, place: Place, to: int) -> None:
        """Kafka may be told that everything before an offset is done."""
        self._of(place).acknowledged(to, self._clock())

    def committed(self, place: Place, to: int) -> None:
        """Kafka knows that everything before an offset is done."""
        self._of(place).committed(to, self._clock())

    def _of(self, place: Place) -> InHand:
        """A partition; one that was given up may still say a last word, to nobody."""
        return self._partitions.get(place) or InHand()

    def stuck(self) -> list[str]:
        """Why the worker must end; empty if it need not."""
        limit = self.limits.stuck_seconds
        silent = self._silent(limit)
        if self.phase is not Phase.RUNNING or silent:
            return silent
        explained = max(self.clickhouse.last_trouble, self.kafka.last_trouble)
        now = self._clock()
        return [
            f"{wait.what} for {now - wait.since:.0f} s"
            for wait in (*self._waits(), *self._polls())
            if now - max(wait.since, explained) > limit
        ]

    def not_ready(self) -> list[str]:
        """Why the worker is not doing its work as it should; empty if it is."""
        limit, now = self.limits.ready_seconds, self._clock()
        return [
            *([] if self.phase is Phase.RUNNING else [self.phase.value]),
            *self._silent(limit),
            *(
                f"{server.name}: {what} retried for {server.retried_seconds:.0f} s"
                for server, what in ((self.clickhouse, "insert"), (self.kafka, "append"))
                if server.retried_seconds
            ),
            *(
                f"{server.name}: no answer for {server.silent_seconds:.0f} s"
                for server in (self.clickhouse, self.kafka)
                if server.silent_seconds > limit
            ),
            *self._restoring(),
            *self._held(),
            *(
                f"{wait.what} for {now - wait.since:.0f} s"
                for wait in (*self._waits(), *self._polls())
                if now - wait.since > limit
            ),
        ]

    def _silent(self, limit: float) -> list[str]:
        return [
            f"the event loop of {name} has not answered for {pulse.silent_seconds:.0f} s"
            for name, pulse in list(self.pulses.items())
            if pulse.silent_seconds > limit
        ]

    def _restoring(self) -> list[str]:
        partitions = self._all()
        number = sum(each.restoring_since is not None for each in partitions)
        return [f"{number} of {len(partitions)} partitions are being restored"] if number else []

    def _held(self) -> list[str]:
        return [
            f"{topic}[{number}]: not read any more,"
            f" {each.held_after} records in a row were rejected"
            for (topic, number), each in list(self._partitions.items())
            if each.held_after
        ]

    def _polls(self) -> Iterator[Wait]:
        if self._partitions:
            yield Wait("nothing was fetched", self._polled_at)

    def _waits(self) -> Iterator[Wait]:
        for (topic, number), each in list(self._partitions.items()):
            for wait in (*self._progress(each), *each.commits()):
                yield Wait(f"{topic}[{number}]: {wait.what}", wait.since)

    def _progress(self, each: InHand) -> Iterator[Wait]:
        return each.progress(self._read_at, self.clickhouse.answered_at)

    @property
    def progress_seconds(self) -> float:
        """How long what is in hand has waited for its next step, at most; 0 without any."""
        return self._oldest(wait for each in self._all() for wait in self._progress(each))

    @property
    def commit_seconds(self) -> float:
        """How long acknowledged offsets have waited for their commit, at most; 0 without any."""
        return self._oldest(wait for each in self._all() for wait in each.commits())

    @property
    def loop_seconds(self) -> float:
        """How long an event loop has not answered, at most."""
        return max((pulse.silent_seconds for pulse in list(self.pulses.values())), default=0.0)

    def _all(self) -> list[InHand]:
        return list(self._partitions.values())

    def _oldest(self, waits: Iterable[Wait]) -> float:
        return max((self._clock() - wait.since for wait in waits), default=0.0)

    def report(self) -> dict[str, Any]:
        """Everything that operators want to see at a glance."""
        reasons = self.not_ready()
        partitions = self._all()
        return {
            "ready": not reasons,
            "reasons": reasons,
            "partitions": {
                "assigned": len(partitions),
                "restoring": sum(each.restoring_since is not None for each in partitions),
                "restored": sum(each.is_restored for each in partitions),
            },
            "age_seconds": {name: round(age(), 1) for name, age in self.ages().items()},
            "retries": {each.name: each.failures for each in (self.clickhouse, self.kafka)},
        }

    def ages(self) -> Mapping[str, Callable[[], float]]:
        """How old the oldest thing is that waits, by what it waits for."""
        return {
            "progress": lambda: self.progress_seconds,
            "commit": lambda: self.commit_seconds,
            "insert": lambda: self.clickhouse.waiting_seconds,
            "append": lambda: self.kafka.waiting_seconds,
            "loop": lambda: self.loop_seconds,
        }
