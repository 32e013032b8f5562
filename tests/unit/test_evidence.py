"""What an identity keeps of what it sees, and what its root decides on."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.component import Ask, Component, Seat, linked
from touchstream.agents.evidence import Link, Mark, Vertex, decode_vertex
from touchstream.agents.judgement import Bond, Refused, Sights
from touchstream.agents.resolution import Member, Token, Verdict, Word
from touchstream.agents.rules import Kind, Rules

ME, A, B, C, D = b"me", b"a", b"b", b"c", b"d"
KINDS = {
    "email": Kind(60, max_links=2),
    "phone": Kind(50, channels=frozenset({"phone"})),
    "badge": Kind(40, verified_only=True),
}
RULES = Rules(KINDS, Kind(30), 5, 1000, 50)
SEEN: Sights = {("web", True, True): (1, "e")}
UNVERIFIED: Sights = {("web", True, False): (1, "e")}


def vertex(
    kind: str = "email", links: dict[Token, Link] | None = None, alone: Refused | None = None
) -> Vertex:
    return Vertex(ME, kind, 1, links or {}, alone=alone)


def links(number: int, kind: str = "email", sights: Sights = SEEN) -> dict[Token, Link]:
    return {b"%d" % n: Link(kind, dict(sights)) for n in range(number)}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((5,), [True]),
        ((5, 5), [True, False]),
        ((5, 6), [True, False]),
        ((5, 4), [True, True]),
        ((0, 0), [True, False]),
        ((5, 3, 4, 2), [True, True, False, True]),
    ],
)
def test_first_and_earlier_sights_are_news(times: tuple[int, ...], expected: list[bool]) -> None:
    me = Vertex(ME)
    assert [me.see("email", time) for time in times] == expected
    assert (me.first_seen, me.version, me.kind) == (min(times), sum(expected), "email")


@pytest.mark.parametrize(
    ("known", "sights", "news", "kept"),
    [
        ({}, SEEN, True, SEEN),
        (SEEN, SEEN, False, SEEN),
        (SEEN, {}, False, SEEN),
        (SEEN, UNVERIFIED, True, SEEN | UNVERIFIED),
        (SEEN, {("web", True, True): (0, "z")}, True, {("web", True, True): (0, "z")}),
        (SEEN, {("web", True, True): (1, "d")}, True, {("web", True, True): (1, "d")}),
        (SEEN, {("web", True, True): (1, "f")}, False, SEEN),
        (SEEN, {("web", True, True): (2, "a")}, False, SEEN),
        (SEEN, UNVERIFIED | {("web", True, True): (2, "a")}, True, SEEN | UNVERIFIED),
    ],
)
def test_link_keeps_the_earliest_sight_of_each_sort(
    known: Sights, sights: Sights, news: bool, kept: Sights
) -> None:
    link = Link("email", dict(known))
    assert (link.see(sights), link.sights) == (news, kept)


SIGHTS = st.dictionaries(
    st.tuples(st.sampled_from(("web", "chat")), st.booleans(), st.booleans()),
    st.tuples(st.integers(0, 3), st.sampled_from("ef")),
)


@given(st.lists(SIGHTS), st.data())
def test_neither_order_nor_repetition_of_sights_matters(
    seen: list[Sights], data: st.DataObject
) -> None:
    one, other = Link("email", {}), Link("email", {})
    for sights in seen:
        one.see(sights)
    for sights in data.draw(st.permutations(seen + seen[:2])):
        other.see(sights)
    assert one == other


@pytest.mark.parametrize(
    ("sights", "expected"),
    [
        (SEEN, Bond((-30, -60, False), 1, "web/e")),
        (UNVERIFIED, Bond((-30, -60, True), 1, "web/e")),
    ],
)
def test_link_is_judged_as_its_sights_say(sights: Sights, expected: Bond) -> None:
    assert vertex(links={A: Link("ticket", sights)}).judge(A, RULES) == expected


@pytest.mark.parametrize(
    ("link", "alone", "expected"),
    [
        (None, None, False),
        (Link("email", SEEN), None, True),
        (Link("email", SEEN, Refused.SHARED), None, False),
        (Link("email", SEEN), Refused.SHARED, False),
        (Link("email", SEEN), Refused.ERASED, False),
        (Link("phone", SEEN), None, False),
        (Link("badge", UNVERIFIED), None, False),
        (Link("badge", SEEN), None, True),
    ],
)
def test_link_joins_when_it_counts_and_neither_end_is_alone(
    link: Link | None, alone: Refused | None, expected: bool
) -> None:
    me = vertex(links={A: link} if link else {}, alone=alone)
    assert me.joins(A, RULES) == expected


def mark(number: int, reason: Refused | None) -> Mark:
    return Mark(number, reason, "ann", "", 1)


@pytest.mark.parametrize(
    ("others", "marked", "expected"),
    [
        (links(0), None, None),
        (links(2), None, None),
        (links(3), None, Refused.SHARED),
        # links that cannot join make nobody shared
        (links(9, "phone"), None, None),
        (links(9, "badge", UNVERIFIED), None, None),
        (links(2) | {A: Link("phone", SEEN)}, None, None),
        (links(2) | {A: Link("email", SEEN, Refused.SHARED)}, None, Refused.SHARED),
        # an operator's word comes first
        (links(0), mark(1, Refused.SHARED), Refused.SHARED),
        (links(0), mark(1, None), None),
        (links(3), mark(1, None), Refused.SHARED),
    ],
)
def test_why_an_identity_links_no_one(
    others: dict[Token, Link], marked: Mark | None, expected: Refused | None
) -> None:
    me = vertex(links=others)
    me.mark = marked
    assert me.why_alone(RULES) == expected


def test_an_identity_that_is_to_be_forgotten_links_no_one() -> None:
    me = vertex(links=links(3))
    me.going = mark(1, Refused.ERASED)
    assert me.why_alone(RULES) == Refused.ERASED


@pytest.mark.parametrize(
    ("known", "taken", "expected"),
    [
        (None, mark(1, Refused.SHARED), True),
        (mark(1, Refused.SHARED), mark(2, None), True),
        (mark(1, None), mark(2, Refused.ERASED), True),
        (mark(2, None), mark(1, Refused.SHARED), False),
        (mark(2, Refused.SHARED), mark(2, Refused.SHARED), False),
    ],
)
def test_of_marks_the_latest_counts(known: Mark | None, taken: Mark, expected: bool) -> None:
    me = vertex()
    me.mark = known
    assert me.take(taken) == expected
    assert me.mark == (taken if expected else known)


@pytest.mark.parametrize(
    ("known", "alone", "other_alone", "kind", "kept"),
    [
        (0, None, None, "email", True),
        (5, None, None, "email", True),
        (99, None, None, "email", True),  # it joins, so we shall be shared
        # of links that cannot join only twice as many as may
        (4, None, None, "phone", True),
        (5, None, None, "phone", False),
        # a shared identity leaves it to the other end, unless that is shared too
        (3, Refused.SHARED, None, "email", False),
        (3, Refused.SHARED, None, "phone", False),
        (3, Refused.SHARED, Refused.SHARED, "email", True),
        (3, None, Refused.SHARED, "email", True),
        (3, Refused.ERASED, None, "email", False),
    ],
)
def test_new_link_is_kept_unless_the_other_end_has_to(
    known: int, alone: Refused | None, other_alone: Refused | None, kind: str, kept: bool
) -> None:
    me = vertex(links=links(known), alone=alone)
    link = me.keep(A, kind, SEEN, RULES, other_alone)
    assert (link is not None, len(me.links)) == (kept, known + kept)
    if kept:
        assert me.links[A] == link == Link(kind, {})


@pytest.mark.parametrize("alone", [None, Refused.SHARED])
def test_known_link_stays(alone: Refused | None) -> None:
    me = vertex(links=links(9), alone=alone)
    assert me.keep(b"3", "phone", UNVERIFIED, RULES) is me.links[b"3"]
    assert me.links == links(9)


def test_links_that_cannot_join_are_bounded() -> None:
    me = vertex()
    for n in range(1000):
        link = me.keep(b"%d" % n, "phone", SEEN, RULES)
        if link is not None:
            link.see(SEEN)
    assert len(me.links) == 2 * 2 + 1


WEIGHED = {
    A: Link("email", SEEN),
    B: Link("email", SEEN, Refused.SHARED),
    C: Link("phone", SEEN),
    D: Link("badge", UNVERIFIED, Refused.SHARED),
}


@pytest.mark.parametrize(
    ("alone", "bonds", "reasons"),
    [
        (None, {A}, {B: "shared", C: "channel", D: "unverified"}),
        (Refused.SHARED, set(), {A: "shared", B: "shared", C: "channel", D: "unverified"}),
        (Refused.ERASED, set(), {A: "erased", B: "erased", C: "channel", D: "unverified"}),
    ],
)
def test_every_link_is_a_bond_for_the_root_or_refused_for_a_reason(
    alone: Refused | None, bonds: set[Token], reasons: dict[Token, str]
) -> None:
    member, refused = vertex(links=WEIGHED, alone=alone).weigh(RULES)
    assert member.bonds.keys() == bonds
    assert refused == {other: Verdict(Refused(reason)) for other, reason in reasons.items()}
    assert member.alone == (alone is not None)


def test_root_gets_kind_first_sight_and_words() -> None:
    words = {A: Word(3, False, "ann", "no", 9)}
    me = Vertex(ME, "email", 7, words=words)
    assert me.weigh(RULES) == (Member("email", 7, {}, words), {})


def test_what_the_root_gets_does_not_change_with_the_identity() -> None:
    me = vertex()
    member, _ = me.weigh(RULES)
    me.words[A] = Word(1, True, "ann", "", 1)
    assert member.words == {}


def test_vertex_comes_back_as_it_was_kept() -> None:
    me = vertex(links=WEIGHED, alone=Refused.SHARED)
    me.words[A] = Word(1, True, "ann", "", 1)
    me.refused = me.shown = {B: Verdict(Refused.LIMIT, "email")}
    me.mark = mark(4, Refused.SHARED)
    assert decode_vertex(msgspec.msgpack.encode(me)) == me


BOND = Bond((0, 0, False), 1, "web/e")


def seats(
    names: str, joined: str = "", allowed: str = "", denied: str = "", alone: str = ""
) -> Component:
    """Seats by name; a link or word `ab` is known to `a` only."""
    found = {n.encode(): Seat(Member("x", 0, {}, {}, n in alone), 1, 1) for n in names}
    for pair in joined.split():
        found[pair[0].encode()].member.bonds[pair[1].encode()] = BOND
    for text, allow in ((allowed, True), (denied, False)):
        for pair in text.split():
            word = Word(1, allow, "ann", "", 1)
            found[pair[0].encode()].member.words[pair[1].encode()] = word
    return Component(found)


def named(parts: Iterator[dict[Token, Seat]]) -> str:
    return " ".join(sorted("".join(sorted(token.decode() for token in part)) for part in parts))


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (seats("a"), "a"),
        (seats("abc"), "a b c"),
        (seats("abc", "ab"), "ab c"),
        (seats("abc", "ba bc"), "abc"),
        (seats("abcd", "ab cd"), "ab cd"),
        (seats("abcd", "ab bc cd da"), "abcd"),
        (seats("ab", "az bz"), "a b"),
        # words that allow connect, words that deny do not
        (seats("abc", allowed="ab"), "ab c"),
        (seats("abc", denied="ab"), "a b c"),
        (seats("abc", "ab", denied="ab"), "ab c"),
        # nothing goes through an identity that is alone
        (seats("abc", "ab bc", alone="b"), "a b c"),
        (seats("abc", "ba bc", alone="b"), "a b c"),
        (seats("abc", "ab bc ac", alone="b"), "ac b"),
        (seats("abc", "ab", allowed="bc", alone="c"), "ab c"),
    ],
)
def test_parts_are_what_links_and_allowing_words_connect(
    component: Component, expected: str
) -> None:
    assert named(component.parts()) == expected


def test_long_chain_of_seats_is_one_part() -> None:
    names = [b"%05d" % n for n in range(5000)]
    found = {name: Seat(Member("x", 0), 1, 1) for name in names}
    for one, other in zip(names, names[1:], strict=False):
        found[one].member = Member("x", 0, {other: BOND})
    (part,) = Component(found).parts()
    assert part == found


REFUSED_AB = {(A, B): Verdict(Refused.UNIQUE, "crm")}


@pytest.mark.parametrize(
    ("parked", "expected"),
    [
        (set(), {A: {B: "unique crm"}, B: {A: "unique crm"}}),
        ({(C, D)}, {A: {B: "unique crm"}, B: {A: "unique crm"}, C: {D: "component_full"}}),
        ({(A, D)}, {A: {B: "unique crm", D: "component_full"}, B: {A: "unique crm"}}),
    ],
)
def test_refused_links_are_told_at_both_ends_and_parked_ones_at_ours(
    parked: set[tuple[Token, Token]], expected: dict[Token, dict[Token, str]]
) -> None:
    found = Component({}, parked).refusals(REFUSED_AB)
    texts = {
        identity: {other: f"{v.reason} {v.detail}".strip() for other, v in told.items()}
        for identity, told in found.items()
    }
    assert texts == expected


CHANGED = Member("x", 0, {B: BOND})


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (Member("x", 0, {B: BOND}), False),
        (Member("x", 0, {B: BOND, D: BOND}), False),  # D has no seat here
        (Member("x", 0), True),
        (Member("x", 0, {B: BOND, C: BOND}), True),
        (Member("x", 0, {B: Bond((0, 0, True), 1, "web/e")}), True),
        (Member("x", 1, {B: BOND}), True),
        (Member("x", 0, {B: BOND}, {D: Word(1, False, "ann", "", 1)}), True),
        (Member("x", 0, {B: BOND}, alone=True), True),
    ],
)
def test_change_concerns_a_component_unless_it_is_of_a_link_to_outside(
    member: Member, expected: bool
) -> None:
    assert seats("abc").concerns(CHANGED, member) == expected


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (seats("ab", "ab"), True),
        (seats("ab", "ba"), True),
        (seats("ab", allowed="ba"), True),
        (seats("ab"), False),
        (seats("ab", denied="ab"), False),
        (seats("ab", "ab", alone="a"), False),
        (seats("ab", "ab", alone="b"), False),
    ],
)
def test_ends_of_an_ask_are_linked_when_one_of_them_says_so(
    component: Component, expected: bool
) -> None:
    assert linked(Ask(A, B), component.seats[A], component.seats[B]) == expected


def test_ask_is_turned_round_for_the_other_end() -> None:
    assert Ask(A, B).asked_by(ME).flipped() == Ask(B, A, ME)
