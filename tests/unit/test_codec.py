"""Touchpoints to bytes and back; any bytes to a touchpoint or one of the reasons."""

import json
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from touchstream.schemas import load_schema
from touchstream.streams.avro_reader import reader_of
from touchstream.streams.codec import HEADER_BYTES, TouchpointCodec, framing
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.fields import Field, shape_of
from touchstream.streams.moments import epoch_ms
from touchstream.streams.registry import shipped_id
from touchstream.streams.topics import CHANNELS
from touchstream.streams.validation import InvalidTouchpoint, check_values, validate_touchpoint
from touchstream.streams.writer_schemas import without_logical_types

GOLDEN: dict[str, Any] = json.loads(
    Path(__file__).with_name("golden_touchpoints.json").read_text(encoding="utf-8")
)
LIMIT = 65_536
CODEC = TouchpointCodec(max_payload_bytes=LIMIT)
SMALL = {
    "event_id": "1",
    "occurred_at": 1_700_000_000_000,
    "action": "page_viewed",
    "identifiers": [{"kind": "cookie", "value": "c-1", "verified": False}],
}
VALID = CODEC.encode("web", SMALL)


def reason_of(value: bytes | None, channel: str = "web") -> str:
    with pytest.raises(PoisonError) as caught:
        CODEC.decode(channel, value)
    return caught.value.reason


@pytest.mark.parametrize("channel", CHANNELS)
def test_golden_bytes_decode_to_the_golden_touchpoint(channel: str) -> None:
    golden = GOLDEN[channel]
    assert CODEC.decode(channel, bytes.fromhex(golden["hex"])) == golden["touchpoint"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_golden_touchpoint_encodes_to_the_golden_bytes(channel: str) -> None:
    golden = GOLDEN[channel]
    validate_touchpoint(channel, golden["touchpoint"])
    assert CODEC.encode(channel, golden["touchpoint"]).hex() == golden["hex"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_smallest_touchpoint_decodes_with_every_field(channel: str) -> None:
    decoded = CODEC.decode(channel, CODEC.encode(channel, SMALL))
    check_values(channel, decoded)
    assert list(decoded) == [field["name"] for field in load_schema(channel)["fields"]]
    assert decoded["consent"] == {} and decoded["account_id"] is None


def test_aware_datetimes_become_milliseconds() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=timezone(timedelta(hours=2)))
    decoded = CODEC.decode("web", CODEC.encode("web", {**SMALL, "occurred_at": moment}))
    assert decoded["occurred_at"] == 1_767_315_845_678


def test_milliseconds_are_exact_before_1970() -> None:
    assert epoch_ms(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == -1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NULL_VALUE),
        (b"", Reason.BAD_FRAMING),
        (VALID[:4], Reason.BAD_FRAMING),
        (b"\x01" + VALID[1:], Reason.BAD_FRAMING),
        (b'{"event_id": "1"}', Reason.BAD_FRAMING),
        (framing(7) + VALID[5:], Reason.UNKNOWN_SCHEMA),
        (framing(shipped_id("chat")) + VALID[5:], Reason.WRONG_TYPE),
        (VALID + b"\x00", Reason.WRONG_TYPE),
        (VALID[:5] + b"\x02\xff" + VALID[7:], Reason.WRONG_TYPE),
        (VALID[:5] + b"\x01" + VALID[6:], Reason.WRONG_TYPE),
        (VALID[:-1] + b"\x04", Reason.WRONG_TYPE),
        (VALID[:5] + b"\xff" * 11, Reason.WRONG_TYPE),
        (bytes(LIMIT + 1), Reason.TOO_LARGE),
    ],
)
def test_damaged_value_has_its_reason(value: bytes | None, reason: Reason) -> None:
    assert reason_of(value) == reason


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_shorter_value_is_truncated(channel: str) -> None:
    value = bytes.fromhex(GOLDEN[channel]["hex"])
    reasons = {reason_of(value[:size], channel) for size in range(HEADER_BYTES, len(value))}
    assert reasons == {Reason.TRUNCATED}


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, 1 << 62])
def test_length_beyond_the_bytes_allocates_nothing(size: int) -> None:
    stream = BytesIO()
    schemaless_writer(stream, {"type": "long"}, size)
    for place in (HEADER_BYTES, len(VALID) - 11):  # the event id; a count of identifiers
        assert reason_of(VALID[:place] + stream.getvalue() + VALID[place:]) in set(Reason)


