"""Publishing the demo: most of it at full speed, the rest steadily to measure the latency."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from touchstream.streams.demo.diary import Occurrence
from touchstream.streams.demo.progress import Patience
from touchstream.streams.errors import TransientError

PROBE_POLL_SECONDS = 0.2
VISIBLE = """
SELECT channel, event_id FROM touchpoints
WHERE occurred_at >= fromUnixTimestamp64Milli({since:Int64})
"""


class Publishing(Protocol):
    """What the demo needs of a publisher."""

    def publish(self, channel: str, touchpoint: dict[str, Any]) -> None:
        """Queue a touchpoint."""

    def flush(self) -> None:
        """Wait until everything is delivered."""


def publish_all(publisher: Publishing, occurrences: Iterable[Occurrence]) -> None:
    """Publish at full speed."""
    for occurrence in occurrences:
        publisher.publish(occurrence.channel, occurrence.touchpoint)
    publisher.flush()


@dataclass
class Probe:
    """Publishes at a steady rate and watches each touchpoint become visible to a query.

    A latency runs from the call of `publish` to the end of the first query that returned it.
    """

    publisher: Publishing
    client: Any
    patience: Patience
    per_second: float
    latencies: list[float] = field(default_factory=list)
    _sent: dict[tuple[str, str], float] = field(default_factory=dict)

    def run(self, occurrences: Sequence[Occurrence]) -> list[float]:
        """Seconds of each touchpoint; they are in event time order."""
        clock = self.patience.clock
        began = heard_at = clock()
        published = 0
        while len(self.latencies) < len(occurrences):
            due = min(len(occurrences), 1 + int((clock() - began) * self.per_second))
            self._publish(occurrences[published:due])
            published = due
            if self._look(since=occurrences[0].occurred_at):
                heard_at = clock()
            elif clock() - heard_at >= self.patience.stall_seconds:
                raise TransientError(f"{len(self._sent):,} touchpoints do not arrive in ClickHouse")
            self.patience.pause(PROBE_POLL_SECONDS)
        self.publisher.flush()
        return self.latencies

    def _publish(self, due: Sequence[Occurrence]) -> None:
        for channel, _, touchpoint in due:
            self._sent[channel, touchpoint["event_id"]] = self.patience.clock()
            self.publisher.publish(channel, touchpoint)

    def _look(self, since: int) -> int:
        """Note what is visible now; returns how many are new."""
        rows = self.client.query(VISIBLE, parameters={"since": since}).result_rows
        now = self.patience.clock()
        sent_at = [self._sent.pop((channel, event_id), None) for channel, event_id in rows]
        new = [now - moment for moment in sent_at if moment is not None]
        self.latencies += new
        return len(new)
