"""What a worker has in hand of one partition: fetched, computed, acknowledged, and since when.

A step waits since it was last taken, or since the first chunk came to an empty queue.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Wait(NamedTuple):
    """Something that has not happened since then."""

    what: str
    since: float


@dataclass
class Pending:
    """How many chunks wait for a step, and since when it has taken none of them."""

    number: int = 0
    since: float = 0.0

    def add(self, now: float) -> None:
        """One more waits."""
        if not self.number:
            self.since = now
        self.number += 1

    def take(self, now: float) -> None:
        """One waits no longer."""
        self.number, self.since = max(0, self.number - 1), now


@dataclass
class InHand:
    """Chunks of one partition, from fetched to committed."""

    computing: Pending = field(default_factory=Pending)
    saving: Pending = field(default_factory=Pending)
    restoring_since: float | None = None
    is_restored: bool = False
    waits_for_rows: bool = False
    """Whether the next step is ClickHouse's, where all partitions wait for their turn."""
    held_after: int = 0
    """Records in a row that were rejected, after which it is not read any more; 0: it is read."""
    acknowledged_to: int = 0
    committed_to: int = 0
    _uncommitted_since: float = 0.0

    def restored(self, now: float) -> None:
        """The state is there; now chunks can be computed."""
        self.restoring_since, self.is_restored = None, True
        self.computing.since = now

    def computed(self, now: float) -> None:
        """A chunk was computed; what remains is to store it."""
        self.computing.take(now)
        self.saving.add(now)

    def acknowledged(self, to: int, now: float) -> None:
        """Kafka may be told that everything before an offset is done."""
        if self.acknowledged_to <= self.committed_to:
            self._uncommitted_since = now
        self.acknowledged_to = to

    def committed(self, to: int, now: float) -> None:
        """Kafka knows that everything before an offset is done."""
        self.committed_to, self._uncommitted_since = to, now

    def progress(self, read_at: float, rows_stored_at: float) -> Iterator[Wait]:
        """What waits for its next step; `read_at` and `rows_stored_at` are the worker's last."""
        turn = rows_stored_at if self.waits_for_rows else 0.0
        if self.restoring_since is not None:
            yield Wait("restoring has read nothing", max(self.restoring_since, read_at))
        elif self.computing.number:  # behind a lane that is full, it waits for rows as well
            yield Wait("no chunk was computed", max(self.computing.since, turn))
        if self.saving.number:
            yield Wait("no chunk was stored", max(self.saving.since, turn))

    def commits(self) -> Iterator[Wait]:
        """What waits for its commit."""
        if self.acknowledged_to > self.committed_to:
            yield Wait("nothing was committed", self._uncommitted_since)
