"""Records of other versions of a schema: resolved to the shipped one, or rejected with a reason."""

from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from touchstream.schemas import load_schema
from touchstream.streams.codec import HEADER_BYTES, TouchpointCodec, framing
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError, TransientError
from touchstream.streams.fields import shape_of
from touchstream.streams.writer_schemas import WriterSchemas, without_logical_types

LIMIT = 65_536
SMALL = {
    "event_id": "1",
    "occurred_at": 1_700_000_000_000,
    "action": "page_viewed",
    "identifiers": [{"kind": "cookie", "value": "c-1", "verified": False}],
}
CODEC = TouchpointCodec(max_payload_bytes=LIMIT)
VALID = CODEC.encode("web", SMALL)


def reason_of(codec: TouchpointCodec, value: bytes) -> str:
    with pytest.raises(PoisonError) as caught:
        codec.decode("web", value)
    return caught.value.reason


class OneSchema:
    """A registry that knows one schema, by the id 1."""

    def __init__(self, schema: dict[str, Any] | None) -> None:
        self.schema = schema
        self.asked: list[int] = []

    def schema_id(self, subject: str, schema: dict[str, Any]) -> int:
        return 1

    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        self.asked.append(schema_id)
        return self.schema if schema_id == 1 else None


def written_with(schema: dict[str, Any], touchpoint: dict[str, Any]) -> bytes:
    stream = BytesIO()
    stream.write(framing(1))
    schemaless_writer(stream, parse_schema(without_logical_types(schema)), touchpoint)
    return stream.getvalue()


def codec_with(schema: dict[str, Any] | None) -> TouchpointCodec:
    return TouchpointCodec(max_payload_bytes=LIMIT, writers=WriterSchemas(OneSchema(schema)))


def changed(**changes: Any) -> dict[str, Any]:
    """The web schema with fields replaced, added, or (None) left out."""
    schema = load_schema("web")
    fields = {field["name"]: field for field in schema["fields"]}
    for name, avro_type in changes.items():
        fields[name] = avro_type and {"name": name, "type": avro_type}
    return {**schema, "fields": [field for field in fields.values() if field]}


def test_older_writer_schema_gets_defaults_of_its_own() -> None:
    old = changed(consent=None, properties=None, currency=None)
    codec = codec_with(old)
    first, second = (codec.decode("web", written_with(old, SMALL)) for _ in range(2))
    assert first == CODEC.decode("web", VALID)
    assert first["consent"] is not second["consent"]


def test_newer_writer_schema_loses_what_is_not_known() -> None:
    new = changed(scroll_percent="int", mood={"type": "enum", "name": "Mood", "symbols": ["GOOD"]})
    value = written_with(new, {**SMALL, "scroll_percent": 7, "mood": "GOOD"})
    assert codec_with(new).decode("web", value) == CODEC.decode("web", VALID)


def test_registered_shipped_schema_is_read_as_such() -> None:
    schema = load_schema("web")
    value = written_with(schema, SMALL)
    assert codec_with(schema).decode("web", value) == CODEC.decode("web", VALID)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (load_schema("chat"), "ChatTouchpoint"),
        (changed(occurred_at={"type": "long", "logicalType": "timestamp-micros"}), "micros"),
    ],
)
def test_schema_of_another_meaning_is_a_wrong_type(schema: dict[str, Any], text: str) -> None:
    with pytest.raises(PoisonError, match=text) as caught:
        codec_with(schema).decode("web", framing(1) + VALID[5:])
    assert caught.value.reason == Reason.WRONG_TYPE


def test_incompatible_writer_schema_is_a_wrong_type() -> None:
    schema = changed(action="long")
    value = written_with(schema, {**SMALL, "action": 1})
    assert reason_of(codec_with(schema), value) == Reason.WRONG_TYPE


def record(name: str, *types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields}


@pytest.mark.parametrize(
    "schema",
    [
        None,
        record("Empty"),
        changed(extra={"type": "array", "items": "null"}),
        changed(extra={"type": "array", "items": record("Nothing", "null")}),
        changed(extra=record("Node", ["null", "Node"])),
        changed(extra=["null", "NoSuchType"]),
        {"type": "array", "items": "string"},
        {"type": "record", "name": "WebTouchpoint"},
    ],
)
def test_schema_that_is_none_of_ours_is_unknown(schema: dict[str, Any] | None) -> None:
    assert reason_of(codec_with(schema), framing(1) + VALID[5:]) == Reason.UNKNOWN_SCHEMA


RESOLVED = changed(currency=None)
RESOLVING = codec_with(RESOLVED)
PLACES = st.lists(st.tuples(st.integers(0, 99), st.binary(max_size=4), st.integers(0, 3)))


@given(PLACES)
def test_mutated_value_gives_a_touchpoint_or_a_reason(
    mutations: list[tuple[int, bytes, int]],
) -> None:
    value = written_with(RESOLVED, {**SMALL, "consent": {"a": True}, "properties": {"k": "v"}})
    for place, inserted, removed in mutations:
        place = HEADER_BYTES + place % len(value)
        value = value[:place] + inserted + value[place + removed :]
    try:
        decoded = RESOLVING.decode("web", value)
    except PoisonError as error:
        assert error.reason in set(Reason) and error.detail.encode()
    else:
        assert set(decoded) == set(shape_of("web").fields)


def test_unknown_id_is_asked_for_again_only_later() -> None:
    now = [0.0]
    registry = OneSchema(None)
    writers = WriterSchemas(registry, forget_seconds=30, clock=lambda: now[0])
    codec = TouchpointCodec(max_payload_bytes=LIMIT, writers=writers)
    for moment in (0.0, 29.0, 31.0):
        now[0] = moment
        assert reason_of(codec, framing(5) + VALID[5:]) == Reason.UNKNOWN_SCHEMA
    assert registry.asked == [5, 5]


def test_known_schema_is_asked_for_once() -> None:
    registry = OneSchema(RESOLVED)
    codec = TouchpointCodec(max_payload_bytes=LIMIT, writers=WriterSchemas(registry))
    for _ in range(3):
        codec.decode("web", written_with(RESOLVED, SMALL))
    assert registry.asked == [1]


class SilentRegistry(OneSchema):
    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        raise TransientError("does not answer")


def test_silent_registry_is_transient_not_poison() -> None:
    codec = TouchpointCodec(max_payload_bytes=LIMIT, writers=WriterSchemas(SilentRegistry(None)))
    with pytest.raises(TransientError):
        codec.decode("web", framing(5) + VALID[5:])
