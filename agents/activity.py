"""Activity follows its identity from customer to customer, and every event counts once.

A customer keeps the activity of each of its identities. A move takes an identity's activity out and
sends it on as an arrival; a forward stays behind for stragglers. Merge and un-merge are the same
step, and activities join as unions by event key, so an event that took both ways counts once.
"""

import msgspec

from touchstream.agents.course import Course, Item, World, place_of, run
from touchstream.agents.customer_messages import (
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
    forwards: dict[Token, tuple[Token, int]] = {}
    """Former identity -> its next customer, and the identity's version when it moved."""
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


decode_customer_state = msgspec.msgpack.Decoder(Customer).decode


def take(customer: Customer, message: CustomerMessage) -> Change:
    """Apply a message to the customer it was sent to; says which events came and went."""
    match message:
        case Touched():
            return _touched(customer, message)
        case Move():
            carried = customer.identities.get(message.identity)
            change = _move(customer, message)
        case Arrive():
            carried = message.activity
            change = _arrive(customer, message)
    if carried is not None and (carried.events or carried.folded):
        customer.totals = totals_of([*customer.identities.values()])
    return change


def _touched(customer: Customer, message: Touched) -> Change:
    target, moved = customer.forwards.get(message.identity, (b"", 0))
    if moved > message.version:
        return Change(onward=(target, message))
    activity = customer.identities.get(message.identity)
    if activity is None:
        activity = customer.identities[message.identity] = Activity(message.kind)
    if not _add(activity, message.event_key, message.event):
        return Change(duplicate=True)
    add_to(customer.totals, message.event_key, message.event)
    return Change(added=[(message.event_key, message.event)])


def _move(customer: Customer, message: Move) -> Change:
    customer.forwards[message.identity] = (message.target, message.version)
    activity = customer.identities.pop(message.identity, None) or Activity(message.kind)
    arrive = Arrive(message.identity, message.version, activity)
    return Change(removed=[*activity.events.items()], onward=(message.target, arrive))


def _arrive(customer: Customer, message: Arrive) -> Change:
    identity = message.identity
    target, moved = customer.forwards.get(identity, (b"", 0))
    if moved > message.version:
        return Change(onward=(target, Arrive(identity, moved, message.activity)))
    customer.forwards.pop(identity, None)
    activity = customer.identities.get(identity)
    if activity is None:
        customer.identities[identity] = message.activity
        return Change(added=[*message.activity.events.items()])
    return _join(activity, message.activity)


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

    What they came to stays as it is; the course goes on from there.
    """
    crowded = customer.identities.get(identity)
    if crowded is None or len(crowded.events) <= RECENT_EVENTS:
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
