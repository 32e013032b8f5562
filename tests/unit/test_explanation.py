"""Why two identities are one customer: the evidence around them is enough, and the answer right."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.customer_messages import customer_name
from touchstream.agents.explanation import WHY, Explanation, explain
from touchstream.agents.history import Said, Sight, judge_history, links_of, resolve_history
from touchstream.agents.judgement import Refused
from touchstream.agents.neighbourhood import gather, marked
from touchstream.agents.resolution import Resolution, Token, Word
from touchstream.agents.rules import UNIDENTIFIED, Kind, Limit, Rules
from touchstream.streams.errors import ConfigurationError

A, B, C, D, E, F = (bytes([n]) * 16 for n in range(1, 7))
KINDS = {
    "crm": Kind(90, unique=True),
    "email": Kind(60, limit=Limit(3)),
    "phone": Kind(50, max_links=2),
    "cookie": Kind(10, verified_only=True, channels=frozenset({"web"})),
}
RULES = Rules(KINDS, Kind(40), max_identities=5, max_component=6, max_identifiers=20)

tokens = st.integers(0, 11).map(lambda n: bytes([n]) * 16)
kinds = st.sampled_from([*KINDS, "other", UNIDENTIFIED])
known = st.dictionaries(tokens, st.tuples(kinds, st.integers(0, 9)), min_size=2)
channels = st.sampled_from(["web", "chat"])
flags = st.booleans()
sights = st.lists(
    st.tuples(tokens, tokens, channels, flags, flags, st.integers(0, 5), st.sampled_from("ab")),
    max_size=25,
)
words = st.lists(st.tuples(tokens, tokens, st.booleans()), max_size=5).map(
    lambda said: [(a, b, Word(n, allow, "ann", "", n)) for n, (a, b, allow) in enumerate(said, 1)]
)

marks = st.dictionaries(tokens, st.sampled_from([Refused.SHARED, Refused.ERASED]), max_size=2)


class Store:
    """Answers as the store in ClickHouse does, from plain evidence."""

    def __init__(
        self,
        identities: dict[Token, tuple[str, int]],
        seen: list[Sight],
        said: list[Said],
        customers: dict[Token, Token],
        marks: dict[Token, Refused] | None = None,
    ) -> None:
        self._marks = marks or {}
        self._identities, self._seen, self._customers = identities, seen, customers
        self._said = {frozenset((one, other)): (one, other, word) for one, other, word in said}
        self.asked: Counter[str] = Counter()

    def identities(self, tokens: Collection[str]) -> Iterator[tuple[str, str, int, str]]:
        for token in tokens:
            if (identity := bytes.fromhex(token)) in self._identities:
                name = customer_name(self._customers.get(identity, identity))
                yield token, *self._identities[identity], name

    def sights(self, tokens: Collection[str]) -> Iterator[Any]:
        self.asked.update(tokens)
        for one, other, *rest in self._seen:
            for end in (one, other):
                if end.hex() in tokens:
                    yield one.hex(), other.hex(), *rest

    def sorts_of_links(self, tokens: Collection[str]) -> Iterator[Any]:
        links = links_of(self._identities, self._seen)
        for token in tokens:
            for (one, other), how in links.items():
                if token == one.hex():
                    yield token, self._kind(one), self._kind(other), list(how), 1
                elif token == other.hex():
                    turned = [(channel, there, here) for channel, here, there in how]
                    yield token, self._kind(other), self._kind(one), turned, 1

    def words(self, tokens: Collection[str]) -> Iterator[Any]:
        for one, other, word in self._said.values():
            if {one.hex(), other.hex()} & set(tokens):
                ends = one.hex(), other.hex(), word.number, word.allow
                yield *ends, word.operator, word.note, word.said_at

    def marks(self, tokens: Collection[str]) -> Iterator[tuple[str, str]]:
        for token in tokens:
            if mark := self._marks.get(bytes.fromhex(token)):
                yield token, str(mark)

    def _kind(self, identity: Token) -> str:
        return self._identities[identity][0]


def sight(one: Token, other: Token, channel: str = "web", **how: Any) -> Sight:
    verified = how.get("verified", False)
    return one, other, channel, verified, verified, how.get("time", 1), how.get("event", "e")


def people(**kinds: str) -> dict[Token, tuple[str, int]]:
    tokens = dict(zip("abcdef", (A, B, C, D, E, F), strict=True))
    return {tokens[name]: (kind, time) for time, (name, kind) in enumerate(kinds.items())}


def whole(
    identities: dict[Token, tuple[str, int]],
    seen: list[Sight],
    said: list[Said],
    marks: dict[Token, Refused],
) -> Resolution:
    """Everybody's customer."""
    shared, erased = marked(marks)
    links = links_of(identities, seen)
    judged = judge_history(identities, links, said, RULES, shared=shared, erased=erased)
    return resolve_history(judged.members, RULES)


