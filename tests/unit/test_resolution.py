"""Who is one customer: which links join, which are refused and why, whatever the order of evidence.

People stand as `a:crm b:email@7`: name, kind and time of the first sight, which is their place if
not said. Links stand as `ab bc`, the oldest first; words as `-ab +bc`, the last counts.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from touchstream.agents.judgement import Bond, Refused, judge
from touchstream.agents.resolution import (
    Member,
    Pair,
    Resolution,
    Token,
    Verdict,
    Word,
    chain,
    pair_of,
    resolve,
)
from touchstream.agents.rules import Kind, Limit, Rules

KINDS = {
    "crm": Kind(90, unique=True),
    "email": Kind(60),
    "phone": Kind(50, limit=Limit(2)),
    "cookie": Kind(10, limit=Limit(2, 100)),
}
RULES = Rules(KINDS, Kind(40), max_identities=5, max_component=1000, max_identifiers=50)
FREE = Rules({}, Kind(1), max_identities=10_000, max_component=10_000, max_identifiers=50)
"""No rule that could be broken."""


def bond(kind: str, other: str, time: int, verified: bool = True, event: str = "e") -> Bond:
    found = judge(kind, other, {("web", verified, True): (time, event)}, RULES)
    assert isinstance(found, Bond)
    return found


def people(text: str, links: str = "", words: str = "", alone: str = "") -> dict[Token, Member]:
    members = {}
    for place, named in enumerate(text.split()):
        name, _, rest = named.partition(":")
        kind, _, seen = rest.partition("@")
        time = int(seen) if seen else place
        members[name.encode()] = Member(kind, time, {}, {}, name in alone)
    for time, link in enumerate(links.split()):
        one, other = ends(link)
        made = bond(members[one].kind, members[other].kind, time)
        members[one].bonds[other] = members[other].bonds[one] = made
    for number, said in enumerate(words.split(), 1):
        one, other = ends(said[1:])
        word = Word(number, said[0] == "+", "ann", "", number)
        members[one].words[other] = members[other].words[one] = word
    return members


def ends(link: str) -> Pair:
    return link[0].encode(), link[1].encode()


def groups(found: Resolution) -> str:
    together: defaultdict[Token, str] = defaultdict(str)
    for identity, customer in sorted(found.customers.items()):
        together[customer] += identity.decode()
    return " ".join(sorted(together.values()))


def refusals(found: Resolution) -> dict[str, str]:
    return {
        (one + other).decode(): f"{verdict.reason} {verdict.detail}".strip()
        for (one, other), verdict in found.refused.items()
    }


DENIED_AC = f"denied {b'a'.hex()} {b'c'.hex()}"


@pytest.mark.parametrize(
    ("text", "links", "expected", "refused"),
    [
        ("a:email b:phone c:cookie", "", "a b c", {}),
        ("a:email b:phone c:cookie", "ab", "ab c", {}),
        ("a:email b:phone c:cookie d:x", "ab cd bc", "abcd", {}),
        ("a:email b:email c:email d:email", "ab bc cd da", "abcd", {}),
        # unique
        ("a:crm b:crm", "ab", "a b", {"ab": "unique crm"}),
        ("a:crm b:crm c:email", "ac bc", "ac b", {"bc": "unique crm"}),
        ("a:crm b:crm c:email d:phone", "ac bd cd", "ac bd", {"cd": "unique crm"}),
        # a limit for ever
        ("a:phone b:phone c:email", "ac bc", "abc", {}),
        ("a:phone b:phone c:phone d:email", "ad bd cd", "abd c", {"cd": "limit phone"}),
        ("a:phone b:phone c:phone", "ab bc", "ab c", {"bc": "limit phone"}),
        ("a:phone b:phone@9000 c:phone@99000", "ab bc", "ab c", {"bc": "limit phone"}),
        # a limit within a window
        ("a:cookie@0 b:cookie@50 c:cookie@99", "ab bc", "ab c", {"bc": "limit cookie"}),
        ("a:cookie@0 b:cookie@50 c:cookie@100", "ab bc", "abc", {}),
        ("a:cookie@1 b:cookie@50 c:cookie@100", "ab bc", "ab c", {"bc": "limit cookie"}),
        ("a:cookie@100 b:cookie@0 c:cookie@50", "ab bc", "abc", {}),
        ("a:cookie@7 b:cookie@7 c:cookie@7", "ab bc", "ab c", {"bc": "limit cookie"}),
        ("a:cookie@0 b:cookie@9 c:cookie@200 d:cookie@209", "ab cd bc", "abcd", {}),
        # identities of one customer
        ("a:x b:x c:x d:x e:x", "ab bc cd de", "abcde", {}),
        ("a:x b:x c:x d:x e:x f:x", "ab bc cd de ef", "abcde f", {"ef": "customer_full"}),
        ("a:x b:x c:x d:x e:x f:x", "ab bc de ef cd", "abc def", {"cd": "customer_full"}),
        # of several rules that would be broken one is said
        ("a:crm b:phone c:phone d:crm e:phone", "ab bc de ce", "abc de", {"ce": "unique crm"}),
        ("a:crm b:crm c:x d:x e:x f:x", "ac cd be ef df", "acd bef", {"df": "customer_full"}),
        # what one link may not do another may
        ("a:crm b:crm c:email d:email", "ac bc bd", "ac bd", {"bc": "unique crm"}),
    ],
)
def test_links_join_unless_a_rule_would_be_broken(
    text: str, links: str, expected: str, refused: dict[str, str]
) -> None:
    found = resolve(people(text, links), RULES)
    assert (groups(found), refusals(found)) == (expected, refused)


@pytest.mark.parametrize(
    ("text", "links", "words", "expected", "refused"),
    [
        ("a:x b:x c:x", "ac", "-ac", "a b c", {"ac": DENIED_AC}),
        ("a:x b:x c:x", "ab bc", "-ac", "ab c", {"bc": DENIED_AC}),
        ("a:x b:x c:x d:x", "ab cd bd", "-ac", "ab cd", {"bd": DENIED_AC}),
        ("a:x b:x c:x", "ab bc", "-ac +ac", "abc", {}),
        ("a:x b:x c:x", "ab bc", "+ac -ac", "ab c", {"bc": DENIED_AC}),
        ("a:x b:x c:x", "ab bc", "-ac +ac -ac +ac", "abc", {}),
        ("a:x b:x c:x", "ab bc", "-ac +ab", "ab c", {"bc": DENIED_AC}),
        # what is allowed needs no link and breaks any rule
        ("a:x b:x", "", "+ab", "ab", {}),
        ("a:crm b:crm", "", "+ab", "ab", {}),
        ("a:phone b:phone c:phone", "ab", "+bc", "abc", {}),
        ("a:cookie@0 b:cookie@1 c:cookie@2", "ab", "+bc", "abc", {}),
        ("a:x b:x c:x d:x e:x f:x", "ab bc cd de", "+ef", "abcdef", {}),
        # but no denial
        ("a:x b:x c:x", "", "+ab +bc -ac", "ab c", {"bc": DENIED_AC}),
        ("a:x b:x c:x d:x", "ab cd", "-ac +bd", "ab cd", {"bd": DENIED_AC}),
        # the earlier of two words that cannot both hold
        ("a:x b:x c:x", "", "-ac +bc +ab", "a bc", {"ab": DENIED_AC}),
        # links are taken before what is allowed, and rules hold for them
        ("a:crm b:crm c:email d:x", "ac bd", "+ab", "abcd", {}),
        ("a:crm b:crm c:crm d:email", "cd", "+ab +bd", "abcd", {}),
        # a denial of what nothing would join changes nothing
        ("a:x b:x c:x", "ab", "-ac", "ab c", {}),
    ],
)
def test_words_of_operators_come_before_rules(
    text: str, links: str, words: str, expected: str, refused: dict[str, str]
) -> None:
    found = resolve(people(text, links, words), RULES)
    assert (groups(found), refusals(found)) == (expected, refused)


@pytest.mark.parametrize(
    ("text", "links", "words"),
    [
        ("a:crm b:crm", "ab", "+ab"),
        ("a:crm b:crm c:email", "ac bc", "+ab"),
        ("a:phone b:phone c:phone", "ab bc ac", "+bc"),
        ("a:x b:x c:x d:x e:x f:x", "ab bc cd de ef", "+ef"),
    ],
)
def test_link_whose_ends_an_operator_made_one_is_not_refused(
    text: str, links: str, words: str
) -> None:
    assert refusals(resolve(people(text, links, words), RULES)) == {}


@pytest.mark.parametrize(
    ("links", "words", "alone", "expected"),
    [
        ("ab bc", "", "b", "a b c"),
        ("ab bc ac", "", "b", "ac b"),
        ("ab", "", "ab", "a b c"),
        ("", "+ab", "b", "a b c"),
        ("ab", "-ab", "b", "a b c"),
    ],
)
def test_identity_that_is_alone_joins_no_one_and_its_links_are_not_decided_here(
    links: str, words: str, alone: str, expected: str
) -> None:
    found = resolve(people("a:x b:x c:x", links, words, alone), RULES)
    assert (groups(found), found.refused) == (expected, {})


@pytest.mark.parametrize("here", ["ab", "abc", "a"])
def test_links_and_words_to_those_who_are_not_members_are_left_out(here: str) -> None:
    everyone = people("a:x b:x c:x d:x e:x", "ab bd ad ce", "-bd +ae")
    found = resolve({name.encode(): everyone[name.encode()] for name in here}, RULES)
    assert (groups(found), found.refused) == (" ".join(["ab"[: len(here)], *here[2:]]), {})


ONE_OF_TWO = replace(RULES, max_identities=2)
"""Of two links to one identity the second is refused."""
Sight = tuple[int, bool, str]


def taken_first(kinds: tuple[str, str, str], sights: tuple[Sight, Sight]) -> str:
    """Which of two links with x, that of a or that of b; kinds are of a, b and x."""
    members = {name: Member(kind, 0) for name, kind in zip((b"a", b"b", b"x"), kinds, strict=True)}
    for name, (time, verified, event) in zip((b"a", b"b"), sights, strict=True):
        made = bond(members[name].kind, kinds[2], time, verified, event)
        members[name].bonds[b"x"] = members[b"x"].bonds[name] = made
    found = resolve(members, ONE_OF_TWO)
    (refused,) = refusals(found)
    assert found.joined != list(found.refused)
    return {"bx": "a", "ax": "b"}[refused]


OLD, NEW = (1, True, "e"), (2, True, "e")
UNVERIFIED = (1, False, "e")


@pytest.mark.parametrize(
    ("kinds", "sights", "first"),
    [
        # the link with the stronger weaker end, even if it is younger
        (("email", "cookie", "crm"), (NEW, OLD), "a"),
        (("phone", "email", "crm"), (OLD, NEW), "b"),
        # of equally strong weaker ends, that with the stronger end
        (("crm", "email", "cookie"), (NEW, OLD), "a"),
        (("phone", "email", "cookie"), (OLD, NEW), "b"),
        (("crm", "email", "phone"), ((2, False, "e"), OLD), "a"),
        # of equally strong ones, the verified
        (("email", "email", "crm"), (UNVERIFIED, NEW), "b"),
        (("email", "email", "crm"), (NEW, UNVERIFIED), "a"),
        # then the older
        (("email", "email", "crm"), (OLD, NEW), "a"),
        (("email", "email", "crm"), (NEW, OLD), "b"),
        # then by touchpoint
        (("email", "email", "crm"), ((1, True, "f"), (1, True, "e")), "b"),
        # then by identity
        (("email", "email", "crm"), (OLD, OLD), "a"),
    ],
)
def test_of_links_that_exclude_each_other_the_first_in_order_joins(
    kinds: tuple[str, str, str], sights: tuple[Sight, Sight], first: str
) -> None:
    assert taken_first(kinds, sights) == first


def test_of_a_link_that_its_ends_know_differently_the_stronger_bond_counts() -> None:
    members = people("a:email b:email x:crm", "ax bx")
    members[b"x"].bonds[b"b"] = bond("email", "crm", -1)
    assert refusals(resolve(members, ONE_OF_TWO)) == {"ax": "customer_full"}


@pytest.mark.parametrize("end", [b"a", b"b"])
def test_link_that_one_end_knows_joins_both(end: Token) -> None:
    members = people("a:x b:x", "ab")
    members[end].bonds.clear()
    assert groups(resolve(members, RULES)) == "ab"


@pytest.mark.parametrize("end", [b"a", b"c"])
@pytest.mark.parametrize(("words", "expected"), [("-ac", "ab c"), ("-ac +ac", "abc")])
def test_word_that_one_end_has_heard_holds(end: Token, words: str, expected: str) -> None:
    members = people("a:x b:x c:x", "ab bc", words)
    members[end].words.clear()
    assert groups(resolve(members, RULES)) == expected


@pytest.mark.parametrize(("late", "early"), [(b"a", b"c"), (b"c", b"a")])
@pytest.mark.parametrize(("words", "expected"), [("-ac +ac", "abc"), ("+ac -ac", "ab c")])
def test_of_words_that_reached_one_end_only_the_last_counts(
    late: Token, early: Token, words: str, expected: str
) -> None:
    """`early` has heard the first word only."""
    members = people("a:x b:x c:x", "ab bc", words)
    first, *_ = words.split()
    members[early].words[late] = Word(1, first[0] == "+", "ann", "", 1)
    assert groups(resolve(members, RULES)) == expected


@pytest.mark.parametrize(
    ("text", "links", "oldest"),
    [
        ("a:x@5 b:x@3 c:x@4", "ab bc", {"a": "b", "b": "b", "c": "b"}),
        ("c:x@5 b:x@5 d:x@5", "cb bd", {"b": "b", "c": "b", "d": "b"}),
        ("a:x@9 b:x@3", "", {"a": "a", "b": "b"}),
        ("a:x@4 b:x@3 c:x@2 d:x@1", "ab cd", {"a": "b", "b": "b", "c": "d", "d": "d"}),
        ("a:x@4 b:x@3 c:x@2 d:x@1", "ab cd ac", dict.fromkeys("abcd", "d")),
    ],
)
def test_customer_is_named_after_its_oldest_identity(
    text: str, links: str, oldest: dict[str, str]
) -> None:
    found = resolve(people(text, links), RULES)
    assert {key.decode(): name.decode() for key, name in found.customers.items()} == oldest


def test_nobody_is_nobody() -> None:
    assert resolve({}, RULES) == Resolution({}, {}, [])


def test_joined_are_the_links_that_joined_two_groups_in_order() -> None:
    found = resolve(people("a:email b:email c:email d:cookie e:crm", "ab de bc ca ae"), RULES)
    assert found.joined == [(b"a", b"e"), (b"a", b"b"), (b"b", b"c"), (b"d", b"e")]


@pytest.mark.parametrize(
    ("joined", "start_and_end", "path"),
    [
        ("ab bc cd", "ad", "ab bc cd"),
        ("ab bc cd", "da", "dc cb ba"),
        ("ab cb dc", "ad", "ab bc cd"),
        ("ab ac cd", "bd", "ba ac cd"),
        ("ab", "aa", ""),
        ("ab cd", "ad", ""),
        ("", "ab", ""),
        ("ab bc ac", "ac", "ac"),
    ],
)
def test_chain_leads_from_one_identity_to_the_other(
    joined: str, start_and_end: str, path: str
) -> None:
    found = chain(map(ends, joined.split()), *ends(start_and_end))
    assert [(one + other).decode() for one, other in found] == path.split()


LONG = [b"%05d" % n for n in range(5001)]


def long_chain(kind: str, apart_ms: int = 1, length: int = 5000) -> dict[Token, Member]:
    named = LONG[: length + 1]
    members = {token: Member(kind, apart_ms * (5000 - n)) for n, token in enumerate(named)}
    for time, (one, other) in enumerate(pairwise(named)):
        members[one].bonds[other] = bond(kind, kind, time)
    return members


def test_long_chain_is_one_customer_named_after_its_oldest_end() -> None:
    assert set(resolve(long_chain("x"), FREE).customers.values()) == {LONG[-1]}


def test_long_chain_leads_from_end_to_end() -> None:
    assert chain(resolve(long_chain("x"), FREE).joined, LONG[0], LONG[-1]) == [*pairwise(LONG)]


def test_long_chain_of_identities_far_apart_breaks_no_limit_of_a_window() -> None:
    rules = replace(FREE, kinds=KINDS)
    found = resolve(long_chain("cookie", 50, length=1000), rules)
    assert set(found.customers.values()) == {LONG[1000]}


def test_long_chain_is_cut_where_a_customer_would_be_too_large() -> None:
    found = resolve(long_chain("x"), RULES)
    sizes = Counter(found.customers.values())
    assert sorted(sizes.values()) == [1] + [5] * 1000
    assert {verdict.reason for verdict in found.refused.values()} == {Refused.CUSTOMER_FULL}


TOKENS = st.integers(0, 7).map(lambda n: b"%d" % n)
PAIRS = st.tuples(TOKENS, TOKENS).filter(lambda pair: pair[0] != pair[1])
BONDS = st.builds(
    Bond,
    st.tuples(st.integers(-2, 0), st.integers(-2, 0), st.booleans()),
    st.integers(0, 2),
    st.sampled_from("ef"),
)
WORDS = st.builds(
    Word, st.integers(1, 6), st.booleans(), st.just("ann"), st.just(""), st.integers(0, 1)
)


@st.composite
def everybody(draw: st.DrawFn, words: bool = True) -> dict[Token, Member]:
    """Any members; a link or a word may be known to one end only, and to strangers."""
    members = draw(
        st.dictionaries(
            TOKENS,
            st.builds(
                Member,
                st.sampled_from([*KINDS, "x"]),
                st.sampled_from((0, 1, 50, 100, 101)),
                st.just({}),
                st.just({}),
                st.sampled_from((False, False, False, True)),
            ),
            min_size=3,
        )
    )
    found = {
        identity: Member(each.kind, each.first_seen, {}, {}, each.alone)
        for identity, each in members.items()
    }
    for one, other in draw(st.lists(PAIRS, min_size=4, max_size=20)):
        if one in found:
            found[one].bonds[other] = draw(BONDS)
    for one, other in draw(st.lists(PAIRS, max_size=4 if words else 0)):
        if one in found:
            found[one].words[other] = draw(WORDS)
    return found


def shuffled(members: Mapping[Token, Member], data: st.DataObject) -> dict[Token, Member]:
    """The same, put in in another order."""
    found = {}
    for identity, each in data.draw(st.permutations(list(members.items()))):
        bonds = dict(data.draw(st.permutations(list(each.bonds.items()))))
        words = dict(data.draw(st.permutations(list(each.words.items()))))
        found[identity] = replace(each, bonds=bonds, words=words)
    return found


@given(everybody(), st.data())
def test_order_of_evidence_does_not_matter(
    members: dict[Token, Member], data: st.DataObject
) -> None:
    assert resolve(shuffled(members, data), RULES) == resolve(members, RULES)


@given(everybody())
def test_evidence_is_left_as_it_was(members: dict[Token, Member]) -> None:
    before = {
        identity: replace(each, bonds=dict(each.bonds), words=dict(each.words))
        for identity, each in members.items()
    }
    resolve(members, RULES)
    assert members == before


def broken(group: set[Token], members: Mapping[Token, Member], rules: Rules) -> Verdict | None:
    """The rule that a customer of these would break, said plainly."""
    if len(group) > rules.max_identities:
        return Verdict(Refused.CUSTOMER_FULL)
    for name in sorted({members[identity].kind for identity in group}):
        kind = rules.kind(name)
        seen = sorted(members[i].first_seen for i in group if members[i].kind == name)
        if kind.unique and len(seen) > 1:
            return Verdict(Refused.UNIQUE, name)
        if kind.limit:
            length = kind.limit.window_ms or 10**9
            for start in seen:
                if sum(start <= time < start + length for time in seen) > kind.limit.count:
                    return Verdict(Refused.LIMIT, name)
    return None


def words_of(members: Mapping[Token, Member]) -> dict[Pair, Word]:
    """The latest word on each pair of members."""
    latest: dict[Pair, Word] = {}
    for one, member in members.items():
        for other, word in member.words.items():
            if other in members:
                pair = pair_of(one, other)
                latest[pair] = max(word, latest.get(pair, word))
    return latest


def plainly(members: Mapping[Token, Member], rules: Rules) -> dict[Token, Token]:
    """Customers: link after link, every rule looked at anew."""
    bonds: dict[Pair, Bond] = {}
    for one, member in members.items():
        for other, made in member.bonds.items():
            if other in members:
                pair = pair_of(one, other)
                bonds[pair] = min(made, bonds.get(pair, made))
    words = words_of(members)
    denied = {pair for pair, word in words.items() if not word.allow}
    allowed = sorted((word.number, pair) for pair, word in words.items() if word.allow)
    order = [(pair, False) for _, pair in sorted((made, pair) for pair, made in bonds.items())]
    group = {identity: {identity} for identity in members}
    for (one, other), free in [*order, *((pair, True) for _, pair in allowed)]:
        if members[one].alone or members[other].alone:
            continue
        both = group[one] | group[other]
        apart = any(pair_of(a, b) in denied for a in group[one] for b in group[other])
        if group[one] != group[other] and not apart and (free or not broken(both, members, rules)):
            group |= dict.fromkeys(both, both)
    return {
        identity: min((members[i].first_seen, i) for i in its)[1] for identity, its in group.items()
    }


@given(everybody())
def test_customers_are_what_the_plain_definition_says(members: dict[Token, Member]) -> None:
    assert resolve(members, RULES).customers == plainly(members, RULES)


@given(everybody(words=False))
def test_no_customer_breaks_a_rule(members: dict[Token, Member]) -> None:
    customers = resolve(members, RULES).customers
    for name in customers.values():
        group = {identity for identity, customer in customers.items() if customer == name}
        assert broken(group, members, RULES) is None


@given(everybody())
def test_no_two_of_a_customer_were_denied(members: dict[Token, Member]) -> None:
    customers = resolve(members, RULES).customers
    for (one, other), word in words_of(members).items():
        assert word.allow or customers[one] != customers[other]


@given(everybody())
def test_every_link_is_refused_or_within_one_customer(members: dict[Token, Member]) -> None:
    found = resolve(members, RULES)
    for one, member in members.items():
        for other in member.bonds:
            if other in members and not (member.alone or members[other].alone):
                together = found.customers[one] == found.customers[other]
                assert together or pair_of(one, other) in found.refused


@given(everybody())
def test_refused_links_stand_between_customers(members: dict[Token, Member]) -> None:
    found = resolve(members, RULES)
    assert [pair for pair in found.refused if len({*map(found.customers.get, pair)}) == 1] == []


@given(everybody())
def test_joined_links_hold_each_customer_together_and_none_is_needless(
    members: dict[Token, Member],
) -> None:
    found = resolve(members, RULES)
    assert len(found.joined) == len(members) - len(set(found.customers.values()))
    for one, other in combinations(members, 2):
        together = found.customers[one] == found.customers[other]
        assert bool(chain(found.joined, one, other)) == together


@given(everybody(words=False), PAIRS, BONDS)
def test_where_no_rule_can_be_broken_a_link_more_never_splits(
    members: dict[Token, Member], pair: Pair, made: Bond
) -> None:
    before = resolve(members, FREE).customers
    if pair[0] in members:
        members[pair[0]].bonds[pair[1]] = made
    after = resolve(members, FREE).customers
    for one, other in combinations(members, 2):
        assert before[one] != before[other] or after[one] == after[other]


@given(everybody(words=False))
def test_where_no_rule_can_be_broken_nothing_is_refused(members: dict[Token, Member]) -> None:
    assert resolve(members, FREE).refused == {}
