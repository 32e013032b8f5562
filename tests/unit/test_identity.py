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
from touchstream.agents.identity_messages import Alone, Assign, Cause, Link, Sweep, encode
from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Word
from touchstream.agents.rules import Kind, Rules
from touchstream.agents.stitch import NOBODY, Stitch
from touchstream.streams.records import Record
from touchstream.streams.stage import run_chunk
from touchstream.streams.tables import (
    CHANGES,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    REFUSED,
    RULES,
    WORDS,
    Table,
)

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
        {name: letters.get(value, value) for name, value in zip(table.column_names, row)}
        for row in graph.rows.get(table, [])
    ]


def some(found: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in found]


def customers(graph: Graph) -> str:
    """Customer of each identity, in order: `a:a b:a`."""
    found = sorted(graph.customers().items())
    return " ".join(f"{name_of(identity)}:{name_of(customer)}" for identity, customer in found)


def refused(graph: Graph) -> dict[str, str]:
    names = (({name_of(bytes.fromhex(end)) for end in pair}, why) for pair, why in _items(graph))
    return {"".join(sorted(pair)): why for pair, why in names}


def _items(graph: Graph) -> list[tuple[tuple[str, str], str]]:
    return list(graph.refused().items())


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
        touch_of("d:x b:x"),
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
        ["Touch a: Link b, Assign b", "Link b: Report a", "Assign b:", "Report a: Assign b", "Assign b:"],
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
        ["Touch a: Link b, Meet b", "Link b: Absorb a", "Meet b:", "Absorb a: Assign b", "Assign b:"],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_identities_say_about_a_touchpoint(name: str) -> None:
    before, seen, expected = CONVERSATIONS[name]
    graph = graph_of(*before)
    graph.see(seen)
    assert conversation(graph) == expected
