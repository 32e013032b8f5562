"""What other rules would change, from plain evidence: customers, refused links, figures."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.archive import Archive
from touchstream.agents.customer_messages import customer_name
from touchstream.agents.dry_run import dry_run
from touchstream.agents.history import Said, Sight, judge_history, links_of, resolve_history
from touchstream.agents.resolution import Token, Word
from touchstream.agents.rules import Kind, Limit, Rules

A, B, C, D, E, F = (bytes([n]) * 16 for n in range(1, 7))
LOOSE = Rules({"email": Kind(60), "crm": Kind(90)}, Kind(10), 50, 100, 20)
UNIQUE = Rules({"email": Kind(60), "crm": Kind(90, unique=True)}, Kind(10), 50, 100, 20)
VERIFIED = Rules({"email": Kind(60, verified_only=True)}, Kind(10), 50, 100, 20)
KINDS = {"email": Kind(60), "crm": Kind(90, unique=True), "cookie": Kind(10, max_links=2)}
SMALL = Rules(KINDS, Kind(10, limit=Limit(2)), 4, 100, 20)

tokens = st.integers(0, 11).map(lambda n: bytes([n]) * 16)
kinds = st.sampled_from(["email", "crm", "cookie", "other"])
known = st.dictionaries(tokens, st.tuples(kinds, st.integers(0, 9)))
flags = st.booleans()
sights = st.lists(
    st.tuples(tokens, tokens, st.just("web"), flags, flags, st.integers(0, 5), st.just("e")),
    max_size=20,
)
words = st.lists(st.tuples(tokens, tokens, st.booleans()), max_size=4)


def archive_of(
    identities: dict[Token, tuple[str, int]],
    seen: list[Sight],
    said: list[Said] | None = None,
    figures: dict[Token, tuple[int, int, int, int]] | None = None,
    customers: dict[Token, Token] | None = None,
) -> Archive:
    archive = Archive()
    for token, (kind, first_seen) in identities.items():
        customer = customer_name((customers or {}).get(token, token))
        archive.add_identities([[token.hex()], [kind], [first_seen], [customer]])
    rows = [(one.hex(), other.hex(), *rest) for one, other, *rest in seen]
    archive.add_sights([*zip(*rows, strict=True)] or [()] * 7)
    archive.add_words(said or [])
    for token, numbers in (figures or {}).items():
        archive.add_figures([[token.hex()], *([number] for number in numbers)])
    return archive


def sight(one: Token, other: Token, verified: bool = False, time: int = 1) -> Sight:
    return one, other, "web", verified, verified, time, "e"


def crm_people() -> Archive:
    """Two numbers of the CRM that share an address, and a cookie of one of them."""
    identities = {A: ("crm", 1), B: ("crm", 2), C: ("email", 3), D: ("cookie", 4), E: ("email", 5)}
    seen = [sight(A, C, time=1), sight(B, C, time=2), sight(D, B)]
    figures = {A: (3, 1, 100_000, 0), B: (2, 2, 55_000, 1), D: (4, 0, 0, 0), E: (1, 0, 0, 2)}
    return archive_of(identities, seen, figures=figures, customers={B: A, C: A, D: A})


def test_a_customer_that_the_new_rules_forbid_would_split() -> None:
    report = dry_run(crm_people(), LOOSE, UNIQUE)
    assert (report.identities, report.split, report.split_into) == (5, 1, 2)
    assert (report.joined, report.joined_into, report.moved) == (0, 0, 2)
    assert (report.now.refused, report.then.refused) == ({}, {"unique": 1})


def test_headline_figures_follow_the_customers() -> None:
    report = dry_run(crm_people(), LOOSE, UNIQUE)
    assert msgspec.structs.asdict(report.now.figures) == {
        "customers": 2,
        "customers_with_touchpoints": 2,
        "buyers": 1,
        "repeat_buyers": 1,
        "repeat_rate": 1.0,
        "orders_per_buyer": 3.0,
        "revenue_per_buyer": 15.5,
        "contacts_per_customer": 1.5,
    }
    assert msgspec.structs.asdict(report.then.figures) == {
        "customers": 3,
        "customers_with_touchpoints": 3,
        "buyers": 2,
        "repeat_buyers": 1,
        "repeat_rate": 0.5,
        "orders_per_buyer": 1.5,
        "revenue_per_buyer": 7.75,
        "contacts_per_customer": 1.0,
    }


def test_customers_that_the_new_rules_put_together_would_join() -> None:
    identities = {A: ("email", 1), B: ("email", 2), C: ("email", 3), D: ("email", 4)}
    archive = archive_of(identities, [sight(A, B), sight(B, C), sight(C, D, verified=True)])
    report = dry_run(archive, VERIFIED, LOOSE)
    assert (report.joined, report.joined_into, report.moved) == (3, 1, 3)
    assert (report.split, report.now.refused, report.then.refused) == (0, {"unverified": 2}, {})
    [example] = report.joins
    assert example.customer == customer_name(A)
    groups = [
        (group.customer, [token for token, _ in group.identities]) for group in example.groups
    ]
    assert groups == [
        (customer_name(A), [A.hex()]),
        (customer_name(B), [B.hex()]),
        (customer_name(C), [C.hex(), D.hex()]),
    ]


def test_examples_are_the_largest_and_are_cut_short() -> None:
    identities = {bytes([n]) * 16: ("email", n) for n in range(100)}
    seen = []
    for start, size in ((0, 10), (20, 3), (30, 4), (40, 2), (50, 5)):
        numbers = range(start, start + size)
        seen += [sight(bytes([start]) * 16, bytes([n]) * 16) for n in numbers if n > start]
    report = dry_run(archive_of(identities, seen), LOOSE, VERIFIED)
    assert report.split == 5
    names = [customer_name(bytes([start]) * 16) for start in (0, 50, 30)]
    assert [example.customer for example in report.splits] == names
    joined = dry_run(archive_of(identities, seen), LOOSE, LOOSE)
    assert (joined.split, joined.splits, joined.joins) == (0, [], [])


def test_a_group_of_an_example_says_how_many_more_there_are() -> None:
    identities = {bytes([n]) * 16: ("email", n) for n in range(11)}
    hub = bytes(16)
    seen = [sight(hub, token, verified=True) for token in [*identities][1:10]]
    archive = archive_of(identities, [*seen, sight(hub, bytes([10]) * 16)])
    [example] = dry_run(archive, LOOSE, VERIFIED).splits
    assert [(len(group.identities), group.more) for group in example.groups] == [(6, 4), (1, 0)]


def test_identities_that_stand_elsewhere_in_the_table_are_counted() -> None:
    identities = {A: ("email", 1), B: ("email", 2), C: ("email", 3)}
    archive = archive_of(identities, [sight(A, B)], customers={C: A})
    assert dry_run(archive, LOOSE, VERIFIED).behind == 2


@pytest.mark.parametrize("allow", [True, False])
def test_words_of_operators_count_under_both_rules(allow: bool) -> None:
    identities = {A: ("email", 1), B: ("email", 2)}
    said = [(A, B, Word(1, allow, "ann", "", 1))]
    seen = [] if allow else [sight(A, B, verified=True)]
    report = dry_run(archive_of(identities, seen, said), LOOSE, VERIFIED)
    denied = {} if allow else {"denied": 1}
    assert (report.now.refused, report.then.refused) == (denied, denied)
    assert report.now.figures.customers == (1 if allow else 2)


def test_marks_of_operators_count_under_both_rules() -> None:
    identities = {A: ("email", 1), B: ("email", 2), C: ("email", 3)}
    archive = archive_of(identities, [sight(A, B), sight(A, C)])
    archive.shared, archive.erased = {B}, {C}
    report = dry_run(archive, LOOSE, UNIQUE)
    assert report.now.refused == report.then.refused == {"shared": 1, "erased": 1}
    assert report.now.figures.customers == 3


def test_what_names_an_unknown_identity_is_left_out() -> None:
    said = [(A, F, Word(1, True, "ann", "", 1))]
    archive = archive_of({A: ("email", 1)}, [sight(A, F)], said, {F: (9, 9, 9, 9)})
    report = dry_run(archive, LOOSE, UNIQUE)
    assert report.now.figures.customers == 1
    assert report.now.figures.customers_with_touchpoints == 0
    assert report.now.figures.repeat_rate is None


def test_an_empty_history_has_an_empty_report() -> None:
    report = dry_run(Archive(), LOOSE, UNIQUE)
    assert (report.identities, report.now.figures.customers, report.then.refused) == (0, 0, {})


def test_a_report_is_plain_json() -> None:
    report = dry_run(crm_people(), LOOSE, UNIQUE)
    found: dict[str, Any] = json.loads(msgspec.json.encode(report))
    assert found["then"]["figures"]["customers"] == 3
    assert found["splits"][0]["groups"][0]["identities"] == [[A.hex(), "crm"], [C.hex(), "email"]]


@given(known, sights, words, st.sampled_from([(LOOSE, SMALL), (SMALL, VERIFIED)]))
def test_the_report_is_that_of_two_whole_resolutions(
    identities: dict[Token, tuple[str, int]],
    seen: list[Sight],
    said: list[tuple[Token, Token, bool]],
    rules: tuple[Rules, Rules],
) -> None:
    numbered = [(a, b, Word(n, allow, "ann", "", n)) for n, (a, b, allow) in enumerate(said)]
    report = dry_run(archive_of(identities, seen, numbered), *rules)
    customers = []
    for side, each in zip((report.now, report.then), rules, strict=True):
        members, refused = judge_history(identities, links_of(identities, seen), numbered, each)
        resolution = resolve_history(members, each)
        customers.append(resolution.customers)
        assert side.figures.customers == len(set(resolution.customers.values()))
        still = [
            pair
            for pair in resolution.refused
            if resolution.customers[pair[0]] != resolution.customers[pair[1]]
        ]
        assert sum(side.refused.values()) == len(refused) + len(still)
    now, then = customers
    assert report.moved == sum(now[identity] != then[identity] for identity in identities)
    pairs = {(now[identity], then[identity]) for identity in identities}
    assert (report.split, report.split_into) == several([one for one, _ in pairs])
    assert (report.joined_into, report.joined) == several([other for _, other in pairs])
    assert report.behind == sum(now[identity] != identity for identity in identities)


def several(customers: list[Token]) -> tuple[int, int]:
    """How many stand there more than once, and how often they do together."""
    numbers = [customers.count(each) for each in set(customers) if customers.count(each) > 1]
    return len(numbers), sum(numbers)