def explained(
    identities: dict[Token, tuple[str, int]],
    seen: list[Sight],
    said: list[Said] | None = None,
    marks: dict[Token, Refused] | None = None,
    *,
    ends: tuple[Token, Token],
) -> Explanation:
    customers = whole(identities, seen, said or [], marks or {}).customers
    store = Store(identities, seen, said or [], customers, marks)
    return explain(gather(store, ends, RULES), *ends, RULES)


@given(known, sights, words, marks, st.data())
def test_the_answer_is_that_of_the_whole_history(
    identities: dict[Token, tuple[str, int]],
    seen: list[Sight],
    said: list[Said],
    marks: dict[Token, Refused],
    data: st.DataObject,
) -> None:
    one, other = data.draw(st.permutations([*identities]))[:2]
    latest = {frozenset((a, b)): (a, b, word) for a, b, word in said}
    resolution = whole(identities, seen, [*latest.values()], marks)
    answer = explained(identities, seen, said, marks, ends=(one, other))
    assert answer.together == (resolution.customers[one] == resolution.customers[other])
    assert not [note for note in answer.notes if "view identities" in note]
    if answer.together:
        assert (answer.steps[0].identity, answer.steps[-1].other) == (one.hex(), other.hex())
        ends = zip(answer.steps, answer.steps[1:], strict=False)
        assert all(before.other == after.identity for before, after in ends)
        assert answer.obstacles == []
    else:
        assert answer.steps == []


def test_the_chain_says_where_each_link_was_seen() -> None:
    identities = people(a="crm", b="email", c="cookie")
    seen = [sight(A, B, "chat", time=5), sight(C, B, verified=True, time=9, event="login")]
    seen.append(sight(B, A, time=7))
    first, second = explained(identities, seen, ends=(A, C)).steps
    assert (first.kind, first.other_kind, first.seen, first.at) == ("crm", "email", "chat/e", 5)
    assert (second.kind, second.other_kind, second.seen) == ("email", "cookie", "web/login")
    assert (first.verified, second.verified) == (False, True)


def test_a_link_that_an_operator_allowed_says_so() -> None:
    identities = people(a="crm", b="email", c="crm")
    word = Word(4, True, "ann", "twice in the CRM", 77)
    answer = explained(identities, [sight(A, B), sight(B, C)], [(A, C, word)], ends=(A, C))
    assert answer.together
    assert [(step.seen, step.at) for step in answer.steps] == [("allowed by ann", 77)]
    assert [(remark.allow, remark.note) for remark in answer.words] == [(True, "twice in the CRM")]


def test_the_refused_link_between_two_customers_is_named() -> None:
    identities = people(a="crm", b="email", c="crm", d="email")
    seen = [sight(A, B), sight(C, D), sight(B, D, time=4), sight(A, D, time=6)]
    answer = explained(identities, seen, ends=(B, C))
    assert not answer.together
    reasons = [(each.identity, each.other, each.reason, each.detail) for each in answer.obstacles]
    assert reasons == [
        (B.hex(), D.hex(), "unique", "crm"),
        (A.hex(), D.hex(), "unique", "crm"),
    ]


