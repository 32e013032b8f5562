"""Keeping a customer's course true to its events, whichever way they come."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import takewhile

from touchstream.agents.activity import Change, Customer, has_arrived
from touchstream.agents.course import Item, World, place_of, run
from touchstream.agents.customer_messages import Arrive, CustomerMessage, Event, Move, Touched
from touchstream.agents.ledger import Ledger

STRIDE = 32
"""Events from one mark to the next."""
MOST_MARKS = 2


def must_reread(customer: Customer, message: CustomerMessage) -> bool:
    """Whether the message may do more than add events after the latest one."""
    here = customer.course.place
    match message:
        case Touched():
            return place_of((message.event_key, message.event)) <= here
        case Move():
            leaves = has_arrived(customer, message.identity)
            return leaves and bool(customer.identities[message.identity].events)
        case Arrive() if customer.awaited.get(message.identity):
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
        mark(customer)
    return ledger


def mark(customer: Customer) -> None:
    """Remember where the course is, now and then."""
    marks, course = customer.marks, customer.course
    last = marks[-1] if marks else customer.base
    steps = course.steps - (last.steps if last else 0)
    if steps >= (STRIDE if marks else 2 * STRIDE):
        customer.marks = [*marks, course.copy()][-MOST_MARKS:]


def reread(customer: Customer, before: Sequence[Item], world: World) -> Ledger:
    """Make the course anew; what has changed since the events were those of `before`.

    Both courses are the same up to the first event that only one of them has, and known where it
    was marked.
    """
    after = customer.events()
    if after == before:
        return Ledger()
    same = sum(1 for _ in takewhile(_are_one, zip(before, after, strict=False)))
    changed = min(place_of(each[same]) for each in (before, after) if same < len(each))
    marks = [each for each in customer.marks if each.place < changed]
    start = marks[-1] if marks else customer.base
    begin = bisect_right(after, start.place, hi=same, key=place_of) if start else 0
    common, _ = run(after[:same], world, start, begin)
    _, old = run(before, world, common, same)
    cut = max(len(after) - STRIDE, same)
    middle, new = run(after[:cut], world, common, same)
    customer.course, _ = run(after, world, middle, cut, new)
    customer.marks = [*marks, middle][-MOST_MARKS:] if cut - begin >= STRIDE else marks
    return new.since(old)


def _are_one(pair: tuple[Item, Item]) -> bool:
    return pair[0] == pair[1]
