"""Every reason for a dead letter, and what becomes of a touchpoint that is accepted."""

from typing import Any

import pytest

from touchstream.agents.identifiers import tokens_of
from touchstream.agents.ingest import Ingest, channel_fields, handling_ms, identities
from touchstream.agents.messages import Touch, decode_identity
from touchstream.streams.codec import TouchpointCodec, framing
from touchstream.streams.dead_letters import KEPT_BYTES, Reason
from touchstream.streams.internal import unframe
from touchstream.streams.records import Message, Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.tables import DEAD_LETTERS
from touchstream.streams.topics import (
    CHANNELS,
    DAY_MS,
    DEAD_LETTER,
    IDENTITY,
    partition_of,
    touchpoint_topic,
)

SETTINGS = Settings(
    max_payload_bytes=4096, horizon_past_days=30, horizon_future_seconds=60, default_region="US"
)
CODEC = TouchpointCodec(max_payload_bytes=1 << 20)
TOKENS = tokens_of(SETTINGS)
INGEST = Ingest(TouchpointCodec(max_payload_bytes=4096), TOKENS, SETTINGS)
NOW_MS = 1_700_000_000_000
SOURCE, PARTITIONS = 5, 3
Touchpoint = dict[str, Any]


def identifier(kind: str, value: str) -> dict[str, Any]:
    return {"kind": kind, "value": value, "verified": False}


ANN = identifier("email", "ann@example.com")
SMALL: Touchpoint = {
    "event_id": "e1",
    "occurred_at": NOW_MS,
    "action": "page_viewed",
    "identifiers": [ANN],
}


def encoded(channel: str, **fields: Any) -> bytes:
    return CODEC.encode(channel, {**SMALL, **fields})


def record(channel: str, value: bytes | None, offset: int = 7) -> Record:
    return Record(touchpoint_topic(channel), 2, offset, NOW_MS, b"original key", value)


def ingest(*records: Record) -> Outcome:
    return run_chunk(INGEST, records, {}, source=SOURCE, partitions=PARTITIONS)


def touch_in(message: Message) -> Touch:
    read = Record(message.topic, message.partition, 0, 0, message.key, message.value)
    touch = decode_identity(unframe(read)[-1])
    assert isinstance(touch, Touch)
    return touch


def touch_of(channel: str, **fields: Any) -> Touch:
    """The touch that ingest makes of a touchpoint."""
    (message,) = ingest(record(channel, encoded(channel, **fields))).messages
    assert message.topic == IDENTITY
    return touch_in(message)


VALID = encoded("web")
REJECTED: list[tuple[Reason, str, bytes | None]] = [
    (Reason.NULL_VALUE, "web", None),
    (Reason.BAD_FRAMING, "web", b""),
    (Reason.BAD_FRAMING, "web", b'{"event_id": "e1"}'),
    (Reason.UNKNOWN_SCHEMA, "web", framing(7) + VALID[5:]),
    (Reason.TRUNCATED, "web", VALID[:-3]),
    (Reason.WRONG_TYPE, "web", VALID + b"\x00"),
    (Reason.WRONG_TYPE, "web", encoded("chat")),
    (Reason.MISSING_IDENTIFIER, "web", encoded("web", identifiers=[])),
    (Reason.MISSING_IDENTIFIER, "web", encoded("web", identifiers=[identifier("email", " ")])),
    (Reason.MISSING_IDENTIFIER, "social", encoded("social", identifiers=[identifier("", "x")])),
    (
        Reason.MISSING_IDENTIFIER,
        "social",
        encoded("social", identifiers=[identifier("handle", "@")]),
    ),
    (Reason.INVALID_VALUE, "web", encoded("web", event_id="")),
    (Reason.INVALID_VALUE, "web", encoded("web", action="")),
    (Reason.INVALID_VALUE, "web", encoded("web", value=float("nan"))),
    (Reason.INVALID_VALUE, "phone", encoded("phone", talk_ms=-1)),
    (Reason.INVALID_VALUE, "survey", encoded("survey", question="nps", score=11.0)),
    (Reason.OUTSIDE_HORIZON, "web", encoded("web", occurred_at=NOW_MS - 30 * DAY_MS - 1)),
    (Reason.OUTSIDE_HORIZON, "web", encoded("web", occurred_at=NOW_MS + 60_001)),
    (Reason.TOO_LARGE, "web", encoded("web", page_url="x" * 5000)),
]
CASES = pytest.mark.parametrize(("reason", "channel", "value"), REJECTED)