def test_touchpoint_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(InvalidTouchpoint, match="limit of 65536"):
        CODEC.encode("web", {**SMALL, "page_url": "x" * LIMIT})


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("occurred_at", 1 << 63, "occurred_at is beyond 64 bits"),
        ("dwell_ms", 1 << 70, "dwell_ms is beyond 64 bits"),
        ("page_url", "\ud800", "page_url contains half of a surrogate pair"),
        ("properties", {"k": "\udfff"}, "properties contains half"),
    ],
)
def test_unencodable_value_is_named(field: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidTouchpoint, match=text):
        CODEC.encode("web", {**SMALL, field: value})


WHOLE = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=80),
    "long": WHOLE,
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "time": WHOLE,
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "booleans": st.dictionaries(st.text(max_size=9), st.booleans(), max_size=70),
    "texts": st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
    "Identifier": st.lists(
        st.fixed_dictionaries({"kind": st.text(), "value": st.text(), "verified": st.booleans()}),
        max_size=4,
    ),
    "Item": st.lists(
        st.fixed_dictionaries(
            {"sku": st.text(), "quantity": st.none() | WHOLE, "price": st.floats(allow_nan=False)}
        ),
        max_size=4,
    ),
}


def strategy_of(field: Field) -> st.SearchStrategy[Any]:
    return st.none() | VALUES[field.kind] if field.nullable else VALUES[field.kind]


def touchpoints(channel: str) -> st.SearchStrategy[dict[str, Any]]:
    fields = shape_of(channel).fields.values()
    return st.fixed_dictionaries({field.name: strategy_of(field) for field in fields})


@given(st.sampled_from(CHANNELS).flatmap(lambda c: st.tuples(st.just(c), touchpoints(c))))
def test_own_reader_agrees_with_fastavro(drawn: tuple[str, dict[str, Any]]) -> None:
    channel, touchpoint = drawn
    schema = parse_schema(without_logical_types(load_schema(channel)))
    stream = BytesIO()
    schemaless_writer(stream, schema, touchpoint)
    value = stream.getvalue()
    expected = schemaless_reader(BytesIO(value), schema, None)
    assert reader_of(load_schema(channel))(value, 0) == (expected, len(value))


def decode_or_reason(channel: str, value: bytes) -> None:
    try:
        decoded = CODEC.decode(channel, value)
    except PoisonError as error:
        assert error.reason in set(Reason) and error.detail.encode()
    else:
        assert set(decoded) == set(shape_of(channel).fields)


@given(st.sampled_from(CHANNELS), st.binary(max_size=200), st.booleans())
def test_random_bytes_give_a_touchpoint_or_a_reason(
    channel: str, body: bytes, is_framed: bool
) -> None:
    decode_or_reason(channel, framing(shipped_id(channel)) + body if is_framed else body)


MUTATIONS = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4), st.integers(0, 3)))


def mutate(value: bytes, mutations: list[tuple[int, bytes, int]]) -> bytes:
    for place, inserted, removed in mutations:
        place = HEADER_BYTES + place % len(value)
        value = value[:place] + inserted + value[place + removed :]
    return value


@given(st.sampled_from(CHANNELS), MUTATIONS)
def test_mutated_value_gives_a_touchpoint_or_a_reason(
    channel: str, mutations: list[tuple[int, bytes, int]]
) -> None:
    value = bytes.fromhex(GOLDEN[channel]["hex"])
    decode_or_reason(channel, mutate(value, mutations))
