"""What somebody who may publish can do to identities: bounded work, no lost event, no broken rule.

Bounds are on counts and sizes, never on time.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import Any

import pytest
from identity_graph import Graph, Seen, alerts_of, to_identities

from touchstream.agents.evidence import Vertex
from touchstream.agents.identifiers import tokens_of
from touchstream.agents.identity_messages import Touch, encode
from touchstream.agents.ingest import Ingest
from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Token
from touchstream.agents.rules import Kind, Rules
from touchstream.agents.rules_file import default_rules
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.dead_letters import Reason
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.table import Row
from touchstream.streams.tables import CHANGES, FACTS, LINKS, REFUSED
from touchstream.streams.topics import BATCH_BYTES, DAY_MS, DEAD_LETTER

NOW_MS = 1_700_000_000_000
RULES = default_rules()


def token(kind: str, number: int) -> Token:
    return blake2b(f"{kind}{number}".encode(), digest_size=16).digest()


@dataclass
class Attack:
    """Many touchpoints, processed as they come; what they came to."""

    graph: Graph
    seen: list[Seen] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    """Facts by event id."""
    vertices: dict[Token, Vertex] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    messages: int = 0
    """Between identities, without the touches."""

    def see(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.graph.see(seen)
        if len(self.seen) % 1000 == 0:
            self.drain()

    def drain(self) -> None:
        self.graph.drain()
        for table in (FACTS, LINKS, CHANGES):
            rows = self.graph.rows.pop(table, [])
            if table is FACTS:
                self.events.update(row[2] for row in rows)

    def end(self) -> "Attack":
        self.drain()
        self.vertices, self.refused = self.graph.vertices, self.graph.refused()
        self.messages = sum(self.graph.applied) - len(self.seen)
        return self

    def customer(self, identity: Token) -> Token | None:
        return self.vertices[identity].customer

    def sizes(self) -> Counter[Token | None]:
        """Identities of each customer."""
        return Counter(vertex.customer for vertex in self.vertices.values())

    def per_event(self, number: float) -> float:
        return number / len(self.seen)

    def state_bytes_per_identity(self) -> float:
        return self.graph.state_bytes / len(self.vertices)

    def largest_value(self) -> int:
        return max(len(value) for values in self.graph.values for value in values.values())

    def links(self) -> Iterator[tuple[Token, Token]]:
        for seen in self.seen:
            (_, one, _), *others = seen.identities
            yield from ((one, other) for _, other, _ in others)


def attack(rules: Rules, seed: int = 1) -> Attack:
    return Attack(Graph(rules, 4, random.Random(seed), chunk_records=(20, 500)))


def live(rows: list[Row]) -> Counter[tuple[str, str, str]]:
    """Refused links as ClickHouse shows them: identity, other, reason -> rows."""
    latest: dict[tuple[str, str], Row] = {}
    for row in rows:
        ends = (row[0], row[1])
        latest[ends] = max(latest.get(ends, row), row, key=lambda each: (each[6], each[7]))
    return Counter((row[0], row[1], row[3]) for row in latest.values() if not row[7])


# One value of 100,000 people.

PEOPLE = 100_000
SHARED = {"stronger": ("email", "anonymous_id"), "weaker": ("device_id", "email")}
"""Kinds of the value that is shared and of the identities that share it."""


@pytest.fixture(scope="module", params=SHARED)
def shared(request: pytest.FixtureRequest) -> tuple[Attack, Token]:
    """The shared value is the stronger identity of every touchpoint, or the weaker."""
    kind, of_people = SHARED[request.param]
    one, found = token(kind, 0), attack(RULES)
    for number in range(PEOPLE):
        ends = [(kind, one, True), (of_people, token(of_people, number), True)]
        ordered = ends if request.param == "stronger" else ends[::-1]
        found.see(Seen(ordered, "web", f"e{number}", number))
    return found.end(), one


def most_links(found: Attack, one: Token) -> int:
    return RULES.kind(found.vertices[one].kind).max_links


def test_value_of_many_is_shared_and_joins_no_one(shared: tuple[Attack, Token]) -> None:
    found, one = shared
    alone = {identity: each.alone for identity, each in found.vertices.items() if each.alone}
    assert alone == {one: Refused.SHARED}
    assert [i for i, each in found.vertices.items() if each.customer != i] == []


def test_every_link_to_a_shared_value_is_refused_and_kept(shared: tuple[Attack, Token]) -> None:
    found, one = shared
    expected = {
        (min(each.hex(), one.hex()), max(each.hex(), one.hex())): "shared"
        for each in found.vertices
        if each != one
    }
    assert len(expected) == PEOPLE
    assert found.refused == expected


def test_every_event_of_a_shared_value_is_kept_once(shared: tuple[Attack, Token]) -> None:
    found, _ = shared
    assert found.events == Counter(seen.event_id for seen in found.seen)


def test_shared_value_raises_one_alert(shared: tuple[Attack, Token]) -> None:
    found, _ = shared
    assert (found.graph.alerts, found.graph.counts["alerts shared"]) == (1, 1)


def test_messages_of_a_shared_value_are_bounded(shared: tuple[Attack, Token]) -> None:
    found, one = shared
    most = most_links(found, one)
    assert found.per_event(found.messages) < 2.1
    assert found.per_event(found.graph.message_bytes) < 300
    assert found.graph.largest_answer <= 2 * most + 10
    assert found.graph.largest_message <= 300 + 200 * most


def test_state_of_a_shared_value_is_bounded(shared: tuple[Attack, Token]) -> None:
    found, one = shared
    most = most_links(found, one)
    assert len(found.vertices[one].links) == most + 1
    assert found.graph.largest_component() == 1
    assert found.state_bytes_per_identity() < 250
    assert found.largest_value() <= 500 + 120 * most


def test_shared_value_that_is_seen_again_causes_two_messages_at_most(
    shared: tuple[Attack, Token],
) -> None:
    found, _ = shared
    before = found.graph.counts["graph_messages"]
    for seen in found.seen[-100:]:
        found.graph.see(seen)
    found.graph.drain()
    assert found.graph.counts["graph_messages"] - before <= 200
    found.graph.rows.pop(FACTS)


# A chain of links.

MOST_IDENTITIES, MOST_TOGETHER = 20, 50
CHAIN_RULES = Rules({}, Kind(5), MOST_IDENTITIES, MOST_TOGETHER, 50)
CHAINS = {"in order": 100_000, "in random order": 20_000}


@pytest.fixture(scope="module", params=CHAINS)
def chain(request: pytest.FixtureRequest) -> Attack:
    """Every identity is linked to the next one."""
    order = list(range(CHAINS[request.param]))
    if request.param == "in random order":
        random.Random(1).shuffle(order)
    found = attack(CHAIN_RULES)
    for number in order:
        ends = [("x", token("x", number), True), ("x", token("x", number + 1), True)]
        found.see(Seen(ends, "web", f"e{number}", number))
    return found.end()


def test_no_more_of_a_chain_are_decided_together_than_rules_allow(chain: Attack) -> None:
    assert MOST_TOGETHER / 2 < chain.graph.largest_component() <= MOST_TOGETHER


def test_no_customer_of_a_chain_is_larger_than_rules_allow(chain: Attack) -> None:
    assert max(chain.sizes().values()) == MOST_IDENTITIES


def test_every_link_of_a_chain_joins_or_is_refused_and_kept(chain: Attack) -> None:
    apart = {
        (min(one.hex(), other.hex()), max(one.hex(), other.hex()))
        for one, other in chain.links()
        if chain.customer(one) != chain.customer(other)
    }
    assert apart <= chain.refused.keys()
    assert {*chain.refused.values()} == {Refused.CUSTOMER_FULL, Refused.COMPONENT_FULL}


def test_every_event_of_a_chain_is_kept_once(chain: Attack) -> None:
    assert chain.events == Counter(seen.event_id for seen in chain.seen)


def test_full_components_raise_an_alert_at_each_end_of_a_refused_link_at_most(
    chain: Attack,
) -> None:
    full = Counter(chain.refused.values())[Refused.COMPONENT_FULL]
    assert full <= chain.graph.counts["alerts component_full"] <= 2 * full
    assert chain.graph.alerts == chain.graph.counts["alerts component_full"]


def test_messages_of_a_chain_are_bounded(chain: Attack) -> None:
    assert chain.per_event(chain.messages) < 12
    assert chain.per_event(chain.graph.message_bytes) < 2_500
    assert chain.graph.largest_answer <= 2 * MOST_TOGETHER
    assert chain.graph.largest_message <= 500 + 150 * MOST_TOGETHER


def test_state_of_a_chain_is_bounded(chain: Attack) -> None:
    assert chain.state_bytes_per_identity() < 400
    assert chain.largest_value() <= 500 + 150 * MOST_TOGETHER


def test_chain_that_is_seen_again_causes_no_messages(chain: Attack) -> None:
    before = chain.graph.counts["graph_messages"]
    for seen in chain.seen[:1000]:
        chain.graph.see(seen)
    chain.graph.drain()
    assert chain.graph.counts["graph_messages"] == before
    chain.graph.rows.pop(FACTS)


# A full component with links all around.

FEW_TOGETHER, FEW_LINKS = 40, 10
ROUND_RULES = Rules({}, Kind(5, max_links=FEW_LINKS), 5_000, FEW_TOGETHER, 50)


@pytest.fixture(scope="module")
def surrounded() -> Attack:
    """As many are decided together as may be, each linked to others for whom there is no room."""
    found = attack(ROUND_RULES)
    for number in range(1, FEW_TOGETHER):
        found.see(linked_by("x", (number - 1) // 2, number))
    found.drain()
    for number in range(FEW_TOGETHER):
        for other in range(FEW_LINKS - 3):
            found.see(linked_by("x", number, 1000 * (number + 1) + other))
    return found.end()


def linked_by(kind: str, one: int, other: int) -> Seen:
    ends = [(kind, token(kind, one), True), (kind, token(kind, other), True)]
    return Seen(ends, "web", f"e{one}-{other}", other)


def test_messages_of_links_to_a_full_component_are_bounded(surrounded: Attack) -> None:
    assert surrounded.graph.largest_component() == FEW_TOGETHER
    assert surrounded.per_event(surrounded.messages) < 12
    assert surrounded.graph.largest_answer <= 2 * FEW_TOGETHER


def test_component_that_stays_full_alerts_to_new_links_only(surrounded: Attack) -> None:
    """Its leaves become shared one by one; most of the other links find no room as before."""
    graph = surrounded.graph
    before, graph.largest_answer = graph.alerts, 0
    for leaf in range(FEW_TOGETHER - 5, FEW_TOGETHER):
        for other in range(5):
            graph.see(linked_by("x", leaf, 10**6 + 1000 * leaf + other))
        graph.drain()
    shared, links = 5, 5 * 5
    full = graph.largest_component() * FEW_LINKS
    assert graph.alerts - before <= shared + 2 * links + 2 * FEW_LINKS * shared < full
    assert graph.largest_answer <= full


# A touchpoint with 10,000 identifiers.

SETTINGS = Settings(max_payload_bytes=4 << 20, horizon_past_days=30, horizon_future_seconds=60)
CODEC = TouchpointCodec(max_payload_bytes=SETTINGS.max_payload_bytes)
TOKENS = tokens_of(SETTINGS)
IDENTIFIERS = 10_000
KINDS = ("email", "loyalty_id", "ticket_id", "anonymous_id")


def touchpoint(
    identifiers: list[tuple[str, str]], occurred_at: int = NOW_MS, event_id: str = "e1"
) -> bytes:
    fields: dict[str, Any] = {
        "event_id": event_id,
        "occurred_at": occurred_at,
        "action": "page_viewed",
        "identifiers": [
            {"kind": kind, "value": value, "verified": False} for kind, value in identifiers
        ],
    }
    return CODEC.encode("web", fields)


def ingest(value: bytes, settings: Settings = SETTINGS) -> Outcome:
    codec = TouchpointCodec(max_payload_bytes=settings.max_payload_bytes)
    record = Record("touchpoints.web", 0, 0, NOW_MS, None, value)
    stage = Ingest(codec, tokens_of(settings), settings)
    return run_chunk(stage, [record], {}, source=5, partitions=4)


@cache
def crowd() -> bytes:
    return touchpoint([(KINDS[n % len(KINDS)], f"n{n}@example.com") for n in range(IDENTIFIERS)])


@cache
def taken_in() -> tuple[Outcome, Graph]:
    """What ingest made of the touchpoint, and stitch of that."""
    outcome, graph = ingest(crowd()), Graph(RULES, 4, random.Random(1))
    for identity, message in to_identities(outcome):
        graph.tell(identity, encode(message))
    graph.drain()
    return outcome, graph


def left_out(outcome: Outcome) -> list[Row]:
    return outcome.rows[REFUSED]


def test_touchpoint_with_too_many_identifiers_keeps_the_strongest() -> None:
    outcome, _ = taken_in()
    ((identity, touch),) = to_identities(outcome)
    assert isinstance(touch, Touch)
    used = {identity, *(other for _, other, _ in touch.others)}
    loyalty = {TOKENS.token("loyalty_id", f"n{n}@example.com") for n in range(1, IDENTIFIERS, 4)}
    assert (len(used), used - loyalty) == (RULES.max_identifiers, set())


def test_each_identifier_too_many_is_a_refused_link_and_is_kept() -> None:
    outcome, graph = taken_in()
    rows = left_out(outcome)
    others = {row[1] for row in rows}
    everyone = {
        TOKENS.token(KINDS[n % len(KINDS)], f"n{n}@example.com").hex() for n in range(IDENTIFIERS)
    }
    used = {identity.hex() for identity in graph.customers()}
    assert (len(rows), others) == (IDENTIFIERS - RULES.max_identifiers, everyone - used)
    assert {row[3] for row in rows} == {Refused.TOO_MANY_IDENTIFIERS}
    assert len({row[0] for row in rows}) == 1


def test_touchpoint_with_too_many_identifiers_is_kept() -> None:
    _, graph = taken_in()
    assert [row[2] for row in graph.rows[FACTS]] == ["e1"]


def test_touchpoint_with_too_many_identifiers_raises_one_alert() -> None:
    outcome, graph = taken_in()
    (alert,) = alerts_of(outcome)
    assert alert.evidence["left_out"] == str(IDENTIFIERS - RULES.max_identifiers)
    assert graph.alerts == 0


def test_touchpoint_with_too_many_identifiers_makes_one_customer_no_larger_than_allowed() -> None:
    _, graph = taken_in()
    limit = RULES.kind("loyalty_id").limit
    assert limit is not None
    sizes = Counter(graph.customers().values())
    assert (max(sizes.values()), sum(sizes.values())) == (limit.count, RULES.max_identifiers)


def test_messages_of_a_touchpoint_with_too_many_identifiers_are_bounded() -> None:
    outcome, graph = taken_in()
    assert len(outcome.messages) == 2
    assert sum(len(message.value or b"") for message in outcome.messages) < 10_000
    assert graph.counts["graph_messages"] <= 4 * RULES.max_identifiers
    assert graph.largest_answer <= 2 * RULES.max_identifiers


def test_touchpoint_beyond_the_payload_limit_is_a_dead_letter() -> None:
    (letter,) = ingest(crowd(), Settings()).messages
    assert letter.topic == DEAD_LETTER
    assert dict(letter.headers)["reason"] == Reason.TOO_LARGE.encode()


LONG = 200_000
"""Characters that fit into a touchpoint."""


@pytest.mark.parametrize(
    ("event_id", "kind"), [("e" * LONG, "ticket_id"), ("e1", "k" * LONG)], ids=["event id", "kind"]
)
def test_long_names_in_a_touchpoint_stay_within_what_kafka_takes(event_id: str, kind: str) -> None:
    """They may be rejected, but they must not be kept once for each link."""
    settings = Settings()
    names = [(kind, "t"), *(("ticket_id", f"t{n}") for n in range(49))]
    outcome = ingest(touchpoint(names, event_id=event_id), settings)
    graph = Graph(RULES, 4, random.Random(1))
    for identity, message in to_identities(outcome):
        graph.tell(identity, encode(message))
    graph.drain()
    largest = max((len(v) for values in graph.values for v in values.values()), default=0)
    assert graph.largest_message < BATCH_BYTES
    assert largest < BATCH_BYTES
    assert graph.message_bytes < 100 * LONG


def test_densest_component_that_rules_allow_fits_into_a_batch() -> None:
    """Of a smaller one every link is weighed: event ids are as long as they may be."""
    number, links = 60, 20
    graph = Graph(RULES, 4, random.Random(1))
    for one in range(number):
        near = [one + step for step in range(1 + links // 2)]
        ends = [("ticket_id", token("ticket", each % number), True) for each in near]
        graph.see(Seen(ends, "in_person", f"{one:04}" + 252 * "\U0001f600", NOW_MS + one))
    graph.drain()
    assert graph.largest_component() == number
    largest = max(len(value) for values in graph.values for value in values.values())
    allowed = RULES.max_component * RULES.other.max_links
    assert largest / (number * links) * allowed < BATCH_BYTES


# Joining two known customers.

ANN, BOB = ("crm_id", token("crm", 1), True), ("crm_id", token("crm", 2), True)
ANNS, BOBS = ("email", token("email", 1), True), ("email", token("email", 2), True)
COOKIE = ("anonymous_id", token("cookie", 1), True)
Identity = tuple[str, Token, bool]
JOINS: dict[str, tuple[list[list[Identity]], tuple[Identity, Identity]]] = {
    "by their names": ([[ANN, BOB]], (ANN, BOB)),
    "by their addresses": ([[ANNS, BOBS]], (ANNS, BOBS)),
    "by the address of one": ([[BOB, ANNS]], (BOB, ANNS)),
    "by a cookie": ([[ANNS, COOKIE], [BOBS, COOKIE]], (BOBS, COOKIE)),
    "by a cookie of the names": ([[ANN, COOKIE], [BOB, COOKIE]], (BOB, COOKIE)),
    "again and again": ([[ANN, BOB]] * 20, (ANN, BOB)),
}


@pytest.fixture(params=JOINS)
def joined(
    request: pytest.FixtureRequest,
) -> tuple[Graph, dict[Token, Token], tuple[Identity, Identity]]:
    """After the attempt: the graph, customers before it, and the link that would join."""
    touches, link = JOINS[request.param]
    graph = Graph(RULES, 3, random.Random(1))
    for number, identities in enumerate(([ANN, ANNS], [BOB, BOBS])):
        graph.see(Seen(identities, "web", f"known{number}", 1000 + number))
    graph.drain()
    before = graph.customers()
    for number, identities in enumerate(touches):
        graph.see(Seen(identities, "web", f"e{number}", 2000 + number))
        graph.drain()
    return graph, before, link


def test_two_customers_that_may_not_be_one_stay_as_they_were(
    joined: tuple[Graph, dict[Token, Token], tuple[Identity, Identity]],
) -> None:
    graph, before, _ = joined
    after = graph.customers()
    assert {identity: after[identity] for identity in before} == before
    assert len(set(before.values())) == 2


def test_link_that_would_join_them_is_refused_once_at_each_end(
    joined: tuple[Graph, dict[Token, Token], tuple[Identity, Identity]],
) -> None:
    graph, _, ((_, one, _), (_, other, _)) = joined
    ends = one.hex(), other.hex()
    assert live(graph.rows[REFUSED]) == {(*ends, "unique"): 1, (*ends[::-1], "unique"): 1}


def test_touchpoints_that_would_join_them_are_kept(
    joined: tuple[Graph, dict[Token, Token], tuple[Identity, Identity]],
) -> None:
    graph, _, _ = joined
    events = [row[2] for row in graph.rows[FACTS]]
    assert {"known0", "known1", "e0"} <= {*events}
    assert len(events) == len({*events})


# Times far away.

SECOND_MS = 1000


@pytest.mark.parametrize(
    "occurred_at",
    [
        NOW_MS + SETTINGS.horizon_future_seconds * SECOND_MS + 1,
        NOW_MS + 100 * 365 * DAY_MS,
        NOW_MS - SETTINGS.horizon_past_days * DAY_MS - 1,
        0,
        -1,
    ],
    ids=["future", "far future", "past", "1970", "before 1970"],
)
def test_time_beyond_the_horizon_is_a_dead_letter(occurred_at: int) -> None:
    (letter,) = ingest(touchpoint([("email", "ann@b.c")], occurred_at)).messages
    assert letter.topic == DEAD_LETTER
    assert dict(letter.headers)["reason"] == Reason.OUTSIDE_HORIZON.encode()


def test_unverified_link_that_is_dated_back_takes_nothing_from_a_verified_one() -> None:
    graph = Graph(RULES, 3, random.Random(1))
    graph.see(Seen([ANN, ANNS], "web", "known", NOW_MS))
    graph.drain()
    kind, address, _ = ANNS
    graph.see(Seen([BOB, (kind, address, False)], "web", "forged", NOW_MS - 20 * DAY_MS))
    graph.drain()
    customers = graph.customers()
    assert customers[address] == customers[ANN[1]] != customers[BOB[1]]


def broken_rules(graph: Graph, rules: Rules) -> list[str]:
    """Rules that customers break, by what is known of their identities."""
    seen: defaultdict[Token, list[tuple[str, int]]] = defaultdict(list)
    for identity, vertex in graph.vertices.items():
        if vertex.first_seen is not None:
            seen[graph.customers()[identity]].append((vertex.kind, vertex.first_seen))
    found = []
    for identities in seen.values():
        if len(identities) > rules.max_identities:
            found.append("max_identities")
        for name, kind in rules.kinds.items():
            times = [time for each, time in identities if each == name]
            window = (kind.limit and kind.limit.window_ms) or 10**15
            near = [sum(start <= time < start + window for time in times) for start in times]
            if kind.unique and len(times) > 1:
                found.append(f"unique {name}")
            if kind.limit and max(near, default=0) > kind.limit.count:
                found.append(f"limit {name}")
    return found


def dated_back(seed: int) -> Graph:
    """Three customers; then links between anybody, at any time of the last 30 days."""
    rng, graph = random.Random(seed), Graph(RULES, 3, random.Random(seed))
    people = [
        [(kind, token(kind, 100 * person + n), True) for kind in ("crm_id", "email") for n in (0,)]
        for person in range(3)
    ]
    cookies = [("anonymous_id", token("anonymous_id", n), True) for n in range(12)]
    for number, person in enumerate(people):
        graph.see(Seen(person, "web", f"known{number}", NOW_MS))
    graph.drain()
    for number in range(120):
        one = rng.choice([each for person in people for each in person])
        other = rng.choice([*cookies, *cookies, *people[rng.randrange(3)]])
        ends = sorted({one, other}, key=lambda each: -RULES.kind(each[0]).priority)
        time = NOW_MS - rng.randrange(30 * DAY_MS)
        graph.see(Seen(ends, "web", f"e{number}", time))
        if rng.random() < 0.3:
            graph.drain()
    graph.drain()
    return graph


@pytest.mark.parametrize("seed", range(20))
def test_touchpoint_that_is_dated_back_breaks_no_rule(seed: int) -> None:
    graph = dated_back(seed)
    assert broken_rules(graph, RULES) == []
    assert {"unique", "limit"} <= {*graph.refused().values()}
