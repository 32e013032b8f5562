"""An identity and its neighbours: message in; messages, rows, counts and alerts out.

Identities are letters, the smaller the earlier in the alphabet; a touchpoint reads `b:email a:x?`,
filed under the first, `?` for not verified. A step reads `Touch b: Link a`: b hears and tells a.
"""

import random
from typing import Any
from unittest.mock import patch

import pytest
from identity_graph import (
    NOW_MS,
    Graph,
    Seen,
    alerts_of,
    conversation,
    name_of,
    to_customers,
    to_identities,
    token_of,
    touch_of,
    turn,
)

from touchstream.agents import stitch
from touchstream.agents.customer_messages import Activity, Arrive, Move, Touched
from touchstream.agents.evidence import Mark
from touchstream.agents.identity_messages import (
    Alone,
    Assign,
    Cause,
    Erase,
    Link,
    Ruled,
    Sweep,
    encode,
)
from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Word
from touchstream.agents.rules import Kind, Rules
from touchstream.agents.stitch import NOBODY, Stitch
from touchstream.agents.suppressions import FOREVER
from touchstream.streams.positions import POSITION_BYTES
from touchstream.streams.records import Record
from touchstream.streams.stage import run_chunk
from touchstream.streams.table import Table
from touchstream.streams.tables import (
    CHANGES,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    REFUSED,
    RULES,
    WORDS,
)
from touchstream.streams.topics import IDENTITY

KINDS = {
    "crm": Kind(90, unique=True),
    "email": Kind(60, max_links=2),
    "badge": Kind(40, verified_only=True),
    "bill": Kind(40, channels=frozenset({"phone"})),
}
STRICT = Rules(KINDS, Kind(30), 5, 6, 50)
LOOSE = Rules({}, Kind(30), 5, 6, 50)
A, B, C, D = map(token_of, "abcd")
Row = dict[str, Any]


def graph_of(*touches: str, rules: Rules = STRICT) -> Graph:
    """After touchpoints, each a moment later and settled before the next."""
    graph = Graph(rules, 1, random.Random(1), chunk_records=(1,))
    for number, text in enumerate(touches):
        graph.see(touch_of(text, 1 + number, f"e{number}"))
        graph.drain()
    return graph


def rows(graph: Graph, table: Table) -> list[Row]:
    """Rows with names of columns, identities and customers as letters."""
    letters = {token_of(name).hex(): name for name in "abcdefgh"}
    letters |= {"c" + token: name for token, name in letters.items()}
    return [
        {
            name: letters.get(value, value)
            for name, value in zip(table.column_names, row, strict=True)
        }
        for row in graph.rows.get(table, [])
    ]


def some(found: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in found]


def customers(graph: Graph) -> str:
    """Customer of each identity, in order: `a:a b:a`."""
    found = sorted(graph.customers().items())
    return " ".join(f"{name_of(identity)}:{name_of(customer)}" for identity, customer in found)


def refused(graph: Graph) -> dict[str, str]:
    """Refused links by their ends: `ab`."""
    found = graph.refused().items()
    return {"".join(name_of(bytes.fromhex(end)) for end in pair): why for pair, why in found}


def word(number: int, allow: bool) -> Word:
    return Word(number, allow, "ann", "a note", NOW_MS - 5)


SHARED = ("b:crm a:email", "c:crm a:email", "d:crm a:email")
"""Of which a belongs to many."""

