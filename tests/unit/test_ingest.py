"""Every reason for a dead letter, and what becomes of a touchpoint that is accepted."""

import logging
from typing import Any

import msgspec
import pytest

from touchstream.agents.heard import Heard
from touchstream.agents.identifiers import Identifiers, tokens_of
from touchstream.agents.identity_messages import Touch, decode_identity
from touchstream.agents.ingest import Ingest, channel_fields, find_identities, handling_ms
from touchstream.agents.judgement import Refused
from touchstream.agents.operations import SetErased, SetRules, SetWord, encode_operation
from touchstream.agents.rule_book import LEAD_MS
from touchstream.agents.rules import UNIDENTIFIED, Kind, Rules
from touchstream.agents.rules_file import default_rules
from touchstream.streams.alerts import decode_alert
from touchstream.streams.codec import TouchpointCodec, framing
from touchstream.streams.dead_letters import KEPT_BYTES, Reason
from touchstream.streams.internal import unframe
from touchstream.streams.records import Message, Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.tables import DEAD_LETTERS, REFUSED
from touchstream.streams.topics import (
    ALERTS,
    CHANNELS,
    DAY_MS,
    DEAD_LETTER,
    IDENTITY,
    OPERATIONS,
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


def identifier(kind: str, value: str, verified: bool = False) -> dict[str, Any]:
    return {"kind": kind, "value": value, "verified": verified}


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


def ingest(*records: Record, by: Ingest = INGEST) -> Outcome:
    return run_chunk(by, records, {}, source=SOURCE, partitions=PARTITIONS)


def ruled_by(rules: Rules, since_ms: int = 0) -> Ingest:
    """Ingest with rules that hold since a time."""
    operators = Heard()
    operators.rules.add(since_ms - LEAD_MS, rules)
    return Ingest(CODEC, TOKENS, SETTINGS, operators)


def touch_in(message: Message) -> Touch:
    read = Record(message.topic, message.partition, 0, 0, message.key, message.value)
    touch = decode_identity(unframe(read)[-1])
    assert isinstance(touch, Touch)
    return touch


def touch_of(channel: str, by: Ingest = INGEST, **fields: Any) -> Touch:
    """The touch that ingest makes of a touchpoint."""
    (message,) = ingest(record(channel, encoded(channel, **fields)), by=by).messages
    assert message.topic == IDENTITY
    return touch_in(message)


def found_in(names: list[dict[str, Any]], platform: str | None = None) -> list[tuple[str, bytes]]:
    """Kind and token of each identity of a touchpoint, under the default rules."""
    identifiers = Identifiers(TOKENS, default_rules())
    found, _ = find_identities({"identifiers": names, "platform": platform}, identifiers)
    return [(reading.kind, reading.token) for reading, _ in found]


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
    value = {"email": "ann@example.com"}
    names = [identifier(kind, value.get(kind, "12125550123")) for kind in kinds]
    found = [kind for kind, _ in found_in(names)]
    assert found == [kind for kind in BY_STRENGTH if kind in kinds]


def test_identities_of_equal_strength_stand_by_token() -> None:
    names = [identifier("email", f"{n}@example.com") for n in range(9)]
    found = [token for _, token in found_in(names)]
    assert found == sorted(found)


def test_repeated_identifier_is_one_identity() -> None:
    names = [ANN, identifier("email", " ANN@Example.com ")]
    assert len(found_in(names)) == 1


@pytest.mark.parametrize("verified", [(True, False), (False, True), (False, False)])
def test_repeated_identifier_is_verified_if_one_of_its_sights_is(
    verified: tuple[bool, bool],
) -> None:
    one, other = verified
    names = [identifier("email", "a@b.c", one), identifier("email", "A@b.c", other)]
    assert touch_of("web", identifiers=names).verified == any(verified)


def test_identifier_without_a_value_is_left_out() -> None:
    touch = touch_of("web", identifiers=[identifier("crm_id", " "), ANN])
    assert (touch.kind, touch.others) == ("email", [])


def test_other_identities_travel_with_the_touch() -> None:
    names = [identifier("anonymous_id", "a-1", verified=True), ANN]
    touch = touch_of("web", identifiers=names)
    others = [("anonymous_id", TOKENS.token("anonymous_id", "a-1"), True)]
    assert (touch.kind, touch.verified, touch.others) == ("email", False, others)


def handle_on(platform: str | None, handle: str = "@Ann") -> tuple[str, bytes]:
    (found,) = found_in([identifier("handle", handle)], platform)
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
    found = found_in([identifier("phone", spelling)])
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
    assert [kind for kind, _ in found_in([identifier(" ", "x"), ANN])] == ["email"]


def test_kinds_are_folded() -> None:
    one, other = (found_in([identifier(kind, "a@b.c")]) for kind in ("email", " Email "))
    assert one == other


def test_time_before_1970_is_outside_the_horizon() -> None:
    (letter,) = ingest(record("web", encoded("web", occurred_at=-1))).messages
    assert dict(letter.headers)["detail"] == b"occurred_at is before 1970"


def test_value_that_fits_no_batch_is_cut_and_its_size_said() -> None:
    (letter,) = ingest(record("web", bytes(KEPT_BYTES + 1))).messages
    assert letter.value == bytes(KEPT_BYTES)
    assert dict(letter.headers)["original_bytes"] == b"%d" % (KEPT_BYTES + 1)


def test_junk_is_left_out() -> None:
    touch = touch_of("web", identifiers=[identifier("crm_id", "null"), ANN])
    assert (touch.kind, touch.others) == ("email", [])


def test_junk_is_counted_by_the_name_of_its_rules() -> None:
    kinds = ("crm_id", "bluesky_handle", "ticket_id", "order_ref")
    names = [*(identifier(kind, "unknown") for kind in kinds), ANN]
    counts = ingest(record("web", encoded("web", identifiers=names))).counts
    found = {label: number for (name, label), number in counts.items() if name == "junk"}
    assert found == {"crm_id": 1, "handle": 1, "other": 2}


ALL_JUNK = {"identifiers": [identifier("crm_id", "0"), identifier("email", " ")]}


def test_touchpoint_of_junk_only_is_filed_under_an_identity_of_its_own() -> None:
    (message,) = ingest(record("web", encoded("web", **ALL_JUNK))).messages
    touch = touch_in(message)
    assert message.key == TOKENS.unidentified("web", "e1")
    assert (touch.kind, touch.verified, touch.others) == (UNIDENTIFIED, False, [])


def test_touchpoint_of_junk_only_is_counted() -> None:
    counts = ingest(record("web", encoded("web", **ALL_JUNK))).counts
    assert counts == {("touchpoints", "web"): 1, ("junk", "crm_id"): 1, ("unidentified", ""): 1}


def test_rejected_touchpoint_counts_no_junk() -> None:
    late = encoded("web", **ALL_JUNK, occurred_at=NOW_MS - 30 * DAY_MS - 1)
    counts = ingest(record("web", late)).counts
    assert counts == {("dead_letters", Reason.OUTSIDE_HORIZON): 1}


TWO = msgspec.structs.replace(default_rules(), max_identifiers=2)
TOO_MANY = [ANN, identifier("device_id", "d-1"), identifier("anonymous_id", "a-1")]
TOO_MANY += [identifier("crm_id", "17")]
CRM, EMAIL, DEVICE, COOKIE = (
    TOKENS.token(kind, value)
    for kind, value in (
        ("crm_id", "17"),
        ("email", "ann@example.com"),
        ("device_id", "d-1"),
        ("anonymous_id", "a-1"),
    )
)


def too_many() -> Outcome:
    return ingest(record("web", encoded("web", identifiers=TOO_MANY)), by=ruled_by(TWO))


def test_strongest_identifiers_are_kept_when_there_are_too_many() -> None:
    message = too_many().messages[0]
    assert (message.key, touch_in(message).others) == (CRM, [("email", EMAIL, False)])


def test_identifiers_too_many_are_rows_of_refused_links() -> None:
    names = [name for name, _ in REFUSED.columns]
    rows = [dict(zip(names, row, strict=True)) for row in too_many().rows[REFUSED]]
    common = {
        "identity": CRM.hex(),
        "kind": "crm_id",
        "reason": Refused.TOO_MANY_IDENTIFIERS,
        "detail": "web/e1",
        "decided_at": NOW_MS,
        "version": 1,
        "is_deleted": 0,
    }
    assert rows == [{**common, "other": token.hex()} for token in (DEVICE, COOKIE)]


def test_identifiers_too_many_are_counted_each() -> None:
    assert too_many().counts["refused", Refused.TOO_MANY_IDENTIFIERS] == 2


def test_identifiers_too_many_raise_one_alert() -> None:
    (alert,) = (message for message in too_many().messages if message.topic == ALERTS)
    said = decode_alert(alert.value)
    assert (said.kind, said.identity) == (Refused.TOO_MANY_IDENTIFIERS, CRM.hex())
    assert said.evidence == {"left_out": "2", "touchpoint": "web/e1"}


def test_as_many_identifiers_as_allowed_are_no_case_for_anyone() -> None:
    outcome = ingest(record("web", encoded("web", identifiers=TOO_MANY[:2])), by=ruled_by(TWO))
    assert (len(outcome.messages), outcome.rows) == (1, {})


STRONG_COOKIES = msgspec.structs.replace(
    default_rules(), kinds={**default_rules().kinds, "anonymous_id": Kind(1000)}
)


@pytest.mark.parametrize(
    ("since_ms", "kind"), [(NOW_MS, "anonymous_id"), (NOW_MS + 1, "email")], ids=["then", "later"]
)
def test_rules_are_those_of_the_time_of_the_record(since_ms: int, kind: str) -> None:
    names = [identifier("anonymous_id", "a-1"), ANN]
    assert touch_of("web", by=ruled_by(STRONG_COOKIES, since_ms), identifiers=names).kind == kind


def test_rules_may_change_to_and_fro_within_a_chunk() -> None:
    operators = Heard()
    by = Ingest(CODEC, TOKENS, SETTINGS, operators)
    value = encoded("web", identifiers=[identifier("anonymous_id", "a-1"), ANN])
    for number in range(1, 4):
        operators.rules.add(
            NOW_MS + number - LEAD_MS, STRONG_COOKIES if number % 2 else default_rules()
        )
    records = [record("web", value)._replace(timestamp_ms=NOW_MS + n) for n in (0, 1, 2, 3, 1, 0)]
    kinds = [touch_in(message).kind for message in ingest(*records, by=by).messages]
    cookie = "anonymous_id"
    assert kinds == ["email", cookie, "email", cookie, cookie, "email"]


BROKEN = msgspec.structs.replace(default_rules(), junk_patterns=("(",))
SLOW = msgspec.structs.replace(default_rules(), other=Kind(0, junk_patterns=("(a+)+",)))


def heard(value: bytes | None) -> Rules:
    """The rules that hold after an operation."""
    operators = Heard()
    operators.take(Record(OPERATIONS, 0, 3, NOW_MS, None, value))
    return operators.rules.at(NOW_MS + LEAD_MS)


def said(rules: Rules) -> bytes:
    return encode_operation(SetRules(rules, "text", "ann"))


def test_rules_that_an_operator_set_hold() -> None:
    assert heard(said(TWO)) == TWO


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{}", said(BROKEN), said(SLOW), encode_operation(SetWord("a", "b", True, "ann"))],
    ids=["no value", "empty", "no operation", "broken pattern", "slow pattern", "word"],
)
def test_other_operations_change_no_rules(value: bytes | None) -> None:
    assert heard(value) == default_rules()