def test_every_reason_is_in_the_table() -> None:
    assert {reason for reason, _, _ in REJECTED} == set(Reason)


@CASES
def test_rejected_record_becomes_one_dead_letter(
    reason: Reason, channel: str, value: bytes | None
) -> None:
    (letter,) = ingest(record(channel, value)).messages
    assert (letter.topic, letter.partition) == (DEAD_LETTER, 2)
    assert (letter.key, letter.value) == (b"original key", value)
    headers = dict(letter.headers)
    assert headers.pop("detail")
    assert headers == {
        "reason": reason.encode(),
        "topic": touchpoint_topic(channel).encode(),
        "partition": b"2",
        "offset": b"7",
        "timestamp_ms": b"%d" % NOW_MS,
        "original_bytes": b"%d" % len(value or b""),
    }


@CASES
def test_rejected_record_becomes_one_row_of_dead_letters(
    reason: Reason, channel: str, value: bytes | None
) -> None:
    outcome = ingest(record(channel, value))
    ((*place, _, received_at, key, kept),) = outcome.rows[DEAD_LETTERS]
    assert place == [touchpoint_topic(channel), SOURCE, 2, 7, reason]
    assert (received_at, key, kept) == (NOW_MS, b"original key", value or b"")
    assert outcome.counts == {("dead_letters", reason): 1}


@CASES
def test_neighbours_of_a_rejected_record_are_untouched(
    reason: Reason, channel: str, value: bytes | None
) -> None:
    before, after = record("web", VALID, 6), record("web", encoded("web", event_id="e2"), 8)
    found = ingest(before, record(channel, value), after).messages
    assert [m for m in found if m.topic == IDENTITY] == ingest(before, after).messages
    assert len(found) == 3


@pytest.mark.parametrize("age_ms", [30 * DAY_MS, -60_000])
def test_touchpoint_on_the_horizon_is_accepted(age_ms: int) -> None:
    assert touch_of("web", occurred_at=NOW_MS - age_ms).occurred_at == NOW_MS - age_ms


def test_touch_goes_to_the_partition_of_its_identity() -> None:
    (message,) = ingest(record("web", VALID)).messages
    token = TOKENS.token("email", "ann@example.com")
    assert (message.key, message.partition) == (token, partition_of(token, PARTITIONS))


def test_accepted_touchpoint_is_counted_by_channel() -> None:
    assert ingest(record("web", VALID)).counts == {("touchpoints", "web"): 1}


def test_ingest_keeps_no_state_and_writes_no_rows() -> None:
    outcome = ingest(record("web", VALID))
    assert (outcome.changes, outcome.rows) == ({}, {})


@pytest.mark.parametrize("channel", CHANNELS)
def test_unknown_action_is_accepted(channel: str) -> None:
    assert touch_of(channel, action="teleported").action == "teleported"


def test_touch_carries_the_common_fields() -> None:
    touch = touch_of(
        "web",
        account_id="acme",
        session_id="s1",
        campaign="spring",
        locale="en-US",
        consent={"marketing": False},
        properties={"colour": "red"},
    )
    assert (touch.channel, touch.event_id, touch.received_at) == ("web", "e1", NOW_MS)
    assert (touch.account_id, touch.session_id, touch.campaign) == ("acme", "s1", "spring")
    assert (touch.locale, touch.consent) == ("en-US", {"marketing": False})
    assert touch.properties == {"colour": "red"}


def test_fields_of_the_channel_travel_only_when_they_have_a_value() -> None:
    fields = touch_of("purchase", value=0.0, currency="USD").fields
    assert fields == {"value": 0.0, "currency": "USD"}


@pytest.mark.parametrize("channel", CHANNELS)
def test_channel_fields_leave_out_the_common_ones(channel: str) -> None:
    assert not {"event_id", "identifiers", "consent", "properties"} & {*channel_fields(channel)}


def test_no_identifier_travels_in_the_clear() -> None:
    names = [identifier("crm_id", "crm-secret"), ANN, identifier("phone", "+12125550123")]
    (message,) = ingest(record("web", encoded("web", identifiers=names))).messages
    for text in (b"crm-secret", b"ann@example", b"2125550123"):
        assert text not in (message.value or b"")


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


