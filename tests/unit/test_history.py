"""Everybody's customer from the whole history: every sight of every link, in any order."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.history import (
    Identities,
    Judged,
    Said,
    Sight,
    components_of,
    judge_history,
    links_of,
    members_of,
    resolve_history,
)
from touchstream.agents.judgement import Refused, is_shared, judge
from touchstream.agents.resolution import Token, Verdict, Word, resolve
from touchstream.agents.rules import UNIDENTIFIED, Kind, Limit, Rules

DOCS = Path(__file__).parents[2] / "docs" / "identity.md"
A, B, C, D, E = (b"%d" % n * 8 for n in range(5))
KINDS = {
    "crm_id": Kind(90, unique=True),
    "email": Kind(60, limit=Limit(2, 10)),
    "phone": Kind(50, max_links=2),
    "cookie": Kind(10, verified_only=True, channels=frozenset({"web", "chat"})),
}
RULES = Rules(KINDS, Kind(40), max_identities=6, max_component=3, max_identifiers=10)

tokens = st.integers(0, 9).map(lambda n: b"%08d" % n)
identities = st.dictionaries(
    tokens, st.tuples(st.sampled_from([*KINDS, "other", UNIDENTIFIED]), st.integers(0, 20))
)
sights = st.lists(
    st.tuples(
        tokens,
        tokens,
        st.sampled_from(["web", "chat", "phone"]),
        st.booleans(),
        st.booleans(),
        st.integers(0, 5),
        st.sampled_from("abc"),
    ),
    max_size=25,
)
numbered = st.lists(st.tuples(tokens, tokens, st.booleans()), max_size=6).map(
    lambda said: [
        (one, other, Word(number, allow, "ann", "", number))
        for number, (one, other, allow) in enumerate(said)
    ]
)


def sight(one: Token, other: Token, time: int = 1, event_id: str = "e") -> Sight:
    return one, other, "web", True, True, time, event_id


def turned(seen: Sight) -> Sight:
    one, other, channel, verified, other_verified, time, event_id = seen
    return other, one, channel, other_verified, verified, time, event_id


def judged_of(known: Identities, seen: list[Sight], words: Iterable[Said] = ()) -> Judged:
    return judge_history(known, links_of(known, seen), words, RULES)


def people(**kinds: str) -> dict[Token, tuple[str, int]]:
    tokens = {"a": A, "b": B, "c": C, "d": D, "e": E}
    return {tokens[name]: (kind, time) for time, (name, kind) in enumerate(kinds.items())}


def test_of_a_link_the_earliest_sights_of_both_directions_are_kept() -> None:
    known = people(a="email", b="email")
    seen: list[Sight] = [
        (A, B, "web", True, False, 5, "late"),
        (B, A, "web", False, True, 4, "early"),
        (B, A, "web", False, True, 4, "earliest"[:4]),
        (A, B, "chat", False, False, 9, "chat"),
    ]
    expected = {("web", True, False): (4, "earl"), ("chat", False, False): (9, "chat")}
    assert links_of(known, seen) == {(A, B): expected}
    assert links_of(known, seen[::-1]) == {(A, B): expected}


def test_both_ends_have_the_bond_and_the_latest_word() -> None:
    words = [(A, B, Word(2, True, "ann", "", 2)), (B, A, Word(1, False, "bob", "", 1))]
    members = members_of(people(a="email", b="email"), [sight(B, A, 7)], words, RULES)
    assert members[A].bonds[B] == members[B].bonds[A]
    assert members[A].bonds[B].time == 7
    assert members[A].words == {B: words[0][2]}
    assert members[B].words == {A: words[0][2]}


@pytest.mark.parametrize("ends", [(A, A), (A, E), (E, A)])
def test_a_link_or_word_of_no_two_known_identities_is_left_out(ends: tuple[Token, Token]) -> None:
    word = (*ends, Word(1, True, "ann", "", 1))
    judged = judged_of(people(a="email"), [sight(*ends)], [word])
    assert (judged.members[A].bonds, judged.members[A].words, judged.refused) == ({}, {}, {})


def test_an_identity_with_too_many_bonds_is_shared_and_its_links_are_refused() -> None:
    known = people(a="phone", b="email", c="email", d="email", e="email")
    two = [sight(A, B), sight(A, C)]
    assert not members_of(known, two, [], RULES)[A].alone
    judged = judged_of(known, [*two, sight(D, A), sight(D, E)])
    assert [judged.members[identity].alone for identity in (A, B, D)] == [True, False, False]
    shared = Verdict(Refused.SHARED)
    assert judged.refused == {(A, B): shared, (A, C): shared, (A, D): shared}
    customers = resolve_history(judged.members, RULES).customers
    assert customers == {A: A, B: B, C: C, D: D, E: D}


def test_an_identity_may_be_known_to_be_shared_without_all_its_links() -> None:
    known = people(a="phone", b="email")
    judged = judge_history(known, links_of(known, [sight(A, B)]), [], RULES, shared={A})
    assert judged.members[A].alone
    assert judged.refused == {(A, B): Verdict(Refused.SHARED)}


def test_links_to_an_erased_identity_are_refused_as_such() -> None:
    known = people(a="email", b="email", c="email")
    links = links_of(known, [sight(A, B), sight(B, C), sight(A, C)])
    judged = judge_history(known, links, [], RULES, shared={A}, erased={B})
    shared, erased = Verdict(Refused.SHARED), Verdict(Refused.ERASED)
    assert judged.refused == {(A, B): erased, (B, C): erased, (A, C): shared}
    assert [judged.members[identity].alone for identity in (A, B, C)] == [True, True, False]


def test_links_that_may_not_join_do_not_make_an_identity_shared() -> None:
    known = people(a="phone", b="cookie", c="cookie", d="cookie", e="email")
    seen: list[Sight] = [(A, other, "web", True, False, 1, "e") for other in (B, C, D)]
    judged = judged_of(known, [*seen, sight(A, E)])
    assert not judged.members[A].alone
    assert set(judged.refused.values()) == {Verdict(Refused.UNVERIFIED)}
    assert resolve_history(judged.members, RULES).customers[E] == A


def test_a_component_larger_than_a_worker_would_take_is_resolved_all_the_same() -> None:
    known = people(a="email", b="other", c="other", d="other", e="other")
    seen = [sight(A, B), sight(B, C), sight(C, D), sight(D, E)]
    assert RULES.max_component < 5
    resolution = resolve_history(members_of(known, seen, [], RULES), RULES)
    assert set(resolution.customers.values()) == {A}
    assert resolution.refused == {}


@given(identities, sights, numbered)
def test_members_are_what_the_plain_definition_says(
    known: Identities, seen: list[Sight], words: list[Said]
) -> None:
    """Every end judges its own view of the link by itself."""
    views: defaultdict[tuple[Token, Token], dict[tuple[str, bool, bool], tuple[int, str]]]
    views = defaultdict(dict)
    for one, other, channel, here, there, time, event_id in seen:
        for ends, key in (
            ((one, other), (channel, here, there)),
            ((other, one), (channel, there, here)),
        ):
            if one != other and {one, other} <= known.keys():
                first = views[ends].get(key, (time, event_id))
                views[ends][key] = min(first, (time, event_id))
    members = members_of(known, seen, words, RULES)
    assert members.keys() == known.keys()
    for identity, member in members.items():
        judged = {
            other: judge(member.kind, known[other][0], view, RULES)
            for (one, other), view in views.items()
            if one == identity
        }
        bonds = {other: bond for other, bond in judged.items() if not isinstance(bond, Refused)}
        assert (member.kind, member.first_seen) == known[identity]
        assert member.bonds == bonds
        assert member.alone == is_shared(member.kind, bonds, RULES)
        last = {
            (set(ends) - {identity}).pop(): word
            for *ends, word in words
            if identity in ends and len(set(ends)) == 2 and set(ends) <= known.keys()
        }
        assert member.words == last


@given(identities, sights, numbered)
def test_deciding_by_component_is_deciding_on_all_at_once(
    known: Identities, seen: list[Sight], words: list[Said]
) -> None:
    members = members_of(known, seen, words, RULES)
    whole, parts = resolve(members, RULES), resolve_history(members, RULES)
    assert parts.customers == whole.customers
    assert parts.refused == whole.refused
    assert sorted(parts.joined) == sorted(whole.joined)


@given(identities, sights, numbered, st.data())
def test_neither_order_nor_repetition_nor_direction_of_sights_matters(
    known: Identities, seen: list[Sight], words: list[Said], data: st.DataObject
) -> None:
    either_way = [turned(each) if data.draw(st.booleans()) else each for each in seen]
    shuffled = data.draw(st.permutations([*either_way, *seen[:3]]))
    assert judged_of(known, shuffled, words) == judged_of(known, seen, words)


@given(identities, sights, numbered)
def test_components_part_all_identities(
    known: Identities, seen: list[Sight], words: list[Said]
) -> None:
    members = members_of(known, seen, words, RULES)
    found = [identity for component in components_of(members) for identity in component]
    assert sorted(found) == sorted(known)


def test_every_reason_for_a_refused_link_is_explained() -> None:
    section = DOCS.read_text().partition("## Refused links\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert documented == [str(reason) for reason in Refused]