def test_operation_that_cannot_be_used_is_logged_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        heard(b"{}")
        heard(said(BROKEN))
    assert [text.count("offset=3") for text in caplog.messages] == [1, 1]


def erasing(*erased: dict[str, Any], back: bool = False) -> Ingest:
    """Ingest that has heard that identifiers were erased, or may come back now."""
    operators = Heard()
    tokens = [TOKENS.token(each["kind"], each["value"]).hex() for each in erased]
    operators.suppressions.add(1, NOW_MS, SetErased(tokens, "op", back=back))
    return Ingest(CODEC, TOKENS, SETTINGS, operators)


NUMBER, VISITOR = identifier("crm_id", "4711"), identifier("anonymous_id", "a-1")


@pytest.mark.parametrize(
    ("erased", "left"),
    [
        ([NUMBER], None),
        ([NUMBER, ANN, VISITOR], None),
        ([ANN], ["crm_id", "anonymous_id"]),
        ([ANN, VISITOR], ["crm_id"]),
        ([identifier("email", "bob@example.com")], ["crm_id", "email", "anonymous_id"]),
    ],
    ids=["strongest", "all", "one", "two", "another"],
)
def test_touchpoint_is_left_out_with_its_strongest_identity_and_others_are_left_out_of_it(
    erased: list[dict[str, Any]], left: list[str] | None
) -> None:
    value = encoded("web", identifiers=[VISITOR, ANN, NUMBER])
    outcome = ingest(record("web", value), by=erasing(*erased))
    if left is None:
        assert outcome.messages == []
        assert outcome.counts == {("suppressed", ""): 1}
        return
    touch = touch_in(outcome.messages[0])
    assert [touch.kind, *(kind for kind, _, _ in touch.others)] == left


@pytest.mark.parametrize(
    ("occurred_at", "published_at", "number"),
    [(NOW_MS, NOW_MS, 1), (NOW_MS - 1, NOW_MS, 0), (NOW_MS, NOW_MS - 1, 0)],
)
def test_what_happens_after_an_identity_came_back_is_taken(
    occurred_at: int, published_at: int, number: int
) -> None:
    value = encoded("web", occurred_at=occurred_at)
    read = record("web", value)._replace(timestamp_ms=published_at)
    assert len(ingest(read, by=erasing(ANN, back=True)).messages) == number


def test_rejected_touchpoint_of_an_erased_identity_is_no_dead_letter() -> None:
    value = encoded("web", occurred_at=NOW_MS - 365 * DAY_MS, identifiers=[NUMBER, ANN])
    assert [m.topic for m in ingest(record("web", value)).messages] == [DEAD_LETTER]
    outcome = ingest(record("web", value), by=erasing(ANN))
    assert (outcome.messages, outcome.rows) == ([], {})
