"""Activity follows its identity: every event once, at the identity's last customer."""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lives import random_life
from test_lives import WORLD, touch_of

from touchstream.agents import activity
from touchstream.agents.activity import Change, Customer, fold, take
from touchstream.agents.course import Item
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
from touchstream.agents.facts import event_key, event_of
from touchstream.agents.resolution import Token
from touchstream.agents.totals import add_to, join_to, totals_of

KIND = "email"
A, B, C = b"customer a", b"customer b", b"customer c"
ANN = b"ann"


def event(number: int, **fields: object) -> Event:
    """An event whose channel is its name, so that totals say which events they hold."""
    shown = {"channel": f"e{number}", "action": "page_viewed", **fields}
    return Event(1000 + number, **shown)  # type: ignore[arg-type]


def touched(number: int, identity: Token = ANN) -> Touched:
    return Touched(identity, KIND, number, event(number))


def came(identity: Token = ANN, *numbers: int) -> Arrive:
    return Arrive(identity, Activity(KIND, {number: event(number) for number in numbers}))


def move(target: Token, identity: Token = ANN) -> Move:
    return Move(identity, target)


def held(customer: Customer) -> dict[str, int]:
    """How often the customer counts each event."""
    assert customer.totals == totals_of([*customer.identities.values()])
    return customer.totals.touchpoints


def tell(customer: Customer, message: CustomerMessage) -> Change:
    """Take a message as the stage does."""
    change = take(customer, message)
    if change.added:
        fold(customer, message.identity, WORLD)
    return change


Sent = tuple[Token, CustomerMessage]