@pytest.mark.parametrize("kinds", [BY_STRENGTH, BY_STRENGTH[::-1], BY_STRENGTH[1::2]])
def test_identities_stand_by_strength(kinds: list[str]) -> None:
    names = [identifier(kind, "12125550123") for kind in kinds]
    found = identities({"identifiers": names}, TOKENS)
    assert [kind for kind, _ in found] == [kind for kind in BY_STRENGTH if kind in kinds]


def test_identities_of_equal_strength_stand_by_token() -> None:
    names = [identifier("email", f"{n}@example.com") for n in range(9)]
    found = [token for _, token in identities({"identifiers": names}, TOKENS)]
    assert found == sorted(found)


def test_repeated_identifier_is_one_identity() -> None:
    names = [ANN, identifier("email", " ANN@Example.com ")]
    assert len(identities({"identifiers": names}, TOKENS)) == 1


def test_identifier_without_a_value_is_left_out() -> None:
    touch = touch_of("web", identifiers=[identifier("crm_id", " "), ANN])
    assert (touch.kind, touch.others) == ("email", [])


def test_other_identities_travel_with_the_touch() -> None:
    touch = touch_of("web", identifiers=[identifier("anonymous_id", "a-1"), ANN])
    assert (touch.kind, touch.others) == (
        "email",
        [("anonymous_id", TOKENS.token("anonymous_id", "a-1"))],
    )


def handle_on(platform: str | None, handle: str = "@Ann") -> tuple[str, bytes]:
    touchpoint = {"identifiers": [identifier("handle", handle)], "platform": platform}
    (found,) = identities(touchpoint, TOKENS)
    return found


def test_handle_is_another_identity_on_another_platform() -> None:
    assert len({handle_on(platform)[1] for platform in ("mastodon", "bluesky", None)}) == 3


def test_handle_is_one_identity_whatever_its_spelling() -> None:
    spellings = [handle_on("Mastodon", "@Ann"), handle_on("mastodon", "ann ")]
    assert spellings == [("mastodon_handle", TOKENS.token("mastodon_handle", "ann"))] * 2


@pytest.mark.parametrize(
    "spelling",
    ["+1 212-555-0123", "(212) 555-0123", "212.555.0123", "+12125550123", "1 2125550123"],
)
def test_phone_is_one_identity_whatever_its_spelling(spelling: str) -> None:
    found = identities({"identifiers": [identifier("phone", spelling)]}, TOKENS)
    assert found == [("phone", TOKENS.token("phone", "+12125550123"))]


@pytest.mark.parametrize(
    ("channel", "fields", "expected"),
    [
        ("phone", {"talk_ms": 1000, "hold_ms": 200, "wrap_up_ms": 30}, 1230),
        ("phone", {"talk_ms": 1000}, 1000),
        ("phone", {"talk_ms": 0}, 0),
        ("phone", {"talk_ms": 1000, "abandoned": False}, 1000),
        ("phone", {}, None),
        ("phone", {"wait_ms": 5000}, None),
        ("phone", {"hold_ms": 5000, "abandoned": True}, None),
        ("chat", {"handle_ms": 700}, 700),
        ("chat", {}, None),
    ],
)
def test_handle_time(channel: str, fields: Touchpoint, expected: int | None) -> None:
    assert handling_ms(channel, fields) == expected


def test_handle_time_of_a_call_travels_with_its_parts() -> None:
    fields = touch_of("phone", action="ended", talk_ms=1000, wrap_up_ms=30).fields
    assert fields == {"talk_ms": 1000, "wrap_up_ms": 30, "handle_ms": 1030}


def test_identifier_without_a_kind_is_left_out() -> None:
    touchpoint = {"identifiers": [identifier(" ", "x"), ANN]}
    assert [kind for kind, _ in identities(touchpoint, TOKENS)] == ["email"]


def test_kinds_are_folded() -> None:
    one, other = (
        identities({"identifiers": [identifier(k, "a@b.c")]}, TOKENS) for k in ("email", " Email ")
    )
    assert one == other


def test_time_before_1970_is_outside_the_horizon() -> None:
    (letter,) = ingest(record("web", encoded("web", occurred_at=-1))).messages
    assert dict(letter.headers)["detail"] == b"occurred_at is before 1970"


def test_value_that_fits_no_batch_is_cut_and_its_size_said() -> None:
    (letter,) = ingest(record("web", bytes(KEPT_BYTES + 1))).messages
    assert letter.value == bytes(KEPT_BYTES)
    assert dict(letter.headers)["original_bytes"] == b"%d" % (KEPT_BYTES + 1)
