"""From an identifier as a channel wrote it to its token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from touchstream.agents.identifiers import (
    STRENGTH,
    TOKEN_BYTES,
    Tokens,
    identity_token,
    normalise,
    strength,
    tokens_of,
)
from touchstream.streams.settings import Settings

TOKENS = Tokens(b"key", "US")
KINDS = st.sampled_from([*STRENGTH, "ticket_id"])


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("email", " Ann@Example.COM ", "ann@example.com"),
        ("email", "\uff41nn@example.com", "ann@example.com"),  # a fullwidth letter
        ("email", "STRA\u00dfE@example.com", "strasse@example.com"),
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


def test_kinds_stand_from_strong_to_weak() -> None:
    ranks = [strength(kind) for kind in STRENGTH]
    assert ranks == sorted(set(ranks))


def test_handle_of_a_platform_is_as_strong_as_a_handle() -> None:
    assert strength("bluesky_handle") == strength("handle")


def test_unknown_kind_stands_before_device_and_cookie() -> None:
    assert strength("handle") < strength("ticket_id") < strength("device_id")
