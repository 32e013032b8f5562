"""Activity follows its identity: every event once, at the identity's last customer."""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from touchstream.agents import activity
from touchstream.agents.activity import Change, Customer, add_to, fold, join_totals, take, totals_of
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

KIND = "email"
A, B, C = b"customer a", b"customer b", b"customer c"
ANN = b"ann"


def event(number: int, **fields: object) -> Event:
    """An event whose channel is its name, so that totals say which events they hold."""
    shown = {"channel": f"e{number}", "action": "page_viewed", **fields}
    return Event(1000 + number, **shown)  # type: ignore[arg-type]


def touched(number: int, version: int = 1, identity: Token = ANN) -> Touched:
    return Touched(identity, KIND, version, number, event(number))


def move(target: Token, version: int, identity: Token = ANN) -> Move:
    return Move(identity, KIND, version, target)


def held(customer: Customer) -> dict[str, int]:
    """How often the customer counts each event."""
    return totals_of(customer).touchpoints


Sent = tuple[Token, CustomerMessage]


class World:
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
            change = take(self.customers[name], message)
            self.contributed.update(found.channel for found in change.added)
            self.contributed.subtract(found.channel for found in change.removed)
            if change.onward:
                self.send(link[1], *change.onward)


def history(rng: random.Random, identity: Token) -> Iterator[Sent]:
    """What the writer of one identity sends: touches, some twice, and moves to and fro."""
    names = [b"customer%d" % n for n in range(rng.choice((2, 3, 6)))]
    here, version = rng.choice(names), 1
    for number in range(rng.randrange(30)):
        there = rng.choice(names)
        if rng.random() < 0.3 and there != here:
            version += 1
            yield here, move(there, version, identity)
            here = there
        for _ in range(rng.choice((1, 1, 2))):
            yield here, Touched(identity, KIND, version, number, event(number))


def expected_after(sent: list[Sent]) -> tuple[Token, set[str]] | None:
    """Customer at which an identity ends, and its events; None without events."""
    if not sent:
        return None
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
    world = World(rng)
    for number, identity in enumerate(identities):
        for name, message in sent[identity]:
            world.send(-1 - number % 3, name, message)
    with patch.object(activity, "RECENT_EVENTS", recent):
        world.drain()
    expected: defaultdict[Token, Counter[str]] = defaultdict(Counter)
    for identity in identities:
        if end := expected_after(sent[identity]):
            expected[end[0]].update(end[1])
    for name, customer in world.customers.items():
        assert held(customer) == expected[name], name


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), recent=st.sampled_from([1, 4, 512]))
def test_every_event_contributes_once_however_often_it_moved(seed: int, recent: int) -> None:
    rng = random.Random(seed)
    sent = list(history(rng, ANN))
    world = World(rng)
    for name, message in sent:
        world.send(-1, name, message)
    with patch.object(activity, "RECENT_EVENTS", recent):
        world.drain()
    assert set(world.contributed.values()) <= {0, 1}
    assert +world.contributed == Counter({*(expected_after(sent) or (b"", set()))[1]})


def customer(*messages: CustomerMessage) -> Customer:
    found = Customer()
    for message in messages:
        take(found, message)
    return found


def test_touch_is_added() -> None:
    assert take(Customer(), touched(1)) == Change(added=[event(1)])


def test_duplicate_of_a_recent_event_is_recognised() -> None:
    found = customer(touched(1))
    assert take(found, touched(1)) == Change(duplicate=True)
    assert held(found) == {"e1": 1}


def test_duplicate_of_a_folded_event_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    found = customer(*map(touched, range(5)))
    assert all(take(found, touched(number)).duplicate for number in range(5))
    assert held(found) == {f"e{number}": 1 for number in range(5)}


def test_duplicate_of_an_event_folded_elsewhere_is_recognised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    onward = take(customer(*map(touched, range(5))), move(B, 2)).onward
    assert onward
    assert take(customer(onward[1]), touched(0, version=2)).duplicate


def test_duplicate_of_an_event_folded_before_a_join_is_recognised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    onward = take(customer(*map(touched, range(5))), move(B, 2)).onward
    assert onward
    assert take(customer(touched(9, version=2), onward[1]), touched(0, version=2)).duplicate


def test_event_key_of_another_identity_is_no_duplicate() -> None:
    found = customer(touched(1), touched(1, identity=b"bob"))
    assert held(found) == {"e1": 2}


def test_move_takes_the_activity_out_and_sends_it_on() -> None:
    found = customer(touched(1), touched(2))
    change = take(found, move(B, 2))
    assert change.removed == [event(1), event(2)]
    expected = Activity(KIND, {1: event(1), 2: event(2)})
    assert change.onward == (B, Arrive(ANN, 2, expected))
    assert found.identities == {}


def test_move_leaves_other_identities_behind() -> None:
    found = customer(touched(1), touched(2, identity=b"bob"), move(B, 2))
    assert held(found) == {"e2": 1}


def test_move_of_an_unknown_identity_sends_an_empty_activity() -> None:
    assert take(Customer(), move(B, 2)).onward == (B, Arrive(ANN, 2, Activity(KIND)))


