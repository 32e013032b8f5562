"""Random evidence, words and rules, in any order, over partitions that crash: always `resolve`."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identity_graph import Graph, Seen

from touchstream.agents.evidence import Mark
from touchstream.agents.history import Judged, judge_history, links_of, resolve_history
from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Resolution, Token, Word
from touchstream.agents.rules import Kind, Limit, Rules

KINDS = ("crm_id", "email", "phone", "badge", "device_id")
CHANNELS = ("web", "chat", "phone")
MOST_RECORDS = 100_000
PROPERTY = settings(
    max_examples=800,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def token(kind: str, number: int) -> Token:
    return blake2b(f"{kind}{number}".encode(), digest_size=16).digest()


@dataclass
class Said:
    one: Token
    other: Token
    word: Word


@dataclass
class Marked:
    identity: Token
    mark: Mark


@dataclass
class Ruled:
    number: int
    rules: Rules


Event = Seen | Said | Marked | Ruled
KIND_RULES = st.builds(
    Kind,
    priority=st.integers(1, 9),
    unique=st.sampled_from((False, False, False, True)),
    limit=st.sampled_from((None, None, Limit(2, 300), Limit(3))),
    verified_only=st.sampled_from((False, False, False, False, True)),
    channels=st.sampled_from((None, None, None, frozenset({"web", "chat"}))),
    max_links=st.sampled_from((3, 6, 50)),
)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    kinds = {kind: draw(KIND_RULES) for kind in KINDS if kind != "badge"}
    return Rules(kinds, draw(KIND_RULES), draw(st.sampled_from((4, 10, 200))), 1000, 50)


@st.composite
def touches(draw: st.DrawFn) -> list[Seen]:
    """People are seen with some of their identifiers, and now and then with a stranger's."""
    people = draw(st.sampled_from((2, 4, 12)))
    numbers = st.lists(
        st.tuples(
            st.integers(0, people - 1),
            st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
            st.sampled_from((None, None, None, None, None, *KINDS)),
            st.integers(0, 2**16),
        ),
        min_size=1,
        max_size=25,
    )
    found = []
    for n, (person, kinds, strange, dice) in enumerate(draw(numbers)):
        rng = random.Random(dice)
        identities = {token(kind, person): kind for kind in kinds}
        if strange:
            identities[token(strange, rng.randrange(people))] = strange
        ordered = sorted(identities.items(), key=lambda item: (KINDS.index(item[1]), item[0]))
        shown = [(kind, each, rng.random() < 0.7) for each, kind in ordered]
        found.append(Seen(shown, rng.choice(CHANNELS), f"e{n}", rng.randrange(1000)))
    return found


@st.composite
def words(draw: st.DrawFn) -> list[Said]:
    identity = st.builds(token, st.sampled_from(KINDS), st.integers(0, 3))
    pairs = st.lists(st.tuples(identity, identity, st.booleans()), max_size=4)
    return [
        Said(one, other, Word(number, allow, "ann", "", number))
        for number, (one, other, allow) in enumerate(draw(pairs), 1)
        if one != other
    ]


@st.composite
def marks(draw: st.DrawFn) -> list[Marked]:
    identity = st.builds(token, st.sampled_from(KINDS), st.integers(0, 3))
    found = st.lists(st.tuples(identity, st.booleans()), max_size=3)
    return [
        Marked(each, Mark(number, Refused.SHARED if shared else None, "ann", "", number))
        for number, (each, shared) in enumerate(draw(found), 50)
    ]


def run(first: Rules, events: list[Event], seed: int, crash_rate: float = 0.1) -> Graph:
    """Publish events in this order while partitions work in a random one."""
    rng = random.Random(seed)
    graph = Graph(first, rng.choice((1, 2, 3, 8)), rng, crash_rate)
    for event in events:
        match event:
            case Seen():
                graph.see(event)
            case Said():
                graph.say(event.one, event.other, event.word)
            case Marked():
                graph.mark(event.identity, event.mark)
            case Ruled():
                graph.rule(event.number, event.rules)
        for _ in range(rng.choice((0, 0, 1, 3))):
            graph.step(rng.randrange(graph.partitions))
    graph.drain(MOST_RECORDS)
    return graph


def judged_of(
    seen: list[Seen], said: list[Said], final: Rules, marked: Sequence[Marked] = ()
) -> Judged:
    """The whole evidence, judged at once."""
    identities: dict[Token, tuple[str, int]] = {}
    sights = []
    for touch in seen:
        for kind, each, _ in touch.identities:
            known = identities.get(each, (kind, touch.time))
            identities[each] = (kind, min(touch.time, known[1]))
        (_, one, verified), *others = touch.identities
        for _, other, other_verified in others:
            how = (touch.channel, verified, other_verified)
            sights.append((one, other, *how, touch.time, touch.event_id))
    spoken = [(each.one, each.other, each.word) for each in said]
    last = {each.identity: each.mark.reason for each in marked}
    shared = {identity for identity, reason in last.items() if reason}
    return judge_history(identities, links_of(identities, sights), spoken, final, shared=shared)


