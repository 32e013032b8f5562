"""A course goes on or is read again; folded events stay counted; what is kept is small."""

import random
from typing import Any

import msgspec
import pytest
from lives import random_life
from scenarios import at, call, order, touch
from test_lives import WORLD, Life, check

from touchstream.agents import activity
from touchstream.agents.activity import Customer, take
from touchstream.agents.course import run
from touchstream.agents.customer_messages import (
    Activity,
    Arrive,
    CustomerMessage,
    Event,
    Move,
    Totals,
    Touched,
)
from touchstream.agents.facts import event_key
from touchstream.agents.life import go_on, must_reread
from touchstream.streams.customer_tables import PATHS

ANN, BOB = b"ann", b"bob"
Published = tuple[str, dict[str, Any]]


def event(at: int, channel: str = "web") -> Event:
    return Event(at, channel, "page_viewed")


def touched(at: int, key: int = 7, channel: str = "web", identity: bytes = ANN) -> Touched:
    return Touched(identity, "email", key, event(at, channel))


def customer(*messages: CustomerMessage) -> Customer:
    """One that was told the messages in the order they happened."""
    found = Customer()
    for message in messages:
        go_on(found, take(found, message), WORLD)
    return found


def arrival(*times: int, identity: bytes = ANN, **folded: Any) -> Arrive:
    return Arrive(identity, Activity("email", {at: event(at) for at in times}, **folded))


FOLDED: dict[str, Any] = {"folded": Totals({"web": 1}), "folded_keys": {99}}


@pytest.mark.parametrize(
    ("message", "reread"),
    [
        (touched(101), False),
        (touched(99), True),
        (touched(100, 6), True),
        (touched(100, 7), True),
        (touched(100, 8), False),
        (touched(100, 9, "chat"), True),
        (touched(100, 1, "zebra"), False),
        (touched(99, identity=BOB), True),
        (Move(ANN, BOB), True),
        (Move(BOB, ANN), False),
        (arrival(101, 102), False),
        (arrival(99, 102), True),
        (arrival(), False),
        (arrival(102, **FOLDED), True),
        (arrival(102, identity=BOB, **FOLDED), False),
    ],
)
def test_course_is_read_again_when_something_may_change_in_it(
    message: CustomerMessage, reread: bool
) -> None:
    """Of a customer that was last seen at 100 on the web, by the touchpoint with key 7."""
    assert must_reread(customer(arrival(), touched(50, 5), touched(100, 7)), message) is reread


def test_identity_without_events_leaves_without_a_reread() -> None:
    found = customer(touched(100), Arrive(BOB, Activity("email")))
    assert not must_reread(found, Move(BOB, ANN))


def test_first_touchpoint_of_a_customer_needs_no_reread() -> None:
    assert not must_reread(Customer(), touched(0))


def in_order(rng: random.Random, number: int) -> list[Published]:
    """A life in the order that it is read in."""

    def place(each: Published) -> tuple[int, str, int]:
        channel, touchpoint = each
        return touchpoint["occurred_at"], channel, event_key(channel, touchpoint["event_id"])

    return sorted(random_life(rng, number), key=place)


def lived(published: list[Published], seed: int) -> Life:
    """The life of a customer with some identities, told in the order given; some twice."""
    rng, life = random.Random(seed), Life()
    identities = [b"i", b"j", b"k"][: rng.choice((1, 2, 3))]
    for each in published:
        identity = rng.choice(identities)
        for _ in range(rng.choice((1, 1, 1, 2))):
            life.see(identity, each)
    return life


@pytest.mark.parametrize("seed", range(30))
def test_folding_changes_nothing_while_events_come_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 30)
    published = in_order(random.Random(seed), 120)
    life = lived(published, seed)
    assert life.customer.base
    check(life, published)


