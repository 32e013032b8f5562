"""What a link is worth by itself: a bond as strong as its best sight, or why it joins no one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.judgement import Bond, Refused, Sights, is_shared, judge
from touchstream.agents.rules import UNIDENTIFIED, Kind, Rules

KINDS = {
    "crm": Kind(90),
    "email": Kind(60, channels=frozenset({"web", "chat"})),
    "phone": Kind(60, channels=frozenset({"chat", "phone"})),
    "badge": Kind(50, verified_only=True),
    "handle": Kind(40, max_links=3),
    "cookie": Kind(10, verified_only=True, channels=frozenset({"web"})),
}
RULES = Rules(KINDS, Kind(30, max_links=2), 5, 1000, 50)

CHANNEL, UNVERIFIED = Refused.CHANNEL, Refused.UNVERIFIED


def strength(found: Bond | Refused) -> tuple[int, int, bool] | Refused:
    return found.weakness if isinstance(found, Bond) else found


@pytest.mark.parametrize(
    ("kinds", "channel", "verified", "expected"),
    [
        # priorities of the weaker and the stronger end, negative
        (("crm", "email"), "web", (True, True), (-60, -90, False)),
        (("email", "crm"), "web", (True, True), (-60, -90, False)),
        (("crm", "crm"), "sms", (True, True), (-90, -90, False)),
        (("crm", "ticket"), "sms", (True, True), (-30, -90, False)),
        (("crm", "x_handle"), "sms", (True, True), (-40, -90, False)),
        (("crm", UNIDENTIFIED), "sms", (True, True), (-30, -90, False)),
        # unverified unless both ends were verified
        (("crm", "crm"), "sms", (True, False), (-90, -90, True)),
        (("crm", "crm"), "sms", (False, True), (-90, -90, True)),
        (("crm", "crm"), "sms", (False, False), (-90, -90, True)),
        # a channel must be one of both ends
        (("crm", "email"), "chat", (True, True), (-60, -90, False)),
        (("crm", "email"), "phone", (True, True), CHANNEL),
        (("email", "phone"), "chat", (True, True), (-60, -60, False)),
        (("email", "phone"), "web", (True, True), CHANNEL),
        (("email", "phone"), "phone", (True, True), CHANNEL),
        # the end that must be verified, not the other
        (("badge", "crm"), "sms", (True, False), (-50, -90, True)),
        (("badge", "crm"), "sms", (False, True), UNVERIFIED),
        (("crm", "badge"), "sms", (False, True), (-50, -90, True)),
        (("crm", "badge"), "sms", (True, False), UNVERIFIED),
        (("badge", "badge"), "sms", (True, False), UNVERIFIED),
        (("badge", "badge"), "sms", (False, True), UNVERIFIED),
        (("badge", "badge"), "sms", (True, True), (-50, -50, False)),
        # a channel that may not say it is said first
        (("cookie", "crm"), "sms", (False, False), CHANNEL),
        (("cookie", "crm"), "web", (False, False), UNVERIFIED),
        (("cookie", "badge"), "web", (True, True), (-10, -50, False)),
    ],
)
def test_one_sight(
    kinds: tuple[str, str],
    channel: str,
    verified: tuple[bool, bool],
    expected: tuple[int, int, bool] | Refused,
) -> None:
    assert strength(judge(*kinds, {(channel, *verified): (1, "e")}, RULES)) == expected


@pytest.mark.parametrize(
    ("kinds", "sights", "expected"),
    [
        # verified before older
        (
            ("crm", "crm"),
            {("web", False, True): (1, "a"), ("web", True, True): (5, "b")},
            Bond((-90, -90, False), 5, "web/b"),
        ),
        # the earliest of equally strong ones
        (
            ("crm", "crm"),
            {("web", True, True): (5, "a"), ("sms", True, True): (4, "b")},
            Bond((-90, -90, False), 4, "sms/b"),
        ),
        (
            ("crm", "crm"),
            {("web", True, False): (5, "a"), ("web", False, True): (4, "b")},
            Bond((-90, -90, True), 4, "web/b"),
        ),
        # of equally early ones the smaller touchpoint
        (
            ("crm", "crm"),
            {("web", True, True): (4, "a"), ("sms", True, True): (4, "b")},
            Bond((-90, -90, False), 4, "sms/b"),
        ),
        # a sight that does not count says nothing of the time
        (
            ("crm", "email"),
            {("phone", True, True): (1, "a"), ("web", True, True): (5, "b")},
            Bond((-60, -90, False), 5, "web/b"),
        ),
        (
            ("crm", "badge"),
            {("web", True, False): (1, "a"), ("web", False, True): (5, "b")},
            Bond((-50, -90, True), 5, "web/b"),
        ),
        # verified on a channel that may not say it, unverified on one that may
        (
            ("cookie", "crm"),
            {("sms", True, True): (1, "a"), ("web", False, True): (5, "b")},
            UNVERIFIED,
        ),
        (
            ("cookie", "crm"),
            {("sms", True, True): (1, "a"), ("chat", True, True): (2, "b")},
            CHANNEL,
        ),
        (("crm", "crm"), {}, CHANNEL),
    ],
)
def test_best_of_several_sights_counts(
    kinds: tuple[str, str], sights: Sights, expected: Bond | Refused
) -> None:
    assert judge(*kinds, sights, RULES) == expected


NAMES = st.sampled_from([*KINDS, "x_handle", "ticket", UNIDENTIFIED])
SIGHTS = st.dictionaries(
    st.tuples(st.sampled_from(("web", "chat", "phone", "sms")), st.booleans(), st.booleans()),
    st.tuples(st.integers(0, 3), st.sampled_from("ef")),
)


def turned(sights: Sights) -> Sights:
    return {(channel, other, one): seen for (channel, one, other), seen in sights.items()}


@given(NAMES, NAMES, SIGHTS)
def test_both_ends_come_to_the_same_judgement(one: str, other: str, sights: Sights) -> None:
    assert judge(one, other, sights, RULES) == judge(other, one, turned(sights), RULES)


@given(NAMES, NAMES, SIGHTS, SIGHTS)
def test_more_sights_make_no_link_weaker(
    one: str, other: str, sights: Sights, more: Sights
) -> None:
    before, after = (judge(one, other, known, RULES) for known in (sights, more | sights))
    if isinstance(before, Bond):
        assert isinstance(after, Bond) and after <= before


@given(NAMES, NAMES, SIGHTS, st.data())
def test_order_of_sights_does_not_matter(
    one: str, other: str, sights: Sights, data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(sights.items()))))
    assert judge(one, other, shuffled, RULES) == judge(one, other, sights, RULES)


@pytest.mark.parametrize(
    ("kind", "links", "expected"),
    [
        ("handle", 3, False),
        ("handle", 4, True),
        ("x_handle", 4, True),
        ("ticket", 2, False),
        ("ticket", 3, True),
        (UNIDENTIFIED, 3, True),
        ("crm", 50, False),
        ("crm", 51, True),
    ],
)
def test_identity_with_more_links_than_its_kind_may_have_is_shared(
    kind: str, links: int, expected: bool
) -> None:
    assert is_shared(kind, range(links), RULES) == expected


def test_bonds_sort_by_strength_then_time_then_touchpoint() -> None:
    ordered = [
        Bond((-60, -90, False), 9, "z"),
        Bond((-60, -90, True), 1, "a"),
        Bond((-60, -60, False), 1, "a"),
        Bond((-10, -90, False), 1, "a"),
        Bond((-10, -90, False), 1, "b"),
        Bond((-10, -90, False), 2, "a"),
    ]
    assert sorted([*ordered[3:], *ordered[:3]]) == ordered
