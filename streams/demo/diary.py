"""What the demo publishes: a touchpoint, its channel and the person it truly comes from.

The person is the ground truth: it is never published, so stitching has to find it out.
"""

from typing import Any, NamedTuple

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BEGIN_MS = 852_076_800_000
"""1997-01-01, the first day of the CDNOW purchases."""
END_MS = 899_251_200_000
"""1998-07-01, the day after the last one."""

Identifier = dict[str, Any]


class Occurrence(NamedTuple):
    """One touchpoint of the demo."""

    channel: str
    person: str
    touchpoint: dict[str, Any]

    @property
    def occurred_at(self) -> int:
        """Event time, milliseconds since 1970."""
        moment: int = self.touchpoint["occurred_at"]
        return moment


def identifier(kind: str, value: str, *, verified: bool = False) -> Identifier:
    """An identifier as a touchpoint carries it."""
    return {"kind": kind, "value": value, "verified": verified}


class Diary:
    """Collects the occurrences of many people, and numbers their touchpoints."""

    def __init__(self, end_ms: int | None = END_MS) -> None:
        self._end_ms = end_ms
        self._number = 0
        self.occurrences: list[Occurrence] = []

    def write(
        self,
        channel: str,
        person: str,
        at: int,
        action: str,
        identifiers: list[Identifier],
        **fields: Any,
    ) -> str:
        """Add a touchpoint, unless it lies after the end; returns its event id."""
        self._number += 1
        event_id = f"{channel}-{self._number:07}"
        if self._end_ms is None or at < self._end_ms:
            touchpoint = {
                "event_id": event_id,
                "occurred_at": at,
                "action": action,
                "identifiers": identifiers,
                **fields,
            }
            self.occurrences.append(Occurrence(channel, person, touchpoint))
        return event_id

    def tear_out(self) -> list[Occurrence]:
        """Take the occurrences written so far, in event time order."""
        pages, self.occurrences = self.occurrences, []
        return sorted(pages, key=lambda page: page.occurred_at)