@pytest.mark.parametrize("recent", [1, 2, 3, 9])
@pytest.mark.parametrize("seed", range(5))
def test_with_hardly_any_event_kept_only_paths_get_shorter(
    seed: int, recent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = in_order(random.Random(seed), 60)
    whole = lived(published, seed)
    monkeypatch.setattr(activity, "RECENT_EVENTS", recent)
    folded = lived(published, seed)
    assert all(len(each.events) <= recent for each in folded.customer.identities.values())
    assert folded.measured == whole.measured
    assert folded.customer.totals == whole.customer.totals
    assert folded.customer.course == whole.customer.course
    assert but_paths(folded) == but_paths(whole)


def but_paths(life: Life) -> dict[Any, Any]:
    return {key: row for key, row in life.rows.items() if key[0] is not PATHS}


def test_course_that_went_on_is_the_one_that_is_read_from_where_folding_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 5)
    life = Life()
    for each in in_order(random.Random(1), 60):
        life.see(ANN, each)
        found, _ = run(life.customer.events(), WORLD, life.customer.base)
        assert found == life.customer.course


def test_late_event_is_judged_with_those_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 10)
    published = in_order(random.Random(2), 40)
    late = published.pop(-3)
    life = lived([*published, late], 2)
    assert life.customer.base
    assert but_paths(life) == but_paths(lived([*published[:-2], late, *published[-2:]], 2))


def ordinary() -> list[tuple[bytes, Published]]:
    """The mix of `make bench` for one customer, over some weeks."""
    cookie, crm, email = (bytes([number]) * 16 for number in (200, 201, 202))
    pages = [
        (cookie, touch("web.page_viewed", at(3 * n, 9, n), campaign="spring")) for n in range(7)
    ]
    return [
        *pages,
        (cookie, touch("web.logged_in", at(18, 9, 30))),
        (crm, order(18, 10, order_id="o4711", value=19.99)),
        (crm, call(20, 11, talk_ms=120_000, queue="orders", resolved=True)),
        (email, touch("survey.answered", at(21), question="nps", score=9.0)),
        (crm, order(25, 10, order_id="o4712", value=19.99)),
    ]


def test_ordinary_customer_takes_less_than_one_and_a_half_kilobytes() -> None:
    life = Life()
    for identity, (channel, each) in ordinary():
        life.see(identity, (channel, {"properties": {}, **each}))
    assert (len(life.customer.identities), len(life.customer.events())) == (3, 12)
    assert len(msgspec.msgpack.encode(life.customer)) < 1_500


def test_event_older_than_what_is_kept_is_only_measured_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 4)
    days = [*range(100, 108), *range(120, 128)]
    events = [touch("web.page_viewed", at(day)) for day in days]
    life = Life()
    for channel, touchpoint in [*events[:8], order(110), order(111), *events[8:]]:
        life.see(b"i", (channel, {"properties": {}, **touchpoint}))
    assert life.customer.base is not None
    before = dict(life.measured)
    for channel, touchpoint in (touch("web.page_viewed", at(50)), order(50)):
        life.see(b"j", (channel, {"properties": {}, **touchpoint}))
    added = {key[0] for key, number in life.measured.items() if number != before.get(key, 0)}
    assert added == {"order", "revenue"}


def test_long_texts_and_many_purposes_keep_a_customer_small() -> None:
    life = Life()
    long = "x" * 100_000
    for n in range(40):
        consent = {f"{n}-{purpose}": True for purpose in range(100)}
        published = touch("web.page_viewed", at(n), campaign=long + str(n), consent=consent)
        channel, touchpoint = published
        fields = {**touchpoint, "account_id": f"{n}{long}", "properties": {"segment": f"{n}{long}"}}
        life.see(b"i", (channel, fields))
        channel, touchpoint = order(n, order_id=long + str(n), account_id=f"{n}")
        life.see(b"i", (channel, {**touchpoint, "properties": {}}))
    assert len(msgspec.msgpack.encode(life.customer)) < 150_000
    assert len(life.customer.totals.consent) == 64
    assert len(life.customer.course.buying) == 33
