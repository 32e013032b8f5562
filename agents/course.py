"""The course of a customer: its touchpoints read in the order they happened, one after the other.

What follows (measurements, sessions, issues, stages, paths) goes into a ledger. The latest
touchpoint continues the course; whatever else changes the touchpoints makes a new one, and the
difference between the two ledgers is what has to be corrected.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from touchstream.agents.customer_messages import Event
from touchstream.agents.issues import Issues
from touchstream.agents.journey import Journey
from touchstream.agents.journey_rules import JourneyRules
from touchstream.agents.ledger import Ledger, Member, Members
from touchstream.agents.levels import Buying, Presence, Silence, see_order
from touchstream.agents.measures import Measures, member
from touchstream.agents.orders import Orders, write_path
from touchstream.agents.sessions import Session
from touchstream.streams.catalogue import Catalogue
from touchstream.streams.topics import DAY_MS

MOST_INVITATIONS = 16
"""Invitations to surveys that an answer may belong to."""
Place = tuple[int, str, int]
"""Where a touchpoint stands in the order: its time, channel and event key."""
Item = tuple[int, Event]
"""A touchpoint with its event key."""


class World:
    """What a course depends on besides its touchpoints."""

    def __init__(self, catalogue: Catalogue, rules: JourneyRules) -> None:
        self.measures = Measures(catalogue)
        self.rules = rules
        self.windows = catalogue.day_windows


class Course(msgspec.Struct, array_like=True):
    """How far a customer has come."""

    place: Place = (-1, "", 0)
    """Of the latest touchpoint."""
    steps: int = 0
    """Number of touchpoints."""
    segment: str = ""
    account: str = ""
    journey: Journey = msgspec.field(default_factory=Journey)
    session: Session = msgspec.field(default_factory=Session)
    presence: Presence = msgspec.field(default_factory=Presence)
    silence: Silence = msgspec.field(default_factory=Silence)
    buying: dict[str, Buying] = {}
    """By dimension and member."""
    orders: Orders = msgspec.field(default_factory=Orders)
    issues: Issues = msgspec.field(default_factory=Issues)
    invitations: list[tuple[str, int, Members]] = []
    """Open ones, the latest last: which, when, and whose."""

    def see(
        self,
        key: int,
        event: Event,
        past: Callable[[], Iterable[Event]],
        world: World,
        ledger: Ledger,
    ) -> None:
        """Take the next touchpoint.

        `past` gives the touchpoints before it, the latest first.
        """
        at, rules = event.occurred_at, world.rules
        if (at, event.channel, key) < self.place:  # older than all that is kept
            self._measure(event, world, ledger)
            return
        self.place = (at, event.channel, key)
        self.steps += 1
        self.segment = event.segment or self.segment
        self.account = event.account_id or self.account
        self.journey.see(event, rules, ledger)
        self.session.see(event, rules, ledger)
        self.presence.see(at // DAY_MS, ledger)
        members = self._measure(event, world, ledger)
        if event.purchase is not None:
            self._purchase(key, event, members, world, ledger)
            if event.action == "placed":
                write_path(key, event, past(), rules, ledger)
        if event.channel == "survey" and event.mark:
            self._invitation(event.mark, event, members, ledger)
        self.issues.see(key, event, members, rules, ledger)

    def show(self, rules: JourneyRules, ledger: Ledger) -> None:
        """Write the rows that the next touchpoint may change."""
        self.journey.show(rules, ledger)
        self.session.show(ledger)
        self.issues.show(ledger)

    def copy(self) -> "Course":
        """The same course, to go on differently."""
        return _decode(_encode(self))

    def _measure(self, event: Event, world: World, ledger: Ledger) -> Members:
        """Take what the touchpoint measures by itself."""
        members = self._members(event)
        for measure, value in world.measures.of(event):
            ledger.measure(measure, event.occurred_at, value, members)
        return members

    def _members(self, event: Event) -> Members:
        members: list[Member] = [("channel", member(event))]
        if event.contact is not None and event.contact.queue:
            members.append(("queue", event.contact.queue))
        if event.team:
            members.append(("team", event.team))
        if event.campaign:
            members.append(("campaign", event.campaign))
        if self.segment:
            members.append(("segment", self.segment))
        if self.account:
            members.append(("account", self.account))
        if self.journey.stage:
            members.append(("stage", self.journey.stage))
        return tuple(members)

    def _purchase(
        self, key: int, event: Event, members: Members, world: World, ledger: Ledger
    ) -> None:
        self.orders.see(key, event, members, ledger)
        if event.action != "placed":
            return
        day = event.occurred_at // DAY_MS
        gap = self.silence.see(day, world.rules.churn_gap_days, ledger)
        if gap is not None:
            ledger.measure("purchase_gap", event.occurred_at, gap, members)
        groups = [each for each in members if each[0] in ("segment", "account")]
        see_order(self.buying, day, groups, world.windows, ledger)

    def _invitation(self, name: str, event: Event, members: Members, ledger: Ledger) -> None:
        if event.action == "invited":
            ledger.measure("invited", event.occurred_at, 1, members)
            invitation = (name, event.occurred_at, members)
            self.invitations = [*self.invitations, invitation][-MOST_INVITATIONS:]
        elif event.action == "answered":
            for known, at, theirs in self.invitations:
                if known == name:
                    ledger.measure("responded", at, 1, theirs)
            self.invitations = [each for each in self.invitations if each[0] != name]


def run(
    events: Sequence[Item],
    world: World,
    start: Course | None = None,
    first: int = 0,
    ledger: Ledger | None = None,
) -> tuple[Course, Ledger]:
    """Course of a customer with these touchpoints, in order, and what they come to.

    It begins as `start`, which is left as it is, with event number `first`; `ledger` goes on.
    """
    course = start.copy() if start else Course()
    if ledger is None:
        ledger = Ledger()
        course.show(world.rules, ledger)
    for number in range(first, len(events)):

        def past(end: int = number) -> Iterable[Event]:
            return (events[at][1] for at in range(end - 1, -1, -1))

        course.see(*events[number], past, world, ledger)
    return course, ledger


def place_of(item: Item) -> Place:
    """Where a touchpoint stands in the order."""
    key, event = item
    return event.occurred_at, event.channel, key


_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Course] = msgspec.msgpack.Decoder(Course).decode
