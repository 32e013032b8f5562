"""Keeping a customer's course true to its events, whichever way they come."""

from collections.abc import Iterable, Sequence

from touchstream.agents.activity import Change, Customer
from touchstream.agents.course import Item, World, place_of, run
from touchstream.agents.customer_messages import Arrive, CustomerMessage, Event, Move, Touched
from touchstream.agents.ledger import Ledger


def must_reread(customer: Customer, message: CustomerMessage) -> bool:
    """Whether the message may do more than add events after the latest one."""
    here = customer.course.place
    match message:
        case Touched():
            return place_of((message.event_key, message.event)) <= here
        case Move():
            activity = customer.identities.get(message.identity)
            return activity is not None and bool(activity.events)
        case Arrive():
            known = message.identity in customer.identities
            late = any(place_of(item) <= here for item in message.activity.events.items())
            return late or (known and bool(message.activity.folded_keys))


def go_on(customer: Customer, change: Change, world: World) -> Ledger:
    """Continue the course with events after the latest one; what they come to."""
    ledger = Ledger()
    for key, event in sorted(change.added, key=place_of):

        def past(end: Item = (key, event)) -> Iterable[Event]:
            earlier = (item for item in customer.events() if place_of(item) < place_of(end))
            return (event for _, event in reversed([*earlier]))

        customer.course.see(key, event, past, world, ledger)
    return ledger


def reread(customer: Customer, before: Sequence[Item], world: World) -> Ledger:
    """Make the course anew; what has changed since the events were those of `before`."""
    _, old = run(before, world, customer.base)
    customer.course, new = run(customer.events(), world, customer.base)
    return new.since(old)
