"""A root: who is taken in, who is declined, what is late, and whom it lets go.

Identities are letters, the smaller the earlier in the alphabet, so of a component it is the root.
A step reads `Link c: Absorb a`: c hears of a link and asks a to take all its seats.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from identity_graph import (
    NOW_MS,
    Graph,
    alerts_of,
    conversation,
    name_of,
    to_identities,
    token_of,
    touch_of,
    turn,
)

from touchstream.agents import root
from touchstream.agents.component import Ask, Component, Seat, decode_component
from touchstream.agents.evidence import Mark
from touchstream.agents.identity_messages import (
    Absorb,
    Assign,
    Cause,
    Decline,
    Grant,
    IdentityMessage,
    Join,
    Meet,
    Report,
    encode,
)
from touchstream.agents.judgement import Bond, Refused
from touchstream.agents.resolution import Member, Token, Word
from touchstream.agents.rules import Kind, Rules
from touchstream.agents.turn import COMPONENT

RULES = Rules({"crm": Kind(90, unique=True)}, Kind(30), 10, 6, 50)
SMALL = Rules({}, Kind(30), 10, 3, 50)
"""Three are decided together at most."""
A, B, C, D, Z = map(token_of, "abcdz")
CAUSE = Cause("touchpoint web/e", "web", NOW_MS)
BOND = Bond((-30, -30, False), 1, "web/e")


def graph_of(*touches: str, rules: Rules = RULES) -> Graph:
    """After touchpoints, each a moment later and settled before the next."""
    graph = Graph(rules, 1, random.Random(1), chunk_records=(1,))
    for number, text in enumerate(touches):
        graph.see(touch_of(text, 1 + number, f"e{number}"))
        graph.drain()
    return graph


def customers(graph: Graph) -> str:
    """Customer of each identity: `a:a b:a`."""
    found = sorted(graph.customers().items())
    return " ".join(f"{name_of(identity)}:{name_of(customer)}" for identity, customer in found)


def refused(graph: Graph) -> dict[str, str]:
    """Refused links by their ends: `ab`."""
    found = graph.refused().items()
    return {"".join(name_of(bytes.fromhex(end)) for end in pair): why for pair, why in found}


def components(graph: Graph) -> dict[str, Component]:
    """What roots keep."""
    return {
        name_of(key[1:]): decode_component(value)
        for key, value in graph.values[0].items()
        if key.startswith(COMPONENT)
    }


def seated(graph: Graph) -> dict[str, str]:
    """Of whom roots keep a component."""
    found = components(graph).items()
    return {name: "".join(sorted(map(name_of, each.seats))) for name, each in found}


def say(graph: Graph, one: Token, other: Token, number: int, allow: bool) -> None:
    graph.say(one, other, Word(number, allow, "ann", "", NOW_MS))


def marked(graph: Graph, identity: Token) -> None:
    graph.mark(identity, Mark(99, Refused.SHARED, "ann", "", NOW_MS))


@contextmanager
def counting_from(size: int) -> Iterator[None]:
    """Roots of more identities than this ask for room before they send them."""
    with patch.object(root, "COUNT_FIRST", size):
        yield


def waiting() -> Graph:
    """b has asked a to take it, and has not heard of the answer."""
    graph = graph_of()
    graph.see(touch_of("b:x a:x", 5, "e5"))
    for _ in range(3):
        turn(graph)
    assert components(graph)["b"].waiting
    return graph


def overtake(graph: Graph) -> None:
    """Have the last record read next."""
    log, start = graph.logs[0], graph.applied[0]
    log.insert(start, log.pop())
    log[start:] = [each._replace(offset=start + n) for n, each in enumerate(log[start:])]


def test_root_that_was_asked_while_it_waits_itself_declines_and_comes_back_to_it() -> None:
    graph = graph_of()
    graph.see(touch_of("b:x a:x"))
    graph.see(touch_of("c:x b:x"))
    assert conversation(graph) == [
        "Touch b: Link a",
        "Touch c: Link b",
        "Link a: Meet b",
        "Link b: Meet c",
        "Meet b: Absorb a",
        "Meet c: Absorb b",
        "Absorb a: Assign b",
        "Absorb b: Decline c",
        "Assign b: Meet a",
        "Decline c:",
        "Meet a: Meet c",
        "Meet c: Absorb a",
        "Absorb a: Assign c",
        "Assign c:",
    ]
    assert customers(graph) == "a:a b:a c:a"


def test_what_a_waiting_root_hears_is_reported_to_the_root_that_takes_it() -> None:
    graph = waiting()
    graph.see(touch_of("b:x a:x", 2, "e2"))
    said = conversation(graph)
    assert said[:3] == ["Absorb a: Assign b", "Touch b: Link a", "Assign b: Report a, Report a"]
    seat = components(graph)["a"].seats[B]
    assert (seat.member.first_seen, seat.member.bonds[A].time) == (2, 2)


def test_link_that_a_waiting_root_hears_of_is_followed_by_the_root_that_takes_it() -> None:
    graph = waiting()
    graph.see(touch_of("b:x c:x", 6, "e6"))
    assert conversation(graph) == [
        "Absorb a: Assign b",
        "Touch b: Link c",
        "Assign b: Report a, Report a",
        "Link c: Absorb b",
        "Report a:",
        "Report a: Meet c",
        "Absorb b: Absorb a",
        "Meet c:",
        "Absorb a: Assign c",
        "Assign c: Meet a",
        "Meet a:",
    ]
    assert customers(graph) == "a:a b:a c:a"


def test_link_that_ends_while_a_root_waits_is_declined_and_the_root_decides_again() -> None:
    graph = waiting()
    marked(graph, A)
    overtake(graph)
    said = conversation(graph)
    assert said[:2] == ["Marked a: Alone b", "Absorb a: Decline b"]
    assert (customers(graph), components(graph)) == ("a:a b:b", {})


def test_customers_that_an_operator_made_one_and_parts_again_get_roots_of_their_own() -> None:
    graph = graph_of("a:x b:x", "c:x d:x")
    say(graph, B, C, 1, True)
    graph.drain()
    assert customers(graph) == "a:a b:a c:a d:a"
    assert components(graph).keys() == {"a"}
    say(graph, B, C, 2, False)
    assert conversation(graph) == [
        "Said b: Said c, Report a",
        "Said c: Report a",
        "Report a: Assign c, Assign d",
        "Report a: Grant c",
        "Assign c:",
        "Assign d:",
        "Grant c: Assign d",
        "Assign d:",
    ]
    assert customers(graph) == "a:a b:a c:c d:c"
    assert seated(graph) == {"a": "ab", "c": "cd"}


def test_each_part_that_a_shared_identity_held_together_gets_its_smallest_as_root() -> None:
    graph = graph_of("a:x c:x", "c:x b:x", "c:x d:x", "b:x e:x")
    marked(graph, C)
    graph.drain()
    assert customers(graph) == "a:a b:b c:c d:d e:b"
    assert {name_of(i): name_of(vertex.root) for i, vertex in graph.vertices.items()} == {
        "a": "a",
        "b": "b",
        "c": "c",
        "d": "d",
        "e": "b",
    }


def test_link_for_which_there_is_no_room_is_refused_at_both_ends() -> None:
    graph = graph_of("a:x b:x", "c:x d:x", rules=SMALL)
    graph.see(touch_of("b:x c:x", 9))
    assert conversation(graph) == [
        "Touch b: Link c, Report a",
        "Link c: Absorb a",
        "Report a:",
        "Absorb a: Decline c, Assign b",
        "Decline c:",
        "Assign b:",
    ]
    assert (customers(graph), refused(graph)) == ("a:a b:a c:c d:c", {"bc": "component_full"})
    parked = {name: each.parked for name, each in components(graph).items()}
    assert parked == {"a": {(B, C)}, "c": {(C, B)}}


def test_alert_of_a_full_component_says_how_many_it_has() -> None:
    graph = graph_of("a:x b:x", "c:x d:x", rules=SMALL)
    graph.see(touch_of("b:x c:x", 9))
    alerts = []
    while graph.applied[0] < len(graph.logs[0]):
        alerts += alerts_of(turn(graph))
    assert [(each.kind, each.identity, each.evidence["identities"]) for each in alerts] == [
        ("component_full", A.hex(), "2"),
        ("component_full", C.hex(), "2"),
    ]


def test_link_that_found_no_room_raises_no_second_alert() -> None:
    graph = graph_of("a:x b:x", "c:x d:x", "b:x c:x", rules=SMALL)
    before = graph.alerts
    graph.see(touch_of("b:x c:x", 0))
    graph.drain()
    assert (graph.alerts, refused(graph)) == (before, {"bc": "component_full"})


def test_link_that_found_no_room_joins_when_somebody_leaves() -> None:
    graph = graph_of("a:x b:x", "c:x d:x", "b:x c:x", rules=SMALL)
    marked(graph, D)
    assert conversation(graph) == [
        "Marked d: Alone c, Report c",
        "Alone c:",
        "Report c: Grant d, Meet b",
        "Grant d:",
        "Meet b: Meet a",
        "Meet a: Meet c",
        "Meet c: Absorb a",
        "Absorb a: Assign b, Assign c",
        "Assign b:",
        "Assign c:",
    ]
    assert (customers(graph), refused(graph)) == ("a:a b:a c:a d:d", {"cd": "shared"})


def test_link_that_found_no_room_joins_under_rules_that_allow_more() -> None:
    graph = graph_of("a:x b:x", "c:x d:x", "b:x c:x", rules=SMALL)
    graph.rule(7, RULES)
    graph.drain()
    assert (customers(graph), refused(graph)) == ("a:a b:a c:a d:a", {})


@pytest.mark.parametrize(
    ("rules", "answers"),
    [
        (
            RULES,
            [
                "Join a: Meet c",
                "Meet c: Absorb a",
                "Absorb a: Assign c, Assign d",
                "Assign c:",
                "Assign d:",
            ],
        ),
        (SMALL, ["Join a: Decline c, Assign b", "Decline c:", "Assign b:"]),
    ],
    ids=["room", "no room"],
)
def test_large_root_asks_for_room_before_it_sends_its_seats(
    rules: Rules, answers: list[str]
) -> None:
    graph = graph_of("a:x b:x", "c:x d:x", rules=rules)
    graph.see(touch_of("b:x c:x", 9))
    with counting_from(1):
        said = conversation(graph)
    assert said == ["Touch b: Link c, Report a", "Link c: Join a", "Report a:", *answers]


@pytest.mark.parametrize(("number", "first"), [(32, "Absorb"), (33, "Join")])
def test_root_of_up_to_32_sends_its_seats_at_once(number: int, first: str) -> None:
    rules = Rules({}, Kind(30, max_links=99), 99, 99, 50)
    graph = Graph(rules, 1, random.Random(1), chunk_records=(1,))
    heap = [("x", b"m" + b"%015d" % n, True) for n in range(number)]
    graph.see(touch_of("a:x"))
    for other in heap[1:]:
        graph.say(heap[0][1], other[1], Word(int(other[1][1:]), True, "ann", "", 0))
    seen = touch_of("m:x", 2, "e2")
    for n, each in enumerate(heap):
        seen.identities = [each]
        seen.event_id = f"m{n}"
        graph.see(seen)
    graph.drain()
    seen = touch_of("a:x", 3, "e3")
    seen.identities.append(heap[0])
    graph.see(seen)
    assert conversation(graph)[1] == f"Link m: {first} a"


def seat(bonds: str = "", alone: bool = False) -> Seat:
    links = {token_of(name): BOND for name in bonds}
    return Seat(Member("x", 5, links, {}, alone), 1, 1)


def absorb(ask: Ask, seats: dict[Token, Seat]) -> Absorb:
    return Absorb(ask, seats, [], CAUSE)


ASK = Ask(Z, A, Z)
"""Of z, which is its own root and linked to a."""
PAIR = ("a:x b:x",)
FULL = ("a:x b:x", "b:x c:x")
TAKEN = absorb(ASK, {Z: seat("a")})


@pytest.mark.parametrize(
    ("touches", "message", "expected"),
    [
        (PAIR, TAKEN, "Assign z"),
        (("a:x",), TAKEN, "Assign z"),
        (PAIR, absorb(ASK, {Z: seat()}), "Decline z"),
        (PAIR, absorb(ASK, {Z: seat("a", alone=True)}), "Decline z"),
        (FULL, TAKEN, "Decline z"),
        (PAIR, absorb(ASK, {Z: seat("a"), D: seat("z")}), "Decline z"),
        ((), TAKEN, "Decline z"),
        (("b:x a:x",), absorb(Ask(Z, B, Z), {Z: seat("b")}), "Absorb a"),
        (PAIR, absorb(Ask(Z, C, Z), {Z: seat("c")}), "Decline z"),
        (PAIR, Join(ASK, 1, CAUSE), "Meet z"),
        (PAIR, Join(ASK, 2, CAUSE), "Decline z"),
        ((), Join(ASK, 1, CAUSE), "Decline z"),
        (PAIR, Join(Ask(Z, C, Z), 1, CAUSE), "Decline z"),
        (PAIR, Meet(ASK, False, CAUSE), "Meet z"),
        (FULL, Meet(ASK, False, CAUSE), ""),
        ((), Meet(ASK, False, CAUSE), ""),
        (PAIR, Meet(Ask(Z, C, Z), False, CAUSE), ""),
        (PAIR, Meet(Ask(B, A, A), False, CAUSE), ""),
        (("z:x",), Meet(Ask(A, Z, A), False, CAUSE), "Absorb a"),
        (("z:x",), Meet(Ask(A, Z, A), True, CAUSE), "Absorb a"),
    ],
)
def test_answer_of_a_root(
    touches: tuple[str, ...], message: Absorb | Join | Meet, expected: str
) -> None:
    graph = graph_of(*touches, rules=SMALL)
    receiver = A if message.ask.other == C else message.ask.other
    answers = [
        f"{type(each).__name__} {name_of(key)}" for key, each in tell(graph, receiver, message)
    ]
    assert answers == ([expected] if expected else [])


def tell(
    graph: Graph, receiver: Token, message: IdentityMessage
) -> list[tuple[Token, IdentityMessage]]:
    """The answers to a message, without what members are told of refused links."""
    graph.tell(receiver, encode(message))
    found = to_identities(turn(graph))
    return [each for each in found if not (isinstance(each[1], Assign) and each[1].refused)]


@pytest.mark.parametrize(
    ("touches", "message", "full", "absorbing"),
    [
        (FULL, TAKEN, True, True),
        (PAIR, absorb(ASK, {Z: seat()}), False, True),
        ((), TAKEN, False, True),
        (FULL, Join(ASK, 1, CAUSE), True, False),
        ((), Join(ASK, 1, CAUSE), False, False),
    ],
)
def test_root_that_is_declined_hears_why_and_which_question_ittell(
    touches: tuple[str, ...], message: Absorb | Join, full: bool, absorbing: bool
) -> None:
    assert tell(graph_of(*touches, rules=SMALL), A, message) == [
        (Z, Decline(ASK, full, absorbing, CAUSE))
    ]


def test_root_that_is_taken_hears_its_root_its_customer_and_its_place() -> None:
    graph = graph_of("a:x b:x")
    assert tell(graph, A, TAKEN) == [(Z, Assign(A, 2, 1, A, {}, CAUSE))]


def test_meet_says_whether_there_is_room() -> None:
    asked = Meet(Ask(A, Z, A), True, CAUSE)
    assert tell(graph_of(*PAIR), A, Join(ASK, 1, CAUSE)) == [(Z, asked)]


@pytest.mark.parametrize("receiver", [B, C])
def test_message_to_somebody_else_than_the_root_is_passed_on(receiver: Token) -> None:
    graph = graph_of("a:x b:x", "b:x c:x")
    message = absorb(Ask(Z, receiver, Z), {Z: seat(name_of(receiver))})
    assert tell(graph, receiver, message) == [(A, message)]


@pytest.mark.parametrize("identity", [C, Z])
def test_report_of_an_identity_that_the_root_does_not_decide_on_is_left(identity: Token) -> None:
    graph = graph_of("a:x b:x", "c:x")
    before = components(graph)
    report = Report(identity, 9, Member("x", 0), [Ask(identity, D)], CAUSE)
    assert tell(graph, A, report) == []
    assert components(graph) == before


@pytest.mark.parametrize(("revision", "taken"), [(0, False), (1, True), (2, True)])
def test_report_that_is_older_than_the_last_changes_nothing(revision: int, taken: bool) -> None:
    graph = graph_of("a:x b:x")
    assert components(graph)["a"].seats[B].revision == 1
    member = Member("x", 0, {A: BOND})
    tell(graph, A, Report(B, revision, member, [], CAUSE))
    assert (components(graph)["a"].seats[B].member == member) == taken
    assert customers(graph) == ("a:b b:a" if taken else "a:a b:a")


def test_report_of_a_link_to_outside_decides_nothing() -> None:
    graph = graph_of("a:x b:x")
    member = Member("x", 1, {A: components(graph)["a"].seats[B].member.bonds[A], Z: BOND})
    graph.tell(A, encode(Report(B, 2, member, [], CAUSE)))
    outcome = turn(graph)
    assert (outcome.messages, outcome.observations) == ([], [])


def test_decline_of_a_link_that_is_no_more_is_not_kept() -> None:
    graph = graph_of("a:x b:x")
    tell(graph, A, Decline(Ask(B, Z, D), True, False, CAUSE))
    assert components(graph)["a"].parked == set()


@pytest.mark.parametrize("full", [True, False])
def test_decline_of_a_join_does_not_end_the_wait_for_another_answer(full: bool) -> None:
    graph = waiting()
    graph.tell(B, encode(Decline(Ask(B, Z, D), full, False, CAUSE)))
    overtake(graph)
    turn(graph)
    assert components(graph)["b"].waiting


def test_granted_identity_is_the_root_of_its_part() -> None:
    graph = graph_of("c:x", "d:x")
    seats = {C: seat("d"), D: seat("c")}
    answers = tell(graph, C, Grant(A, seats, CAUSE))
    assert [(name_of(key), type(each).__name__) for key, each in answers][0] == ("d", "Assign")
    assert graph.vertices[C].root == C


@pytest.mark.parametrize(
    ("touches", "kept"),
    [
        (("a:x",), {}),
        (("a:x b:x",), {"a": "ab"}),
        (("b:x a:x",), {"a": "ab"}),
        (("a:x b:x", "c:x d:x"), {"a": "ab", "c": "cd"}),
        (("a:x b:x", "c:x d:x", "d:x a:x"), {"a": "abcd"}),
        (("a:crm b:crm",), {"a": "ab"}),
    ],
)
def test_only_roots_of_several_keep_a_component(
    touches: tuple[str, ...], kept: dict[str, str]
) -> None:
    assert seated(graph_of(*touches)) == kept


@pytest.mark.parametrize(
    ("touches", "merges", "splits"),
    [
        (("a:x",), 0, 0),
        (("a:x b:x",), 0, 0),
        (("a:x", "b:x", "a:x b:x"), 1, 0),
        (("a:x b:x", "c:x d:x", "a:x c:x"), 1, 0),
        (("a:crm", "b:crm", "a:crm b:crm"), 0, 0),
    ],
)
def test_customers_that_become_one_are_counted(
    touches: tuple[str, ...], merges: int, splits: int
) -> None:
    counts = graph_of(*touches).counts
    assert (counts["merges"], counts["splits"]) == (merges, splits)


@pytest.mark.parametrize("what", ["denied", "marked"])
def test_customer_that_becomes_two_is_counted(what: str) -> None:
    graph = graph_of("a:x b:x")
    if what == "denied":
        say(graph, A, B, 1, False)
    else:
        marked(graph, A)
    graph.drain()
    assert (graph.counts["merges"], graph.counts["splits"]) == (0, 1)


def test_size_of_what_is_decided_together_is_observed() -> None:
    graph = graph_of("a:x b:x")
    graph.see(touch_of("b:x c:x", 9))
    sizes = []
    while graph.applied[0] < len(graph.logs[0]):
        sizes += turn(graph).observations
    assert sizes == [("component_identities", 3)]
