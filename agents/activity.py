"""Activity follows its identity from customer to customer, and every event counts once.

A customer keeps the activity of each of its identities. A move takes an identity's activity out and
sends it on as an arrival; a forward stays behind for stragglers. Merge and un-merge are the same
step, and activities join as unions by event key, so an event that took both ways counts once.
"""

import msgspec

from touchstream.agents.customer_messages import (
    Activity,
    Arrive,
    CustomerMessage,
    Event,
    Move,
    Totals,
    Touched,
)
from touchstream.agents.measures import CONTACTS
from touchstream.agents.resolution import Token

RECENT_EVENTS = 512
"""Events that an identity keeps one by one; older ones are folded into totals, a half at a time."""
FOLDED_KEYS = 16_384
"""Keys of folded events that are remembered, so that a late duplicate is still recognised."""


class Customer(msgspec.Struct, array_like=True):
    """One customer: the activity of each identity, and where former identities went."""

    identities: dict[Token, Activity] = {}
    totals: Totals = msgspec.field(default_factory=Totals)
    """Over all identities, recent and folded events together."""
    forwards: dict[Token, tuple[Token, int]] = {}
    """Former identity -> its next customer, and the identity's version when it moved."""
    version: int = 0
    changed_at: int = 0


class Change(msgspec.Struct):
    """What a message did to a customer."""

    added: list[Event] = []
    removed: list[Event] = []
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
            change = _move(customer, message)
        case Arrive():
            change = _arrive(customer, message)
    customer.totals = totals_of(customer)
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
    add_to(customer.totals, message.event)
    fold(activity)
    return Change(added=[message.event])


def _move(customer: Customer, message: Move) -> Change:
    customer.forwards[message.identity] = (message.target, message.version)
    activity = customer.identities.pop(message.identity, None) or Activity(message.kind)
    arrive = Arrive(message.identity, message.version, activity)
    return Change(removed=[*activity.events.values()], onward=(message.target, arrive))


def _arrive(customer: Customer, message: Arrive) -> Change:
    identity = message.identity
    target, moved = customer.forwards.get(identity, (b"", 0))
    if moved > message.version:
        return Change(onward=(target, Arrive(identity, moved, message.activity)))
    customer.forwards.pop(identity, None)
    activity = customer.identities.get(identity)
    if activity is None:
        customer.identities[identity] = message.activity
        return Change(added=[*message.activity.events.values()])
    return _join(activity, message.activity)


def _join(activity: Activity, other: Activity) -> Change:
    """Union by event key; an event that one side has folded already is not kept beside that."""
    again = activity.events.keys() & other.folded_keys
    removed = [activity.events.pop(key) for key in sorted(again)]
    activity.folded = join_totals(activity.folded, other.folded)
    activity.folded_keys |= other.folded_keys
    added = [event for key, event in other.events.items() if _add(activity, key, event)]
    fold(activity)
    return Change(added, removed)


def _add(activity: Activity, key: int, event: Event) -> bool:
    if key in activity.events or key in activity.folded_keys:
        return False
    activity.events[key] = event
    return True


def fold(activity: Activity) -> None:
    """Fold the older half of the events into totals when there are too many."""
    if len(activity.events) <= RECENT_EVENTS:
        return
    by_age = sorted(activity.events.items(), key=lambda item: (item[1].occurred_at, item[0]))
    older = by_age[: len(by_age) // 2]
    totals = activity.folded or Totals()
    for key, event in older:
        add_to(totals, event)
        del activity.events[key]
        if len(activity.folded_keys) < FOLDED_KEYS:
            activity.folded_keys.add(key)
    activity.folded = totals


def add_to(totals: Totals, event: Event) -> None:
    """Count one event into totals; first, last and answers by event time."""
    totals.touchpoints[event.channel] = totals.touchpoints.get(event.channel, 0) + 1
    totals.contacts += (event.channel, event.action) in CONTACTS
    if event.channel == "purchase" and event.action == "placed":
        totals.orders += 1
        totals.revenue_e4 += event.value_e4 or 0
        totals.last_order_at = max(totals.last_order_at or event.occurred_at, event.occurred_at)
    if event.question is not None and event.score is not None:
        _answer(totals, event.question, (event.occurred_at, event.score))
    if event.account_id is not None:
        account = (event.occurred_at, event.account_id)
        totals.account = max(totals.account or account, account)
    if totals.first is None or _age(event) < _age(totals.first):
        totals.first = event
    if totals.last is None or _age(event) > _age(totals.last):
        totals.last = event


def totals_of(customer: Customer) -> Totals:
    """Totals over all identities, recent and folded events together."""
    totals = Totals()
    for activity in customer.identities.values():
        for event in activity.events.values():
            add_to(totals, event)
    for activity in customer.identities.values():
        totals = join_totals(totals, activity.folded) or totals
    return totals


def join_totals(one: Totals | None, other: Totals | None) -> Totals | None:
    """Sum of two totals; neither is changed."""
    if one is None or other is None:
        return one or other
    joined = msgspec.structs.replace(
        one, touchpoints=dict(one.touchpoints), answers=dict(one.answers)
    )
    for channel, number in other.touchpoints.items():
        joined.touchpoints[channel] = joined.touchpoints.get(channel, 0) + number
    joined.contacts += other.contacts
    joined.orders += other.orders
    joined.revenue_e4 += other.revenue_e4
    moments = [at for at in (one.last_order_at, other.last_order_at) if at is not None]
    joined.last_order_at = max(moments, default=None)
    joined.first = min((e for e in (one.first, other.first) if e), key=_age, default=None)
    joined.last = max((e for e in (one.last, other.last) if e), key=_age, default=None)
    for question, answer in other.answers.items():
        _answer(joined, question, answer)
    joined.account = max((a for a in (one.account, other.account) if a), default=None)
    return joined


def _answer(totals: Totals, question: str, answer: tuple[int, float]) -> None:
    totals.answers[question] = max(answer, totals.answers.get(question, answer))


def _age(event: Event) -> tuple[int, str, str]:
    return event.occurred_at, event.channel, event.action