class Network:
    """Customers on partitions; messages are in order from one sender to one partition only."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.partitions = rng.choice((1, 2, 4))
        self.customers: defaultdict[Token, Customer] = defaultdict(Customer)
        self.contributed: Counter[str] = Counter()
        self._links: defaultdict[tuple[int, int], deque[Sent]] = defaultdict(deque)

    def send(self, sender: int, customer: Token, message: CustomerMessage) -> None:
        self._links[sender, customer[-1] % self.partitions].append((customer, message))

    def drain(self) -> None:
        while ready := [link for link, waiting in self._links.items() if waiting]:
            link = self.rng.choice(ready)
            name, message = self._links[link].popleft()
            change = tell(self.customers[name], message)
            self.contributed.update(found.channel for _, found in change.added)
            self.contributed.subtract(found.channel for _, found in change.removed)
            if change.onward:
                self.send(link[1], *change.onward)


def history(rng: random.Random, identity: Token) -> Iterator[Sent]:
    """What the writer of one identity sends: touches, some twice, and moves to and fro."""
    names = [b"customer%d" % n for n in range(rng.choice((2, 3, 6)))]
    here = rng.choice(names)
    yield here, came(identity)
    for number in range(rng.randrange(30)):
        there = rng.choice(names)
        if rng.random() < 0.3 and there != here:
            yield here, move(there, identity)
            here = there
        for _ in range(rng.choice((1, 1, 2))):
            yield here, Touched(identity, KIND, number, event(number))


def expected_after(sent: list[Sent]) -> tuple[Token, set[str]]:
    """Customer at which an identity ends, and its events."""
    name, last = sent[-1]
    here = last.target if isinstance(last, Move) else name
    return here, {m.event.channel for _, m in sent if isinstance(m, Touched)}


@settings(max_examples=300, deadline=None)
@example(seed=0, recent=512)
@given(seed=st.integers(0, 1 << 32), recent=st.sampled_from([1, 2, 4, 512]))
def test_every_event_counts_once_at_the_last_customer_of_its_identity(
    seed: int, recent: int
) -> None:
    rng = random.Random(seed)
    identities = [b"identity%d" % n for n in range(rng.choice((1, 4, 10)))]
    sent = {identity: list(history(rng, identity)) for identity in identities}
    network = Network(rng)
    for number, identity in enumerate(identities):
        for name, message in sent[identity]:
            network.send(-1 - number % 3, name, message)
    with patch.object(activity, "RECENT_EVENTS", recent):
        network.drain()
    expected: defaultdict[Token, Counter[str]] = defaultdict(Counter)
    for identity in identities:
        here, events = expected_after(sent[identity])
        expected[here].update(events)
    for name, customer in network.customers.items():
        assert held(customer) == expected[name], name
        assert customer.awaited == {}


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), recent=st.sampled_from([1, 4, 512]))
def test_every_event_contributes_once_however_often_it_moved(seed: int, recent: int) -> None:
    rng = random.Random(seed)
    sent = list(history(rng, ANN))
    network = Network(rng)
    for name, message in sent:
        network.send(-1, name, message)
    with patch.object(activity, "RECENT_EVENTS", recent):
        network.drain()
    assert set(network.contributed.values()) <= {0, 1}
    assert +network.contributed == Counter({*expected_after(sent)[1]})


def customer(*messages: CustomerMessage) -> Customer:
    found = Customer()
    for message in messages:
        tell(found, message)
    return found


def sent_on(change: Change) -> CustomerMessage:
    assert change.onward
    return change.onward[1]


def test_touch_is_added() -> None:
    assert take(Customer(), touched(1)) == Change(added=[(1, event(1))])


def test_duplicate_of_a_recent_event_is_recognised() -> None:
    found = customer(touched(1))
    assert take(found, touched(1)) == Change(duplicate=True)
    assert held(found) == {"e1": 1}


def test_duplicate_of_a_folded_event_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    found = customer(came(), *map(touched, range(5)))
    assert all(take(found, touched(number)).duplicate for number in range(5))
    assert held(found) == {f"e{number}": 1 for number in range(5)}


def test_duplicate_of_an_event_folded_elsewhere_is_recognised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    arrival = sent_on(take(customer(came(), *map(touched, range(5))), move(B)))
    assert take(customer(arrival), touched(0)).duplicate


def test_duplicate_of_an_event_folded_before_a_join_is_recognised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    arrival = sent_on(take(customer(came(), *map(touched, range(5))), move(B)))
    assert take(customer(touched(9), arrival), touched(0)).duplicate


def test_event_key_of_another_identity_is_no_duplicate() -> None:
    found = customer(touched(1), touched(1, identity=b"bob"))
    assert held(found) == {"e1": 2}


def test_move_takes_the_activity_out_and_sends_it_on() -> None:
    found = customer(came(), touched(1), touched(2))
    change = take(found, move(B))
    assert change.removed == [(1, event(1)), (2, event(2))]
    expected = Activity(KIND, {1: event(1), 2: event(2)})
    assert change.onward == (B, Arrive(ANN, expected))
    assert found.identities == {}


def test_move_leaves_other_identities_behind() -> None:
    found = customer(came(), touched(1), touched(2, identity=b"bob"), move(B))
    assert held(found) == {"e2": 1}


def test_move_waits_for_the_arrival() -> None:
    found = customer(move(B))
    assert take(found, came(ANN, 1)) == Change(onward=(B, came(ANN, 1)))
    assert (found.identities, found.awaited) == ({}, {})


def test_touch_that_overtook_its_arrival_leaves_with_it() -> None:
    found = customer(touched(2))
    assert take(found, move(B)) == Change()
    change = take(found, came(ANN, 1))
    assert change == Change(removed=[(2, event(2))], onward=(B, came(ANN, 2, 1)))


def test_arrivals_leave_in_the_order_of_the_moves() -> None:
    found = customer(move(B), move(C))
    assert take(found, came(ANN, 1)).onward == (B, came(ANN, 1))
    assert take(found, came(ANN, 1)).onward == (C, came(ANN, 1))
    assert take(found, came(ANN, 1)).added == [(1, event(1))]


def test_activity_that_moves_nowhere_is_thrown_away() -> None:
    found = customer(came(), touched(1), touched(2, identity=b"bob"))
    assert take(found, move(NOWHERE)) == Change(removed=[(1, event(1))], erased=True)
    assert held(found) == {"e2": 1}


def test_activity_that_comes_after_it_moved_nowhere_is_thrown_away() -> None:
    found = customer(touched(1), move(NOWHERE))
    assert take(found, came(ANN, 2)) == Change(removed=[(1, event(1))], erased=True)
    assert (found.identities, found.awaited) == ({}, {})


def test_arrival_joins_what_is_there_as_a_union() -> None:
    found = customer(touched(1), touched(2))
    change = take(found, came(ANN, 2, 3))
    assert change.added == [(3, event(3))]
    assert held(found) == {"e1": 1, "e2": 1, "e3": 1}


def test_older_half_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 4)
    numbers = (4, 0, 3, 1, 2)
    found = customer(came(), *(Touched(ANN, KIND, 100 - n, event(n)) for n in numbers))
    kept = found.identities[ANN]
    assert (sorted(kept.events), kept.folded_keys) == ([96, 97, 98], {99, 100})
    assert held(found) == {f"e{number}": 1 for number in numbers}


def test_older_events_of_other_identities_are_folded_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept of a customer is its latest events, whosever they are."""
    monkeypatch.setattr(activity, "RECENT_EVENTS", 4)
    bobs = [touched(number, identity=b"bob") for number in (0, 9)]
    found = customer(came(), came(b"bob"), *bobs, *map(touched, range(1, 6)))
    assert sorted(key for key, _ in found.events()) == [3, 4, 5, 9]
    assert found.identities[b"bob"].folded_keys == {0}