def test_a_link_over_a_third_customer_is_found() -> None:
    identities = people(a="email", b="cookie", c="email")
    seen = [sight(A, B, verified=True), sight(B, C)]
    [obstacle] = explained(identities, seen, ends=(A, C)).obstacles
    assert (obstacle.identity, obstacle.other) == (B.hex(), C.hex())
    assert (obstacle.reason, obstacle.why) == ("unverified", WHY[Refused.UNVERIFIED])


def test_a_shared_identity_between_two_customers_is_named_and_not_walked_through() -> None:
    identities = people(a="email", b="phone", c="email", d="email", e="other")
    seen = [sight(A, B), sight(B, C), sight(D, B), sight(D, E)]
    store = Store(identities, seen, [], {E: D})
    found = gather(store, (A, C), RULES)
    assert found.shared == {B: 3}
    assert set(store.asked) == {A.hex(), C.hex()}
    answer = explain(found, A, C, RULES)
    ends = [(each.identity, each.other, each.reason) for each in answer.obstacles]
    assert ends == [(A.hex(), B.hex(), "shared"), (B.hex(), C.hex(), "shared")]
    [note] = answer.notes
    assert f"phone {B.hex()} is shared: it is linked to 3 others, 2 are allowed" in note


def test_a_denial_shows_the_refused_link_and_the_word() -> None:
    said = [(A, C, Word(4, False, "bob", "mother and son", 77))]
    identities = people(a="email", b="phone", c="email")
    answer = explained(identities, [sight(A, B), sight(B, C, time=5)], said, ends=(A, C))
    [obstacle] = answer.obstacles
    assert (obstacle.reason, obstacle.detail) == ("denied", f"{A.hex()} {C.hex()}")
    assert [(word.operator, word.allow) for word in answer.words] == [("bob", False)]


def test_what_an_operator_marked_is_not_walked_through_and_noted() -> None:
    identities = people(a="email", b="other", c="email")
    marks = {B: Refused.SHARED}
    answer = explained(identities, [sight(A, B), sight(B, C)], [], marks, ends=(A, C))
    assert [each.reason for each in answer.obstacles] == ["shared", "shared"]
    assert answer.notes == [f"an operator marked other {B.hex()} as shared"]


def test_without_any_link_there_is_nothing_to_show() -> None:
    answer = explained(people(a="email", b="email"), [], ends=(A, B))
    assert answer == Explanation(False, [], [], [], [])


def test_a_link_that_others_have_made_good_is_no_obstacle() -> None:
    identities = people(a="crm", b="email", c="crm")
    allowed = [(A, C, Word(4, True, "ann", "", 77))]
    answer = explained(identities, [sight(A, B), sight(B, C)], allowed, ends=(B, C))
    assert answer.together
    assert len(answer.steps) == 2


@pytest.mark.parametrize(
    ("shown", "said"), [({}, "shows two customers"), ({A: A, B: A, C: A}, "shows one customer")]
)
def test_what_clickhouse_shows_otherwise_is_noted(shown: dict[Token, Token], said: str) -> None:
    seen = [] if shown else [sight(A, B)]
    store = Store(people(a="email", b="email", c="email"), seen, [], shown)
    [note] = explain(gather(store, (A, B), RULES), A, B, RULES).notes
    assert said in note


def test_more_than_workers_decide_together_is_noted() -> None:
    identities = {bytes([n]) * 16: ("other", n) for n in range(8)}
    chain = [sight(bytes([n]) * 16, bytes([n + 1]) * 16) for n in range(7)]
    answer = explained(identities, chain, ends=(bytes(16), A))
    assert [note for note in answer.notes if "8 identities hang together" in note]


def test_too_large_a_neighbourhood_is_refused() -> None:
    identities = {bytes([n]) * 16: ("other", n) for n in range(8)}
    chain = [sight(bytes([n]) * 16, bytes([n + 1]) * 16) for n in range(7)]
    with pytest.raises(ConfigurationError, match="more than 5 identities"):
        gather(Store(identities, chain, [], {}), (bytes(16),), RULES, most=5)


def test_every_reason_has_a_sentence() -> None:
    assert list(WHY) == list(Refused)