CONVERSATIONS: dict[str, tuple[tuple[str, ...], Seen, list[str]]] = {
    "one alone": ((), touch_of("a:x"), ["Touch a:"]),
    "the smaller tells the larger": (
        (),
        touch_of("a:x b:x"),
        ["Touch a: Link b", "Link b: Absorb a", "Absorb a: Assign b", "Assign b:"],
    ),
    "the larger tells the smaller": (
        (),
        touch_of("b:x a:x"),
        [
            "Touch b: Link a",
            "Link a: Meet b",
            "Meet b: Absorb a",
            "Absorb a: Assign b",
            "Assign b:",
        ],
    ),
    "three at once": (
        (),
        touch_of("a:x b:x c:x"),
        [
            "Touch a: Link b, Link c",
            "Link b: Absorb a",
            "Link c: Absorb a",
            "Absorb a: Assign b",
            "Absorb a: Assign c",
            "Assign b:",
            "Assign c:",
        ],
    ),
    "one more for a pair": (
        ("a:x b:x",),
        touch_of("b:x c:x"),
        [
            "Touch b: Link c, Report a",
            "Link c: Absorb a",
            "Report a:",
            "Absorb a: Assign c",
            "Assign c:",
        ],
    ),
    "two pairs": (
        ("a:x b:x", "c:x d:x"),
        touch_of("d:x b:x", 9),
        [
            "Touch d: Link b, Report c",
            "Link b: Report a",
            "Report c:",
            "Report a: Meet c",
            "Meet c: Absorb a",
            "Absorb a: Assign c, Assign d",
            "Assign c:",
            "Assign d:",
        ],
    ),
    "nobody new": (("a:x b:x",), touch_of("a:x", 9), ["Touch a:"]),
    "the same again": (("a:x b:x",), touch_of("a:x b:x", 1, "e0"), ["Touch a:"]),
    "the same link later": (("a:x b:x",), touch_of("a:x b:x", 9), ["Touch a:"]),
    "the same link earlier": (
        ("a:x b:x",),
        touch_of("a:x b:x", 0),
        ["Touch a: Link b", "Link b: Report a", "Report a:"],
    ),
    "the same link on another channel": (
        ("a:x b:x",),
        touch_of("a:x b:x", 9, channel="chat"),
        ["Touch a: Link b", "Link b: Report a", "Report a:"],
    ),
    "the same link from the other end": (
        ("a:x b:x",),
        touch_of("b:x a:x", 9),
        ["Touch b:"],
    ),
    "a link that joins no one": (
        (),
        touch_of("a:x b:badge?"),
        ["Touch a: Link b", "Link b:"],
    ),
    "a link that joins, as it is verified now": (
        ("a:x b:badge?",),
        touch_of("a:x b:badge", 9),
        ["Touch a: Link b", "Link b: Absorb a", "Absorb a: Assign b", "Assign b:"],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_identities_say_about_a_touchpoint(name: str) -> None:
    before, seen, expected = CONVERSATIONS[name]
    graph = graph_of(*before)
    graph.see(seen)
    assert conversation(graph) == expected


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_smallest_of_those_decided_together_is_the_root(name: str) -> None:
    before, seen, _ = CONVERSATIONS[name]
    graph = graph_of(*before)
    graph.see(seen)
    graph.drain()
    for vertex in graph.vertices.values():
        together = [i for i, each in graph.vertices.items() if each.root == vertex.root]
        assert vertex.root == min(together)


def test_news_of_a_link_carries_the_sights_as_the_other_end_sees_them() -> None:
    graph = graph_of()
    graph.see(touch_of("b:email a:badge?", 7, "e7", "chat"))
    ((receiver, link),) = to_identities(turn(graph))
    cause = Cause("touchpoint chat/e7", "chat", NOW_MS)
    sights = {("chat", False, True): (7, "e7")}
    assert receiver == A
    assert link == Link("badge", B, "email", sights, B, None, None, 0, cause)


def test_only_the_sights_of_the_touchpoint_are_sent_on() -> None:
    graph = graph_of("a:x b:x")
    graph.see(touch_of("a:x b:x", 9, "e9", "chat"))
    ((_, link),) = to_identities(turn(graph))
    assert isinstance(link, Link)
    assert link.sights == {("chat", True, True): (9, "e9")}


def test_new_identity_arrives_at_its_customer_before_its_touch() -> None:
    graph = graph_of()
    graph.see(touch_of("b:x a:x"))
    (one, arrive), (other, touched) = to_customers(turn(graph))
    assert (one, other) == (B, B)
    assert arrive == Arrive(B, Activity("x"))
    assert isinstance(touched, Touched)
    assert (touched.identity, touched.kind) == (B, "x")


@pytest.mark.parametrize(
    ("before", "text", "customer"),
    [((), "b:x", B), (("a:x b:x",), "b:x", A), (("a:x", "b:x a:x"), "b:x c:x", A)],
)
def test_touch_goes_to_the_customer_of_the_moment(
    before: tuple[str, ...], text: str, customer: bytes
) -> None:
    graph = graph_of(*before)
    graph.see(touch_of(text, 9, "e9"))
    outcome = turn(graph)
    receiver, touched = to_customers(outcome)[-1]
    assert isinstance(touched, Touched)
    assert receiver == customer
    (fact,) = outcome.rows[FACTS]
    assert fact[:4] == (B.hex(), "web", "e9", "c" + customer.hex())


def test_identity_that_changes_its_customer_moves_its_activity() -> None:
    graph = graph_of("a:x b:x", "c:x")
    graph.see(touch_of("c:x b:x", 9))
    moves = []
    while graph.applied[0] < len(graph.logs[0]):
        moves += [(name_of(key), each) for key, each in to_customers(turn(graph))]
    assert [each for each in moves if isinstance(each[1], Move)] == [("c", Move(C, A))]


def test_change_of_customer_is_timed_from_its_cause() -> None:
    graph = graph_of("a:x b:x", "c:x")
    graph.see(touch_of("c:x b:x", 9))
    caused = []
    while graph.applied[0] < len(graph.logs[0]):
        caused += turn(graph).caused_at
    assert caused == [NOW_MS]


def test_rows_of_identities_show_their_latest_customer() -> None:
    graph = graph_of("b:x", "a:email b:x")
    found = some(rows(graph, IDENTITIES), "identity", "kind", "customer_id", "version")
    assert found == [("b", "x", "b", 2), ("a", "email", "a", 2), ("a", "email", "b", 3)]


def test_link_is_a_row_as_the_touchpoint_showed_it() -> None:
    graph = graph_of()
    graph.see(touch_of("b:email a:badge? c:x", 7, "e7", "chat"))
    turn(graph)
    columns = ("identity", "other", "kind", "other_kind", "verified", "other_verified")
    found = rows(graph, LINKS)
    assert some(found, *columns) == [
        ("b", "a", "email", "badge", True, False),
        ("b", "c", "email", "x", True, True),
    ]
    assert some(found, "channel", "seen_at", "event_id") == [("chat", 7, "e7")] * 2


@pytest.mark.parametrize(
    ("text", "time", "channel", "written"),
    [
        ("a:x b:x", 5, "web", False),
        ("a:x b:x", 6, "web", False),
        ("a:x b:x", 4, "web", True),
        ("a:x b:x", 9, "chat", True),
        ("a:x b:x?", 9, "web", True),
        ("a:x? b:x", 9, "web", True),
    ],
)
def test_only_news_of_a_link_is_a_row(text: str, time: int, channel: str, written: bool) -> None:
    graph = graph_of()
    graph.see(touch_of("a:x b:x", 5, "e5"))
    graph.drain()
    before = len(rows(graph, LINKS))
    graph.see(touch_of(text, time, "e5", channel))
    graph.drain()
    assert len(rows(graph, LINKS)) - before == written


def test_earlier_sight_of_a_link_has_precedence() -> None:
    graph = graph_of()
    for time in (9, 3):
        graph.see(touch_of("a:x b:x", time, f"e{time}"))
    graph.drain()
    late, early = some(rows(graph, LINKS), "precedence", "seen_at")
    assert early[0] > late[0] and (early[1], late[1]) == (3, 9)


def test_link_that_its_root_refuses_is_a_row_at_each_end() -> None:
    graph = graph_of("a:crm b:x", "c:crm b:x")
    columns = ("identity", "other", "kind", "reason", "detail", "decided_at", "is_deleted")
    assert sorted(some(rows(graph, REFUSED), *columns)) == [
        ("b", "c", "x", "unique", "crm", NOW_MS, 0),
        ("c", "b", "crm", "unique", "crm", NOW_MS, 0),
    ]


@pytest.mark.parametrize(
    ("touches", "expected"),
    [
        (("a:x b:badge?",), {"ab": "unverified"}),
        (("a:x b:bill",), {"ab": "channel"}),
        (SHARED, {"ab": "shared", "ac": "shared", "ad": "shared"}),
        (("a:crm b:x", "c:crm b:x"), {"bc": "unique"}),
        (("a:x b:x c:x d:x e:x f:x",), {"af": "customer_full"}),
        (
            ("a:x b:x c:x d:x e:x", "f:x a:x", "g:x a:x"),
            {"af": "customer_full", "ag": "component_full"},
        ),
    ],
)
def test_refused_links_have_their_reasons(
    touches: tuple[str, ...], expected: dict[str, str]
) -> None:
    assert refused(graph_of(*touches)) == expected


def told(graph: Graph, what: str) -> None:
    """Something that makes a refused link count."""
    match what:
        case "rules":
            graph.rule(7, LOOSE)
        case "allowed":
            graph.say(B, C, word(7, True))
        case "verified":
            graph.see(touch_of("a:x b:badge", 9))
        case "channel":
            graph.see(touch_of("a:x b:bill", 9, channel="phone"))
        case "not shared":
            graph.mark(A, Mark(8, None, "ann", "", NOW_MS))
    graph.drain()


LATER = [
    (("a:crm b:x", "c:crm b:x"), "rules"),
    (("a:crm b:x", "c:crm b:x"), "allowed"),
    (("a:x b:badge?",), "rules"),
    (("a:x b:badge?",), "verified"),
    (("a:x b:bill",), "rules"),
    (("a:x b:bill",), "channel"),
    (SHARED, "rules"),
    (("a:x b:x",), "not shared"),
]


@pytest.mark.parametrize(("touches", "what"), LATER)
def test_refused_link_that_joins_later_is_deleted_at_both_ends(
    touches: tuple[str, ...], what: str
) -> None:
    graph = graph_of(*touches)
    if what == "not shared":
        graph.mark(A, Mark(7, Refused.SHARED, "ann", "", NOW_MS))
        graph.drain()
    assert refused(graph)
    told(graph, what)
    assert refused(graph) == {}
    assert len({*graph.customers().values()}) == 1
    latest: dict[tuple[str, str], Row] = {}
    for row in rows(graph, REFUSED):
        ends = (row["identity"], row["other"])
        assert ends not in latest or latest[ends]["version"] < row["version"]
        latest[ends] = row
    assert {row["is_deleted"] for row in latest.values()} == {1}


def changed_by(what: str) -> Graph:
    """Something by which b leaves the customer a, or joins it."""
    graph = graph_of(*(("a:x", "b:x") if what in ("touchpoint", "allowed") else ("a:x b:x",)))
    match what:
        case "touchpoint":
            graph.see(touch_of("b:x a:x", 9, "e9", "chat"))
        case "denied":
            graph.say(A, B, word(7, False))
        case "allowed":
            graph.say(A, B, word(7, True))
        case "marked":
            graph.mark(A, Mark(7, Refused.SHARED, "ann", "", NOW_MS - 5))
        case "rules":
            graph.rule(7, Rules({"x": Kind(30, unique=True)}, Kind(30), 5, 6, 50))
        case "rules by an operator":
            graph.rule(7, Rules({}, Kind(30, verified_only=True, channels=frozenset()), 5, 6, 50))
    graph.drain()
    return graph


@pytest.mark.parametrize(
    ("what", "former", "customer", "cause", "who", "at"),
    [
        ("touchpoint", "b", "a", "touchpoint chat/e9", "chat", NOW_MS),
        ("allowed", "b", "a", "allowed", "ann", NOW_MS - 5),
        ("denied", "a", "b", "denied", "ann", NOW_MS - 5),
        ("marked", "a", "b", "marked shared", "ann", NOW_MS - 5),
        ("rules", "a", "b", "rules 7", "op", NOW_MS),
        ("rules by an operator", "a", "b", "rules 7", "op", NOW_MS),
    ],
)
def test_change_of_customer_is_a_row_with_its_cause_and_who(
    what: str, former: str, customer: str, cause: str, who: str, at: int
) -> None:
    columns = ("identity", "former_customer_id", "customer_id", "cause", "who", "caused_at")
    found = rows(changed_by(what), CHANGES)
    assert some(found, *columns) == [("b", former, customer, cause, who, at)]
    assert some(found, "kind", "version", "changed_at") == [("x", 3, NOW_MS)]


def test_first_customer_of_an_identity_is_no_change() -> None:
    assert rows(graph_of("a:x b:x"), CHANGES) == []


@pytest.mark.parametrize(
    ("touches", "identities", "links", "moves"),
    [
        (("a:x",), 1, 0, 0),
        (("a:x", "a:x"), 1, 0, 0),
        (("a:x b:x",), 2, 1, 0),
        (("a:x b:x", "a:x b:x", "b:x a:x"), 2, 1, 0),
        (("a:x b:x c:x",), 3, 2, 0),
        (("a:x", "b:x", "b:x a:x"), 2, 1, 1),
        (("a:x b:x", "c:x d:x", "d:x a:x"), 4, 3, 2),
        (("a:crm", "b:crm", "b:crm a:crm"), 2, 1, 0),
    ],
)
def test_new_identities_and_links_and_moves_are_counted(
    touches: tuple[str, ...], identities: int, links: int, moves: int
) -> None:
    counts = graph_of(*touches).counts
    assert [counts[name] for name in ("identities", "links", "moves")] == [identities, links, moves]


@pytest.mark.parametrize(
    ("touches", "reason"),
    [
        (("a:x b:badge?",), "unverified"),
        (("a:x b:bill",), "channel"),
        (("a:crm b:x", "c:crm b:x"), "unique"),
    ],
)
def test_refused_link_is_counted_once_by_its_reason(touches: tuple[str, ...], reason: str) -> None:
    counts = graph_of(*touches).counts
    assert {name: n for name, n in counts.items() if "refused" in name} == {f"refused {reason}": 1}


@pytest.mark.parametrize(("one", "other"), [(A, B), (B, A)])
@pytest.mark.parametrize("allow", [True, False])
def test_word_is_one_row_with_the_smaller_identity_first(
    one: bytes, other: bytes, allow: bool
) -> None:
    graph = graph_of("a:x b:x")
    graph.say(one, other, word(7, allow))
    graph.drain()
    (row,) = rows(graph, WORDS)
    assert row == {
        "identity": "a",
        "other": "b",
        "allow": allow,
        "operator": "ann",
        "note": "a note",
        "said_at": NOW_MS - 5,
        "number": 7,
    }


@pytest.mark.parametrize("again", [word(7, True), word(6, True), word(7, False), word(3, False)])
def test_word_that_is_not_later_than_the_last_changes_nothing(again: Word) -> None:
    graph = graph_of("a:x b:x")
    graph.say(A, B, word(7, False))
    graph.drain()
    graph.say(B, A, again)
    assert conversation(graph) == ["Said b:"]
    assert customers(graph) == "a:a b:b"
    assert len(rows(graph, WORDS)) == 1


@pytest.mark.parametrize(
    ("allow", "expected"),
    [(True, ["Said b: Said a", "Said a:"]), (False, ["Said b: Said a", "Said a:"])],
)
def test_word_on_identities_that_were_never_seen_makes_no_customers(
    allow: bool, expected: list[str]
) -> None:
    graph = graph_of()
    graph.say(B, A, word(7, allow))
    assert conversation(graph) == expected
    assert (graph.customers(), rows(graph, IDENTITIES)) == ({}, [])


@pytest.mark.parametrize("touches", [("a:x", "b:x"), ("b:x", "a:x")])
def test_word_counts_when_its_identities_are_seen_later(touches: tuple[str, ...]) -> None:
    graph = graph_of()
    graph.say(B, A, word(7, True))
    graph.drain()
    for time, text in enumerate(touches):
        graph.see(touch_of(text, time, text))
        graph.drain()
    assert {*customers(graph).replace(":", " ").split()[1::2]} == {touches[0][0]}


def test_denied_before_they_were_seen_they_never_join() -> None:
    graph = graph_of()
    graph.say(B, A, word(7, False))
    graph.drain()
    graph.see(touch_of("a:x b:x"))
    graph.drain()
    assert (customers(graph), refused(graph)) == ("a:a b:b", {"ab": "denied"})


MARKED = Mark(7, Refused.SHARED, "ann", "a switchboard", NOW_MS - 5)


@pytest.mark.parametrize(
    ("reason", "name"), [(Refused.SHARED, "shared"), (Refused.ERASED, "erased"), (None, "")]
)
def test_mark_is_a_row(reason: Refused | None, name: str) -> None:
    graph = graph_of("a:x")
    graph.mark(A, Mark(7, reason, "ann", "a note", NOW_MS - 5))
    graph.drain()
    (row,) = rows(graph, MARKS)
    assert [*row.values()] == ["a", name, "ann", "a note", NOW_MS - 5, 7]


def test_marked_identity_joins_no_one_any_more() -> None:
    graph = graph_of("a:x b:x", "b:x c:x")
    graph.mark(B, MARKED)
    graph.drain()
    assert customers(graph) == "a:a b:b c:c"
    assert refused(graph) == {"ab": "shared", "bc": "shared"}


def test_mark_of_an_identity_that_was_never_seen_counts_when_it_is() -> None:
    graph = graph_of()
    graph.mark(B, MARKED)
    graph.drain()
    assert graph.customers() == {}
    graph.see(touch_of("a:x b:x"))
    graph.see(touch_of("b:x c:x"))
    graph.drain()
    assert customers(graph) == "a:a b:b c:c"
    assert refused(graph) == {"ab": "shared", "bc": "shared"}


@pytest.mark.parametrize("number", [6, 7])
def test_mark_that_is_not_later_than_the_last_changes_nothing(number: int) -> None:
    graph = graph_of("a:x b:x")
    graph.mark(A, MARKED)
    graph.drain()
    graph.mark(A, Mark(number, None, "ann", "", NOW_MS))
    assert conversation(graph) == ["Marked a:"]
    assert (customers(graph), len(rows(graph, MARKS))) == ("a:a b:b", 1)


def test_identity_linked_to_too_many_tells_all_of_them() -> None:
    graph = graph_of(*SHARED[:2])
    graph.see(touch_of(SHARED[2], 9))
    said = conversation(graph)
    assert said[:2] == [
        "Touch d: Link a",
        "Link a: Alone b, Alone c, Alone d, Alone d, Grant c, Grant b",
    ]
    assert customers(graph) == "a:a b:b c:c d:d"


def test_alert_of_a_shared_identity_says_which_and_how_many() -> None:
    graph = graph_of(*SHARED[:2])
    graph.see(touch_of(SHARED[2], 9))
    turn(graph)
    (alert,) = alerts_of(turn(graph))
    assert (alert.kind, alert.identity, alert.raised_at) == ("shared", A.hex(), NOW_MS)
    assert alert.reason == "This email is linked to 3 others and joins no one from now on."
    assert alert.evidence == {"kind": "email", "links": "3", "cause": "touchpoint web/e"}


@pytest.mark.parametrize("text", ["e:crm a:email", "a:email e:x"])
def test_shared_identity_keeps_no_more_links_but_the_other_end_does(text: str) -> None:
    graph = graph_of(*SHARED)
    before = len(graph.vertices[A].links)
    graph.see(touch_of(text, 9))
    graph.drain()
    assert len(graph.vertices[A].links) == before
    assert refused(graph)["ae"] == "shared"
    assert graph.alerts == 1


def test_new_neighbour_of_a_shared_identity_hears_it_once() -> None:
    graph = graph_of(*SHARED)
    graph.see(touch_of("e:crm a:email", 9))
    assert conversation(graph) == ["Touch e: Link a", "Link a: Alone e", "Alone e:"]


def test_what_is_said_of_an_identity_that_is_no_neighbour_is_left() -> None:
    graph = graph_of("a:x")
    cause = Cause("rules 7", "op", NOW_MS)
    graph.tell(A, encode(Alone(D, Refused.SHARED, D, 0, cause)))
    assert conversation(graph) == ["Alone a:"]


@pytest.mark.parametrize("term", [0, 1])
def test_assignment_that_is_not_the_latest_changes_nothing(term: int) -> None:
    graph = graph_of("a:x b:x")
    assert graph.vertices[B].term == 1
    graph.tell(B, encode(Assign(D, term, 1, D, {}, Cause("denied", "ann", 0))))
    assert conversation(graph) == ["Assign b:"]
    assert (graph.vertices[B].root, graph.customers()[B]) == (A, A)


def test_record_that_comes_again_is_counted_and_changes_nothing() -> None:
    graph = graph_of()
    graph.see(touch_of("a:x b:x"))
    record = graph.logs[0][0]
    turn(graph)
    again = record._replace(offset=1)
    outcome = run_chunk(Stitch(STRICT), [again], graph.values[0], source=1, partitions=1)
    assert (outcome.messages, outcome.rows, outcome.changes) == ([], {}, {})
    assert outcome.counts == {("replayed", ""): 1}


def test_rules_are_a_row_with_their_text() -> None:
    graph = graph_of("a:x")
    graph.rule(7, LOOSE)
    graph.drain()
    assert [tuple(row.values()) for row in rows(graph, RULES)] == [(7, "op", NOW_MS, "")]


@pytest.mark.parametrize("number", [6, 7])
def test_rules_that_are_not_later_than_those_in_force_change_nothing(number: int) -> None:
    graph = graph_of("a:crm b:x", "c:crm b:x")
    graph.rule(7, LOOSE)
    graph.drain()
    graph.rule(number, STRICT)
    assert conversation(graph) == ["Ruled *:"]
    assert (customers(graph), len(rows(graph, RULES))) == ("a:a b:a c:a", 1)


def test_rules_of_later_find_everybody() -> None:
    graph = graph_of("a:crm b:x", "c:crm b:x", "d:x e:badge?", "f:x")
    graph.rule(7, LOOSE)
    graph.drain()
    assert customers(graph) == "a:a b:a c:a d:d e:d f:f"
    assert {vertex.rules for vertex in graph.vertices.values()} == {7}


def test_identity_that_was_never_judged_is_judged_under_the_rules_in_force() -> None:
    graph = graph_of()
    graph.rule(7, LOOSE)
    graph.see(touch_of("a:x b:badge?"))
    graph.drain()
    assert (customers(graph), refused(graph)) == ("a:a b:a", {})


def many(number: int) -> Graph:
    """Pairs of which each is refused under the strict rules."""
    graph = Graph(STRICT, 1, random.Random(1), chunk_records=(1,))
    for n in range(number):
        ends = [("x", b"%016d" % n, True), ("badge", b"%016d" % (n + 10_000), False)]
        graph.see(Seen(ends, "web", f"e{n}", n))
    graph.drain()
    return graph


def test_many_identities_are_judged_anew_some_at_a_time() -> None:
    graph = many(60)
    graph.rule(7, LOOSE)
    with patch.object(stitch, "SWEPT_AT_ONCE", 10):
        renewed = []
        while graph.applied[0] < len(graph.logs[0]):
            before = sum(vertex.rules == 7 for vertex in graph.vertices.values())
            sweeps = [each for _, each in to_identities(turn(graph)) if isinstance(each, Sweep)]
            after = sum(vertex.rules == 7 for vertex in graph.vertices.values())
            renewed += [after - before] if sweeps else []
    assert len(renewed) == 120 // 10
    assert max(renewed) <= 30
    assert {vertex.rules for vertex in graph.vertices.values()} == {7}
    assert len({*graph.customers().values()}) == 60


def test_sweep_of_rules_that_no_longer_hold_ends() -> None:
    graph = graph_of("a:x b:badge?")
    graph.rule(7, STRICT)
    graph.drain()
    graph.tell(NOBODY, encode(Sweep(6, 0, 5)))
    assert conversation(graph) == ["Sweep *:"]


def test_rules_go_on_to_the_next_slot_in_their_own_partition() -> None:
    body = encode(Ruled(7, LOOSE, "op", NOW_MS, ""))
    record = Record(IDENTITY, 3, 0, NOW_MS, NOBODY, bytes(POSITION_BYTES) + body)
    with patch.object(stitch, "SWEPT_AT_ONCE", 2):
        outcome = run_chunk(Stitch(STRICT), [record], many(3).values[0], source=1, partitions=5)
    (message,) = [each for each in outcome.messages if each.key == NOBODY]
    assert (message.topic, message.partition) == (IDENTITY, 3)
    assert to_identities(outcome)[-1] == (NOBODY, Sweep(7, 1, 1 + 6 // 2))


def test_identity_that_hears_something_is_judged_anew_before_the_sweep_comes_to_it() -> None:
    graph, slots = many(60), 1 + 120 // 10
    last = next(i for i in graph.vertices if int.from_bytes(i[-4:], "big") % slots == slots - 1)
    graph.rule(7, LOOSE)
    graph.see(Seen([("x", last, True)], "web", "late", 10**6))
    with patch.object(stitch, "SWEPT_AT_ONCE", 10):
        turn(graph)
        assert graph.vertices[last].rules == 0
        turn(graph)
    assert graph.vertices[last].rules == 7


def test_links_seen_while_an_identity_was_shared_by_an_operator_join_when_it_is_unshared() -> None:
    graph = graph_of("a:email")
    graph.mark(A, Mark(1, Refused.SHARED, "ann", "", NOW_MS))
    graph.drain()
    graph.see(touch_of("b:x a:email", 2, "e2"))
    graph.see(touch_of("a:email c:x", 3, "e3"))
    graph.drain()
    assert customers(graph) == "a:a b:b c:c"
    graph.mark(A, Mark(2, None, "ann", "", NOW_MS))
    graph.drain()
    assert customers(graph) == "a:a b:a c:a"


def erase(graph: Graph, identity: bytes, number: int) -> None:
    mark = Mark(number, Refused.ERASED, "ann", "", NOW_MS)
    graph.tell(identity, encode(Erase(mark, FOREVER)))


def test_identity_that_left_links_to_their_other_ends_stays_shared_when_one_is_erased() -> None:
    graph = graph_of(*SHARED, "e:crm a:email")
    erase(graph, B, 1)
    graph.drain()
    assert customers(graph) == "a:a c:c d:d e:e"
    graph.rule(7, STRICT)
    graph.drain()
    assert customers(graph) == "a:a c:c d:d e:e"


def test_identity_that_kept_all_its_links_is_shared_no_more_when_one_is_erased() -> None:
    graph = graph_of(*SHARED)
    erase(graph, B, 1)
    graph.drain()
    assert graph.vertices[A].alone is None


@pytest.mark.parametrize("seed", range(20))
def test_rules_may_come_at_any_moment_while_identities_are_erased(seed: int) -> None:
    """A link that is forgotten while its identity still waits to go is not judged again."""
    rng = random.Random(seed)
    graph = Graph(STRICT, 3, rng, chunk_records=(1,))

    def some_steps() -> None:
        for _ in range(rng.randrange(30)):
            graph.step(rng.randrange(3))

    graph.see(touch_of("a:x b:x", 1, "e1"))
    graph.see(touch_of("b:x c:x", 2, "e2"))
    some_steps()
    erase(graph, B, 1)
    erase(graph, C, 2)
    some_steps()
    graph.rule(7, LOOSE)
    graph.drain()
    assert customers(graph) == "a:a"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("text", ["b:x", "b:x c:x", "c:x b:x"])
def test_neighbour_of_an_erased_identity_may_be_seen_at_any_moment(seed: int, text: str) -> None:
    """It was only seen with the erased one until then, so it may be about to go; it stays."""
    rng = random.Random(seed)
    graph = Graph(STRICT, 3, rng, chunk_records=(1,))

    def some_steps(most: int) -> None:
        for _ in range(rng.randrange(most)):
            graph.step(rng.randrange(3))

    graph.see(touch_of("a:x b:x", 1, "e1"))
    some_steps(6)
    erase(graph, A, 1)
    some_steps(20)
    graph.see(touch_of(text, 2, "e2"))
    graph.drain()
    assert customers(graph) == ("b:b" if text == "b:x" else "b:b c:b")
    assert graph.vertices[B].first_seen == 2
    assert "e2" in [row[2] for row in graph.rows[FACTS]]