def test_number_of_remembered_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 1)
    monkeypatch.setattr(activity, "FOLDED_KEYS", 3)
    found = customer(came(), *map(touched, range(20)))
    assert len(found.identities[ANN].folded_keys) == 3
    assert held(found) == {f"e{number}": 1 for number in range(20)}


def test_event_folded_elsewhere_counts_once_when_its_duplicate_came_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    arrival = sent_on(take(customer(came(), *map(touched, range(5))), move(B)))
    later = customer(touched(0))
    assert take(later, arrival).removed == [(0, event(0))]
    assert held(later) == {f"e{number}": 1 for number in range(5)}


@pytest.mark.parametrize("seed", range(20))
def test_kept_totals_are_those_of_the_activities(seed: int) -> None:
    rng = random.Random(seed)
    found = customer(*(touched(n) for n in rng.sample(range(9), 5)))
    bob = customer(came(b"bob"), *(touched(n, identity=b"bob") for n in range(4)))
    take(found, sent_on(take(bob, move(b"found", identity=b"bob"))))
    assert held(bob) == {}
    take(found, touched(rng.randrange(9)))
    assert sum(held(found).values()) in (9, 10)


def life(seed: int) -> list[Item]:
    """Events of all kinds in the order they happened, with their keys."""
    rng = random.Random(seed)
    return [
        (event_key(channel, each["event_id"]), event_of(touch_of(channel, each)))
        for channel, each in random_life(rng, rng.randrange(40))
    ]


LIVES = st.builds(life, st.integers(0, 1 << 32))


def totals_over(items: list[Item]) -> Totals:
    totals = Totals()
    for key, found in items:
        add_to(totals, key, found)
    return totals


def joined(one: Totals, other: Totals) -> Totals:
    totals = Totals()
    join_to(totals, one)
    join_to(totals, other)
    return totals


@settings(deadline=None)
@given(LIVES, st.integers(1, 6))
def test_folding_keeps_the_totals(items: list[Item], recent: int) -> None:
    with patch.object(activity, "RECENT_EVENTS", recent):
        folded = customer(came(), *(Touched(ANN, KIND, *item) for item in items))
    assert len(folded.events()) <= recent
    assert folded.totals == totals_over(items)
    assert totals_of([*folded.identities.values()]) == totals_over(items)


@settings(deadline=None)
@given(LIVES, st.randoms(use_true_random=False))
def test_totals_do_not_depend_on_the_order_of_events(items: list[Item], rng: random.Random) -> None:
    assert totals_over(rng.sample(items, len(items))) == totals_over(items)


@settings(deadline=None)
@given(LIVES, st.integers(0, 40))
def test_joined_totals_are_the_totals_of_both(items: list[Item], cut: int) -> None:
    one, other = totals_over(items[:cut]), totals_over(items[cut:])
    assert joined(one, other) == joined(other, one) == totals_over(items)


@settings(deadline=None)
@given(LIVES, st.integers(0, 40))
def test_totals_that_were_joined_to_others_stay_as_they_were(items: list[Item], cut: int) -> None:
    totals, other = totals_over(items[:cut]), totals_over(items[cut:])
    join_to(totals, other)
    join_to(totals, other)
    assert other == totals_over(items[cut:])
