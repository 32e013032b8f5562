"""Whichever way touchpoints come and go: a customer's course is as if recounted from the start."""

import random
from collections import Counter
from typing import Any

import pytest
from lives import random_life

from touchstream.agents import life as keeping
from touchstream.agents.activity import Customer, fold, take
from touchstream.agents.course import World
from touchstream.agents.customer_messages import Activity, Arrive, CustomerMessage, Move, Touched
from touchstream.agents.facts import event_key, event_of
from touchstream.agents.identity_messages import Touch
from touchstream.agents.ingest import handling_ms
from touchstream.agents.journey_rules import load_journey
from touchstream.agents.levels import changes_of
from touchstream.agents.life import go_on, must_reread, reread
from touchstream.agents.recount.customer import recount
from touchstream.agents.recount.facts import fact_of_touchpoint
from touchstream.agents.view import customer_row
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PATHS, SESSIONS, VISITS

WORLD = World(load_catalogue(), load_journey())
ME = bytes(16)
Published = tuple[str, dict[str, Any]]


def touch_of(channel: str, touchpoint: dict[str, Any]) -> Touch:
    common = (
        "event_id",
        "occurred_at",
        "action",
        "account_id",
        "campaign",
        "properties",
        "consent",
    )
    fields = {k: v for k, v in touchpoint.items() if k not in common and v is not None}
    handle_ms = handling_ms(channel, fields)
    if handle_ms is not None:
        fields["handle_ms"] = handle_ms
    get = touchpoint.get
    event_id, at, action = (touchpoint[name] for name in common[:3])
    rest = (get("account_id"), None, get("campaign"), None, get("consent", {}))
    properties = touchpoint["properties"]
    return Touch("email", False, [], channel, event_id, at, 0, action, *rest, properties, fields)


class Life:
    """One customer; what its ledgers have come to so far."""

    def __init__(self) -> None:
        self.customer = Customer()
        self.measured: Counter[Any] = Counter()
        self.rows: dict[Any, Any] = {}

    def tell(self, message: CustomerMessage) -> None:
        customer = self.customer
        before = customer.events() if must_reread(customer, message) else None
        change = take(customer, message)
        if change.duplicate:
            return
        if before is None:
            ledger = go_on(customer, change, WORLD)
        else:
            ledger = reread(customer, before, WORLD)
        for entry, number in ledger.entries:
            self.measured[entry] += number
        for key, (row, gone) in ledger.rows.items():
            self.rows[key] = None if gone else row
        fold(customer, message.identity, WORLD)

    def see(self, identity: bytes, published: Published) -> None:
        channel, touchpoint = published
        key = event_key(channel, touchpoint["event_id"])
        event = event_of(touch_of(channel, touchpoint))
        if identity not in self.customer.identities:
            self.tell(Arrive(identity, Activity("email")))
        self.tell(Touched(identity, "email", key, event))


def check(life: Life, published: list[Published]) -> None:
    plain = {tuple(key[:4]): n for key, n in life.measured.items() if n and not key[4]}
    if not published:
        assert not net_levels(life.measured)
        assert not plain
        assert not any(life.rows.values())
        return
    expected = recount([fact_of_touchpoint(*each) for each in published])
    assert plain == Counter(tuple(each) for each in expected.measurements)
    changes: Counter[Any] = Counter()
    for level, day, by, dimension, member in expected.changes:
        changes[level, day, dimension, member] += by
    assert net_levels(life.measured) == {key: by for key, by in changes.items() if by}
    check_rows(life, expected)


def net_levels(measured: Counter[Any]) -> dict[Any, int]:
    net: Counter[Any] = Counter()
    for entry, number in measured.items():
        level, at, value, members, is_level = entry
        if is_level:
            (member,) = members
            for each, day, by in changes_of(level, at // 86_400_000, WORLD.windows):
                net[each, day, *member] += number * value * by
    return {key: by for key, by in net.items() if by}


def check_rows(life: Life, expected: Any) -> None:
    names = {SESSIONS: "sessions", VISITS: "visits", ISSUES: "issues", PATHS: "paths"}
    for table, name in names.items():
        columns = table.column_names[1:-2]
        found = [
            dict(zip(columns, row, strict=True))
            for key, row in life.rows.items()
            if key[0] is table and row is not None
        ]
        wanted = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in columns}
            for row in getattr(expected, name).values()
        ]
        assert sorted(found, key=str) == sorted(wanted, key=str), name
    row = customer_row(ME, life.customer, WORLD.rules)
    customer = dict(zip(CUSTOMERS.column_names, row, strict=True))
    for name, value in expected.customer.items():
        close = pytest.approx(value) if isinstance(value, float | dict) else value
        assert customer[name] == close, name


@pytest.mark.parametrize("seed", range(150))
def test_late_touchpoints_count_as_if_they_had_come_in_time(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "STRIDE", (2, 7, 32)[seed % 3 - 1])
    rng = random.Random(seed)
    published = random_life(rng, rng.choice((1, 5, 30)))
    order = published.copy()
    if seed % 3 == 1:
        rng.shuffle(order)
    elif seed % 3 == 2:
        order.sort(key=lambda each: each[1]["occurred_at"] + rng.choice((0, 10**9)))
    life = Life()
    for each in order:
        life.see(b"i", each)
        if rng.random() < 0.1:
            life.see(b"i", each)
    check(life, published)


@pytest.mark.parametrize("seed", range(150))
def test_identities_that_come_and_go_take_all_they_came_to_along(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "STRIDE", (1, 4, 32)[seed % 3])
    rng = random.Random(seed)
    published = {name: random_life(rng, rng.choice((0, 3, 15))) for name in (b"i", b"j", b"k")}
    life = Life()
    for name in published:
        life.tell(Arrive(name, Activity("email")))
    everything = [(name, each) for name, lives in published.items() for each in lives]
    rng.shuffle(everything)
    for name, each in everything:
        life.see(name, each)
    here = set(published)
    for _ in range(rng.choice((1, 2, 5))):
        name = rng.choice((b"i", b"j", b"k"))
        if name in here:
            life.tell(Move(name, b"elsewhere"))
            here.discard(name)
        else:
            events = {
                event_key(c, t["event_id"]): event_of(touch_of(c, t)) for c, t in published[name]
            }
            life.tell(Arrive(name, Activity("email", events)))
            here.add(name)
    check(life, [each for name in here for each in published[name]])
