"""What the demo must come to, counted from what it publishes in plain Python.

Nothing of the agents is used: identifiers are joined by union-find, metrics by their definitions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal

from touchstream.streams.demo.diary import Occurrence
from touchstream.streams.demo.groups import Groups, Known, one_spelling
from touchstream.streams.demo.measured import Sums, is_recent
from touchstream.streams.demo.progress import Progress

Event = tuple[str, str]
"""A touchpoint by its channel and event id."""
READABLE_TOUCHPOINTS = range(14, 40)
"""Length of a timeline that can be read at a glance, orders not counted."""
MAIN_CHANNELS = {"web", "chat", "phone", "social", "survey"}


class Expected:
    """Totals of the touchpoints seen so far."""

    def __init__(self) -> None:
        self.by_channel: Counter[str] = Counter()
        self.groups = Groups()
        self.whole_period = Sums()
        self.last_month = Sums()
        self.revenue = Decimal(0)
        self._seen_with: dict[Event, Known] = {}
        self._orders: Counter[Known] = Counter()
        self._example = _Example()

    def add(self, occurrence: Occurrence) -> None:
        """Take a touchpoint into account."""
        touchpoint = occurrence.touchpoint
        platform = touchpoint.get("platform")
        known = self.groups.join(one_spelling(platform, i) for i in touchpoint["identifiers"])
        self.by_channel[occurrence.channel] += 1
        self._seen_with[occurrence.channel, touchpoint["event_id"]] = known
        self.whole_period.add(occurrence)
        if is_recent(occurrence):
            self.last_month.add(occurrence)
        if occurrence.channel == "purchase":
            self._orders[known] += 1
            self.revenue += Decimal(str(touchpoint["value"]))
        else:
            self._example.add(occurrence)

    def watch(self, occurrences: Iterable[Occurrence]) -> Iterator[Occurrence]:
        """Count touchpoints while they pass by."""
        for occurrence in occurrences:
            self.add(occurrence)
            yield occurrence

    @property
    def touchpoints(self) -> int:
        """All touchpoints."""
        return self.by_channel.total()

    def progress(self) -> Progress:
        """Where ClickHouse should have got to by now."""
        groups = self.groups
        return Progress(self.touchpoints, self.touchpoints, groups.identifiers, groups.count)

    @property
    def orders_by_customer(self) -> Counter[Known]:
        """Orders of every customer who placed one."""
        orders: Counter[Known] = Counter()
        for known, number in self._orders.items():
            orders[self.groups.find(known)] += number
        return orders

    def customer_of(self, event: Event) -> Known | None:
        """The identifier that stands for a touchpoint's customer; None for an unknown event."""
        known = self._seen_with.get(event)
        return known and self.groups.find(known)

    def example(self) -> Event:
        """A touchpoint of a customer whose timeline shows many channels becoming one person."""
        return self._example.choose(self)


class _Example:
    """Finds a person worth showing."""

    def __init__(self) -> None:
        self._events: defaultdict[str, list[Event]] = defaultdict(list)

    def add(self, occurrence: Occurrence) -> None:
        event = occurrence.channel, occurrence.touchpoint["event_id"]
        self._events[occurrence.person].append(event)

    def choose(self, expected: Expected) -> Event:
        """First touchpoint of the one with the most channels, among the readable and whole ones."""
        whole = [events for events in self._events.values() if _is_one(events, expected)]
        readable = [events for events in whole if len(events) in READABLE_TOUCHPOINTS]
        return max(readable or whole, key=_variety)[0]


def _variety(events: list[Event]) -> tuple[int, int]:
    """Many of the main channels in few touchpoints."""
    return len(MAIN_CHANNELS & {channel for channel, _ in events}), -len(events)


def _is_one(events: list[Event], expected: Expected) -> bool:
    return len({expected.customer_of(event) for event in events}) == 1
