"""Activity follows its identity from customer to customer, and every event counts once.

A customer keeps the activity of each of its identities. A move takes an identity's activity out and
sends it on as an arrival, so merge and un-merge are the same step. For each customer that an
identity comes to there is one arrival, and for each that it leaves one move. They come by different
ways: a move that is here before the arrival waits for it, and so does nothing else. Activities join
as unions by event key, so an event that came by both ways counts once.
"""

import msgspec

from touchstream.agents.course import Course, Item, World, place_of, run
from touchstream.agents.customer_messages import (
    NOWHERE,
    Activity,
    Arrive,
    CustomerMessage,
    Event,
    Move,
    Totals,
    Touched,
)
from touchstream.agents.resolution import Token
from touchstream.agents.totals import add_to, totals_of

RECENT_EVENTS = 512
"""Events that an identity keeps one by one; older ones are folded into totals, a half at a time."""
FOLDED_KEYS = 16_384
"""Keys of folded events that are remembered, so that a late duplicate is still recognised."""


class Customer(msgspec.Struct, array_like=True):
    """One customer: the activity of each identity, and where former identities went."""

    identities: dict[Token, Activity] = {}
    totals: Totals = msgspec.field(default_factory=Totals)
    """Over all identities, recent and folded events together."""
    course: Course = msgspec.field(default_factory=Course)
    base: Course | None = None
    """Where the course was before the events that are kept; None when all are."""
    marks: list[Course] = []
    """Where it was some events ago, of customers with many: from there late events are read."""
    awaited: dict[Token, list[Token]] = {}
    """Identities whose arrival is still to come though touches or moves are here already, and the
    customers that each moved on to, in order."""
    version: int = 0
    changed_at: int = 0

    def events(self) -> list[Item]:
        """Events that are kept, in the order they happened."""
        found = (item for each in self.identities.values() for item in each.events.items())
        return sorted(found, key=place_of)


class Change(msgspec.Struct):
    """What a message did to a customer."""

    added: list[Item] = []
    removed: list[Item] = []
    onward: tuple[Token, CustomerMessage] | None = None
    """A message to send on to another customer."""
    duplicate: bool = False
    erased: bool = False
    """An identity was thrown away."""


decode_customer_state = msgspec.msgpack.Decoder(Customer).decode


def take(customer: Customer, message: CustomerMessage) -> Change:
    """Apply a message to the customer it was sent to; says which events came and went."""
    carried = customer.identities.get(message.identity)
    match message:
        case Touched():
            return _touched(customer, message)
        case Move():
            counts = _has_counts(carried)
            change = _move(customer, message)
        case Arrive():
            counts = _has_counts(carried) or _has_counts(message.activity)
            change = _arrive(customer, message)
    if counts:
        customer.totals = totals_of([*customer.identities.values()])
    return change


def has_arrived(customer: Customer, identity: Token) -> bool:
    """Whether all that an identity brings along is here."""
    return identity in customer.identities and identity not in customer.awaited


def _has_counts(activity: Activity | None) -> bool:
    return activity is not None and bool(activity.events or activity.folded)


def _touched(customer: Customer, message: Touched) -> Change:
    activity = customer.identities.get(message.identity)
    if activity is None:
        activity = customer.identities[message.identity] = Activity(message.kind)
        customer.awaited.setdefault(message.identity, [])
    if not _add(activity, message.event_key, message.event):
        return Change(duplicate=True)
    add_to(customer.totals, message.event_key, message.event)
    return Change(added=[(message.event_key, message.event)])


def _move(customer: Customer, message: Move) -> Change:
    if has_arrived(customer, message.identity):
        return _leave(customer, message.identity, message.target)
    customer.awaited.setdefault(message.identity, []).append(message.target)
    return Change()


def _arrive(customer: Customer, message: Arrive) -> Change:
    identity = message.identity
    targets = customer.awaited.pop(identity, [])
    if targets:
        return _pass_on(customer, message, targets)
    activity = customer.identities.get(identity)
    if activity is None:
        customer.identities[identity] = message.activity
        return Change(added=[*message.activity.events.items()])
    return _join(activity, message.activity)


def _pass_on(customer: Customer, message: Arrive, targets: list[Token]) -> Change:
    """The identity has left already, for the first of the targets."""
    target, *later = targets
    if later:
        customer.awaited[message.identity] = later
    here = customer.identities.get(message.identity)
    if here is None:
        return Change(onward=_arrival(target, message), erased=target == NOWHERE)
    events = [*here.events.items()]
    _join(here, message.activity)
    change = _leave(customer, message.identity, target)
    change.removed = events
    return change


def _leave(customer: Customer, identity: Token, target: Token) -> Change:
    activity = customer.identities.pop(identity)
    onward = _arrival(target, Arrive(identity, activity))
    removed = [*activity.events.items()]
    return Change(removed=removed, onward=onward, erased=target == NOWHERE)


def _arrival(target: Token, message: Arrive) -> tuple[Token, Arrive] | None:
    return None if target == NOWHERE else (target, message)


def _join(activity: Activity, other: Activity) -> Change:
    """Union by event key; an event that one side has folded already is not kept beside that."""
    again = activity.events.keys() & other.folded_keys
    removed = [(key, activity.events.pop(key)) for key in sorted(again)]
    if other.folded is not None:
        folded = [each for each in (activity.folded, other.folded) if each]
        activity.folded = totals_of([Activity("", folded=each) for each in folded])
    activity.folded_keys |= other.folded_keys
    added = [item for item in other.events.items() if _add(activity, *item)]
    return Change(added, removed)


def _add(activity: Activity, key: int, event: Event) -> bool:
    if key in activity.events or key in activity.folded_keys:
        return False
    activity.events[key] = event
    return True


def fold(customer: Customer, identity: Token, world: World) -> None:
    """When an identity has too many events: fold the customer's older ones into totals.

    What they came to stays as it is; the course goes on from there. Nothing is folded before all
    that its identities bring along is here: of what was folded twice, nobody could tell.
    """
    crowded = customer.identities.get(identity)
    if crowded is None or len(crowded.events) <= RECENT_EVENTS or customer.awaited:
        return
    places = sorted(map(place_of, crowded.events.items()))
    cut = places[len(places) // 2]
    older = [item for item in customer.events() if place_of(item) < cut]
    customer.base, _ = run(older, world, customer.base)
    customer.marks = [each for each in customer.marks if each.place > customer.base.place]
    for activity in customer.identities.values():
        _fold_before(activity, {key for key, _ in older})


def _fold_before(activity: Activity, keys: set[int]) -> None:
    totals = activity.folded or Totals()
    for key in sorted(keys & activity.events.keys()):
        add_to(totals, key, activity.events.pop(key))
        if len(activity.folded_keys) < FOLDED_KEYS:
            activity.folded_keys.add(key)
        activity.folded = totals
