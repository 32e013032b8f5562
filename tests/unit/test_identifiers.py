"""From an identifier as a channel wrote it to its token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from touchstream.agents.identifiers import (
    NOTHING,
    TOKEN_BYTES,
    Identifiers,
    Reading,
    Tokens,
    identity_token,
    normalise,
    rules_name,
    strength,
    tokens_of,
)
from touchstream.agents.rules import Kind, Rules
from touchstream.agents.rules_file import default_rules
from touchstream.streams.settings import Settings

TOKENS = Tokens(b"key", "US")
BY_STRENGTH = [
    "crm_id",
    "user_id",
    "loyalty_id",
    "national_id",
    "email",
    "phone",
    "handle",
    "ticket_id",  # any other kind
    "device_id",
    "anonymous_id",
]
KINDS = st.sampled_from(BY_STRENGTH)
DEFAULT = Identifiers(TOKENS, default_rules())


def rules(**kinds: Kind) -> Rules:
    """Rules of these kinds; all values called `nobody` are junk."""
    return Rules(kinds, Kind(0), 200, 1000, 50, frozenset({"nobody"}), ("x+",))


def read(kind: str, value: str, platform: str | None = None, **kinds: Kind) -> Reading:
    return Identifiers(TOKENS, rules(**kinds)).read(kind, value, platform)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("email", " Ann@Example.COM ", "ann@example.com"),
        ("email", "\uff41nn@example.com", "ann@example.com"),  # a fullwidth letter
        ("email", "STRA\u00dfE@example.com", "strasse@example.com"),
        ("email", "A.nn.Lee@gmail.com", "annlee@gmail.com"),
        ("email", "ann.lee@GoogleMail.com", "annlee@gmail.com"),
        ("email", "ann.lee+shop@gmail.com", "annlee+shop@gmail.com"),
        ("email", "ann.lee@example.com", "ann.lee@example.com"),
        ("email", "ann.lee@gmail.com.example", "ann.lee@gmail.com.example"),
        ("email", "a.nn", "a.nn"),
        ("phone", "+1 (212) 555-0123", "+12125550123"),
        ("phone", "212-555-0123", "+12125550123"),
        ("phone", "+44 20 7946 0018", "+442079460018"),
        ("phone", "\uff0b442079460018", "+442079460018"),  # a fullwidth plus sign
        ("phone", " nobody ", "nobody"),
        ("handle", "@Ann", "ann"),
        ("bluesky_handle", " @Ann ", "ann"),
        ("crm_id", " Ab-1 ", "Ab-1"),
        ("crm_id", "\uff11\uff12", "12"),  # fullwidth digits
        ("device_id", "@X", "@X"),
        ("crm_id", "\u3000", ""),  # an ideographic space
        ("handle", "@", ""),
    ],
)
def test_one_spelling(kind: str, value: str, expected: str) -> None:
    assert normalise(kind, value, "US") == expected


@pytest.mark.parametrize(("region", "expected"), [("US", "+12079460018"), ("GB", "+442079460018")])
def test_phone_without_country_code_is_of_the_region(region: str, expected: str) -> None:
    number = "2079460018" if region == "US" else "020 7946 0018"
    assert normalise("phone", number, region) == expected


@given(KINDS, st.text(max_size=20))
def test_normalising_twice_changes_nothing(kind: str, value: str) -> None:
    once = normalise(kind, value, "US")
    if kind not in ("handle", "phone"):  # "@@ann" loses a sign each time
        assert normalise(kind, once, "US") == once


@given(KINDS, st.text(max_size=20))
def test_token_is_empty_only_without_a_value(kind: str, value: str) -> None:
    size = len(TOKENS.token(kind, value))
    assert size == (TOKEN_BYTES if normalise(kind, value, "US") else 0)


def test_spellings_of_one_identifier_share_a_token() -> None:
    assert TOKENS.token("email", "ANN@example.com") == TOKENS.token("email", "ann@example.com ")


def test_same_text_of_another_kind_is_another_identity() -> None:
    assert TOKENS.token("crm_id", "17") != TOKENS.token("loyalty_id", "17")


def test_kind_and_value_do_not_run_into_each_other() -> None:
    assert TOKENS.token("ab", "c") != TOKENS.token("a", "bc")


def test_tokens_of_another_key_are_others() -> None:
    assert TOKENS.token("crm_id", "17") != Tokens(b"other", "US").token("crm_id", "17")


def test_key_longer_than_the_hash_takes_counts_to_its_end() -> None:
    one, other = (Tokens(b"k" * 200 + end, "US") for end in (b"1", b"2"))
    assert one.token("crm_id", "17") != other.token("crm_id", "17")


def test_token_is_the_same_in_every_process() -> None:
    assert TOKENS.token("crm_id", "17").hex() == "fe99f05ee8726320f18b7a3bbd581772"


def test_asking_twice_gives_the_same_token() -> None:
    assert TOKENS.token("crm_id", "17") == TOKENS.token("crm_id", "17")


def test_identity_token_is_the_settings_token_in_hexadecimal() -> None:
    settings = Settings(identity_key=SecretStr("secret"), default_region="GB")
    expected = Tokens(b"secret", "GB").token("phone", "020 7946 0018").hex()
    assert identity_token("phone", "020 7946 0018", settings) == expected
    assert tokens_of(settings).token("phone", "+442079460018").hex() == expected


def test_token_follows_the_normaliser_of_the_rules() -> None:
    folding = rules(ticket_id=Kind(1, "handle"))
    assert TOKENS.token("ticket_id", "@AB", folding) == TOKENS.token("ticket_id", "ab", folding)
    assert TOKENS.token("ticket_id", "@AB") != TOKENS.token("ticket_id", "ab")


def test_unidentified_touchpoints_of_equal_ids_on_two_channels_are_two() -> None:
    assert TOKENS.unidentified("web", "1") != TOKENS.unidentified("chat", "1")


def test_kinds_stand_from_strong_to_weak() -> None:
    ranks = [strength(kind, default_rules()) for kind in BY_STRENGTH]
    assert ranks == sorted(set(ranks))


def test_handle_of_a_platform_is_as_strong_as_a_handle() -> None:
    found = {strength(kind, default_rules()) for kind in ("bluesky_handle", "handle")}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("kind", "named", "expected"),
    [
        ("email", ["email", "handle"], "email"),
        ("bluesky_handle", ["handle"], "handle"),
        ("bluesky_handle", ["handle", "bluesky_handle"], "bluesky_handle"),
        ("bluesky_handle", ["email"], "other"),
        ("handlebar", ["handle"], "other"),
        ("ticket_id", ["handle"], "other"),
    ],
)
def test_kind_is_known_to_the_rules_by_one_of_their_names(
    kind: str, named: list[str], expected: str
) -> None:
    assert rules_name(kind, rules(**dict.fromkeys(named, Kind(0)))) == expected


def test_reading_holds_token_kind_and_strength() -> None:
    token = TOKENS.token("email", "ann@example.com")
    found = read("email", " Ann@Example.com", email=Kind(7, "email"))
    assert found == Reading(-7, token, "email")


def test_readings_sort_the_strongest_first() -> None:
    found = [read(kind, "1", strong=Kind(9), weak=Kind(-9)) for kind in ("weak", "any", "strong")]
    assert [reading.kind for reading in sorted(found)] == ["strong", "any", "weak"]


@pytest.mark.parametrize("kind", ["crm_id", " CRM_ID "])
def test_kinds_are_folded(kind: str) -> None:
    assert read(kind, "17") == read("crm_id", "17")


def test_handle_is_read_as_one_of_its_platform() -> None:
    assert read("handle", "@ann", "Mastodon") == read("mastodon_handle", "@ann")


def test_platform_changes_no_other_kind() -> None:
    assert read("email", "ann@example.com", "mastodon").kind == "email"


@pytest.mark.parametrize(("kind", "value"), [("", "17"), (" ", "17"), ("crm_id", " ")])
def test_nothing_is_read_without_kind_or_value(kind: str, value: str) -> None:
    assert read(kind, value) == NOTHING


@pytest.mark.parametrize("value", ["nobody", " Nobody", "NOBODY", "xx", "X"])
def test_general_junk_is_junk_of_every_kind(value: str) -> None:
    assert read("crm_id", value, crm_id=Kind(1)) == Reading(0, b"", "crm_id", "crm_id")
    assert read("ticket_id", value) == Reading(0, b"", "ticket_id", "other")


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [("phone", "+1 212 555 0123", "phone"), ("phone", "555", ""), ("fax", "(212) 555-0123", "")],
)
def test_junk_text_of_a_kind_holds_in_any_spelling_and_for_no_other(
    kind: str, value: str, name: str
) -> None:
    phone = Kind(1, "phone", junk_texts=frozenset({"212.555.0123"}))
    assert read(kind, value, phone=phone).junk == name


def test_junk_pattern_holds_for_the_normalised_value_in_full() -> None:
    email = Kind(1, "email", junk_patterns=("no.?reply@.*",))
    values = ["NoReply@example.com", "not-noreply@example.com"]
    assert [bool(read("email", value, email=email).junk) for value in values] == [True, False]


JUNK = [
    *(("crm_id", text) for text in ("0", "000", "-", "...", "?", "-1", "\u200b", "")),
    *(("user_id", text) for text in ("null", "NULL", "None", "undefined", "NaN", "N/A", " test ")),
    *(("user_id", text) for text in ("[object Object]", "{{user_id}}", "${id}", "aaaa", "XXXXXX")),
    *(("loyalty_id", text) for text in ("1111111", "true", "guest", "(not set)")),
    ("national_id", "078-05-1120"),
    *(("email", text) for text in ("ann", "@example.com", "ann@", "test@example.com", "none")),
    *(
        ("email", text)
        for text in ("NoReply@example.com", "no-reply@shop.example", "unknown@x.org")
    ),
    *(("phone", text) for text in ("12345", "unknown", "Anonymous", "Restricted", "+266696687")),
    *(("phone", text) for text in ("0000000000", "(999) 999-9999", "123-456-7890", "private")),
    *(("device_id", text) for text in ("00000000-0000-0000-0000-000000000000", "9774D56D682E549C")),
    ("anonymous_id", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
    ("bluesky_handle", "@unknown"),
    ("ticket_id", "n/a"),
]
GOOD = [
    *(("crm_id", text) for text in ("1", "1111", "10", "aaa", "00017", "-17")),
    *(("user_id", text) for text in ("nullius", "testa", "ann", "true-love")),
    *(("email", text) for text in ("ann@example.com", "reply@example.com", "tester@example.com")),
    *(("phone", text) for text in ("+1 212 555 0123", "020 7946 0018", "555 1234")),
    ("device_id", "3f2b8c1e-5a3d-4c1e-9f00-b7a1c2d3e4f5"),
    ("anonymous_id", "b7f1"),
    ("bluesky_handle", "@ann.bsky.social"),
]


@pytest.mark.parametrize(("kind", "value"), JUNK)
def test_default_rules_know_what_identifies_no_one(kind: str, value: str) -> None:
    assert DEFAULT.read(kind, value, None).token == b""


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_default_rules_leave_good_values_alone(kind: str, value: str) -> None:
    assert DEFAULT.read(kind, value, None).token