def resolved(
    seen: list[Seen], said: list[Said], final: Rules, marked: Sequence[Marked] = ()
) -> tuple[Resolution, dict[tuple[str, str], str]]:
    """What `resolve` says of the whole evidence, and all refused links with their reasons."""
    judged = judged_of(seen, said, final, marked)
    members, found = judged.members, resolve_history(judged.members, final)
    # Which end keeps a link between two that are shared depends on who was shared first, and a word
    # on a pair is shown in place of its link.
    refused = {
        (one.hex(), other.hex()): str(verdict.reason)
        for (one, other), verdict in (judged.refused | found.refused).items()
        if not (members[one].alone and members[other].alone) and other not in members[one].words
    }
    return found, refused


def check(
    graph: Graph,
    seen: list[Seen],
    said: list[Said],
    final: Rules,
    marked: Sequence[Marked] = (),
) -> None:
    found, refused = resolved(seen, said, final, marked)
    assert graph.customers() == found.customers
    assert graph.written() == {i.hex(): "c" + c.hex() for i, c in found.customers.items()}
    both = {pair: reason for pair, reason in graph.refused().items() if pair in refused}
    assert both == refused


def shuffled(events: list[Event], seed: int) -> list[Event]:
    """In another order, some of them twice."""
    rng = random.Random(seed)
    found = events + rng.sample(events, len(events) // 3)
    rng.shuffle(found)
    return found


@PROPERTY
@given(rules(), touches(), words(), marks(), st.integers(0, 2**32))
def test_any_order_gives_what_resolve_says_of_everything(
    first: Rules, seen: list[Seen], said: list[Said], marked: list[Marked], seed: int
) -> None:
    graph = run(first, shuffled([*seen, *said, *marked], seed), seed)
    check(graph, seen, said, first, marked)


@PROPERTY
@given(
    st.lists(rules(), min_size=2, max_size=3), touches(), words(), marks(), st.integers(0, 2**32)
)
def test_rules_that_were_applied_later_are_as_if_they_had_held_from_the_start(
    ruled: list[Rules], seen: list[Seen], said: list[Said], marked: list[Marked], seed: int
) -> None:
    first, *later = ruled
    applied = [Ruled(number, each) for number, each in enumerate(later, 100)]
    graph = run(first, shuffled([*seen, *said, *marked, *applied], seed), seed)
    check(graph, seen, said, later[-1], marked)


@settings(PROPERTY, max_examples=400)
@given(rules(), touches(), st.integers(0, 999))
def test_allowing_what_was_denied_restores_all_customers(
    first: Rules, seen: list[Seen], seed: int
) -> None:
    found, _ = resolved(seen, [], first)
    one, other = next(
        (pair for pair in found.joined if found.customers[pair[0]] == found.customers[pair[1]]),
        (b"", b""),
    )
    if not one:
        return
    graph = run(first, [*seen], seed)
    before = graph.customers()
    graph.say(one, other, Word(1, False, "ann", "", 0))
    graph.drain(MOST_RECORDS)
    apart = graph.customers()
    assert apart[one] != apart[other]
    graph.say(other, one, Word(2, True, "ann", "", 0))
    graph.drain(MOST_RECORDS)
    assert graph.customers() == before


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_decided_together_that_rules_do_not_allow(seed: int) -> None:
    """Above the bound the order matters, but the bound holds and every link is kept."""
    rng = random.Random(seed)
    kind = Kind(5)
    most = Rules({}, kind, 6, 8, 50)
    seen = [
        Seen(
            [("email", token("e", n), True), ("email", token("e", rng.randrange(60)), True)],
            "web",
            f"e{n}",
            n,
        )
        for n in range(60)
        if n != 0
    ]
    seen = [each for each in seen if each.identities[0] != each.identities[1]]
    graph = run(most, [*seen], seed)
    sizes = Counter(graph.customers().values())
    assert max(sizes.values()) <= 6
    assert graph.largest_component() <= 8
    links = {frozenset((each.identities[0][1], each.identities[1][1])) for each in seen}
    refused = {frozenset(map(bytes.fromhex, pair)) for pair in graph.refused()}
    customers = graph.customers()
    for link in links:
        one, other = link
        assert (customers[one] == customers[other]) or link in refused