def test_straggler_is_forwarded() -> None:
    straggler = touched(3, version=1)
    assert take(customer(move(B, 2)), straggler) == Change(onward=(B, straggler))


def test_touch_of_the_version_that_moved_back_is_taken_before_the_arrival() -> None:
    found = customer(move(B, 2))
    assert take(found, touched(3, version=2)).added == [event(3)]


def test_late_arrival_is_forwarded_with_the_version_of_the_forward() -> None:
    found = customer(move(B, 4))
    arrival = Activity(KIND, {1: event(1)})
    assert take(found, Arrive(ANN, 3, arrival)).onward == (B, Arrive(ANN, 4, arrival))


def test_arrival_ends_the_forward() -> None:
    found = customer(move(B, 2), Arrive(ANN, 3, Activity(KIND)))
    assert found.forwards == {}


def test_arrival_joins_what_is_there_as_a_union() -> None:
    found = customer(touched(1, version=2), touched(2, version=2))
    change = take(found, Arrive(ANN, 2, Activity(KIND, {2: event(2), 3: event(3)})))
    assert change.added == [event(3)]
    assert held(found) == {"e1": 1, "e2": 1, "e3": 1}


def test_older_half_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 4)
    found = Customer()
    for number in (4, 0, 3, 1, 2):
        take(found, Touched(ANN, KIND, 1, 100 - number, event(number)))
    kept = found.identities[ANN]
    assert (sorted(kept.events), kept.folded_keys) == ([96, 97, 98], {99, 100})


def test_number_of_remembered_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 1)
    monkeypatch.setattr(activity, "FOLDED_KEYS", 3)
    found = customer(*map(touched, range(20)))
    assert len(found.identities[ANN].folded_keys) == 3
    assert held(found) == {f"e{number}": 1 for number in range(20)}


EVENTS = st.lists(
    st.builds(
        Event,
        st.integers(0, 50),
        st.sampled_from(["web", "purchase", "survey", "phone"]),
        st.sampled_from(["placed", "ended", "answered", "page_viewed"]),
        account_id=st.sampled_from([None, "acme", "umbrella"]),
        question=st.sampled_from([None, "csat", "nps"]),
        score=st.sampled_from([None, 1.0, 4.0]),
        value_e4=st.sampled_from([None, 0, 12_345]),
    ),
    max_size=20,
    unique_by=lambda found: (found.occurred_at, found.channel, found.action),
)


def totals_over(events: list[Event]) -> Totals:
    totals = Totals()
    for found in events:
        add_to(totals, found)
    return totals


@given(EVENTS, st.integers(1, 6))
def test_folding_keeps_the_totals(events: list[Event], recent: int) -> None:
    folded = Customer({ANN: Activity(KIND)})
    kept = folded.identities[ANN]
    with patch.object(activity, "RECENT_EVENTS", recent):
        for key, found in enumerate(events):
            kept.events[key] = found
            fold(kept)
            assert len(kept.events) <= recent
    assert totals_of(folded) == totals_over(events)


@given(EVENTS, st.data())
def test_totals_do_not_depend_on_the_order_of_events(
    events: list[Event], data: st.DataObject
) -> None:
    assert totals_over(data.draw(st.permutations(events))) == totals_over(events)


@given(EVENTS, st.integers(0, 20))
def test_joined_totals_are_the_totals_of_both(events: list[Event], cut: int) -> None:
    one, other = totals_over(events[:cut]), totals_over(events[cut:])
    assert join_totals(one, other) == join_totals(other, one) == totals_over(events)


@given(EVENTS, st.integers(0, 20))
def test_joining_totals_changes_neither(events: list[Event], cut: int) -> None:
    one, other = totals_over(events[:cut]), totals_over(events[cut:])
    join_totals(one, other)
    assert (one, other) == (totals_over(events[:cut]), totals_over(events[cut:]))


@pytest.mark.parametrize("one", [None, Totals(contacts=1)])
def test_no_totals_add_nothing(one: Totals | None) -> None:
    assert join_totals(one, None) == join_totals(None, one) == one


def test_event_folded_elsewhere_counts_once_when_its_duplicate_came_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 2)
    former, later = customer(*(touched(n) for n in range(5))), Customer()
    change = take(former, move(b"later", version=2))
    assert change.onward
    take(later, touched(0, version=2))
    joined = take(later, change.onward[1])
    assert len(joined.removed) == 1
    assert sum(totals_of(later).touchpoints.values()) == 5


@pytest.mark.parametrize("seed", range(20))
def test_kept_totals_are_those_of_the_activities(seed: int) -> None:
    rng = random.Random(seed)
    found = customer(*(touched(n) for n in rng.sample(range(9), 5)))
    bob = customer(*(touched(n, identity=b"bob") for n in range(4)))
    onward = take(bob, move(b"found", 2, identity=b"bob")).onward
    assert onward
    take(found, onward[1])
    assert not bob.totals.touchpoints
    take(found, touched(rng.randrange(9), version=3))
    assert found.totals == totals_of(found)
