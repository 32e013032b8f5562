"""What carries a trace of a customer: its tokens in any spelling, or texts known of it."""

from typing import Any

import pytest

from touchstream.agents.component import Component, Seat
from touchstream.agents.erasure_commands import Traces
from touchstream.agents.evidence import Link, Mark, Vertex
from touchstream.agents.identifiers import tokens_of
from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Member
from touchstream.agents.rules_file import default_rules
from touchstream.agents.suppressions import FOREVER
from touchstream.agents.turn import COMPONENT, VERTEX
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.settings import Settings
from touchstream.streams.state import encode

SETTINGS = Settings()
TOKENS = tokens_of(SETTINGS)
ANN, BOB = (TOKENS.token("email", f"{name}@example.com") for name in ("ann", "bob"))
TRACES = Traces(SETTINGS, default_rules(), [ANN.hex()], ["Ann@Example.com"])
CODEC = TouchpointCodec(max_payload_bytes=1 << 20)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, False),
        (b"", False),
        (b"nothing of hers", False),
        (encode({"other": ANN}), True),
        (encode([BOB, [ANN]]), True),
        (encode([BOB]), False),
        (b'{"customer_id": "c' + ANN.hex().encode() + b'"}', True),
        (b'{"customer_id": "C' + ANN.hex().upper().encode() + b'"}', True),
        (b"a" + ANN.hex().encode() + b"b", True),
        (ANN.hex().encode()[:-1], False),
        (b"write to ann@example.com!", True),
        (b"write to ANN@EXAMPLE.COM!", True),
        (b"write to bob@example.com!", False),
    ],
)
def test_tokens_and_texts_are_found_in_bytes(data: bytes | None, expected: bool) -> None:
    assert TRACES.in_bytes(data) is expected


def test_a_token_that_only_seems_to_begin_in_another_is_found() -> None:
    assert TRACES.in_bytes(b"\xc4\x10" + encode(ANN))


@pytest.mark.parametrize("key", [ANN, VERTEX + ANN])
def test_a_record_is_known_by_its_key(key: bytes) -> None:
    assert TRACES.in_record(key, None)
    assert not TRACES.in_record(BOB, b"")


def touchpoint(*identifiers: tuple[str, str]) -> bytes:
    fields: dict[str, Any] = {"event_id": "e1", "occurred_at": 1, "action": "page_viewed"}
    named = [{"kind": k, "value": v, "verified": False} for k, v in identifiers]
    return CODEC.encode("web", {**fields, "identifiers": named})


def test_a_dead_letter_is_known_by_identifiers_in_another_spelling() -> None:
    phone = TOKENS.token("phone", "+12125550100").hex()
    traces = Traces(SETTINGS, default_rules(), [phone], [])
    value = touchpoint(("email", "bob@example.com"), ("phone", "(212) 555-0100"))
    assert traces.in_dead_letter("touchpoints.web", None, value, "")
    assert not traces.in_dead_letter("touchpoints.web", None, value[:-5], "")
    assert not TRACES.in_dead_letter("touchpoints.web", None, value, "")


@pytest.mark.parametrize("field", ["key", "value", "detail"])
def test_a_dead_letter_is_known_by_a_text_anywhere(field: str) -> None:
    parts: dict[str, Any] = {"key": b"", "value": b"\x00\x01", "detail": ""}
    text = "not a time: ann@example.com"
    parts[field] = text if field == "detail" else text.encode()
    assert TRACES.in_dead_letter("touchpoints.web", *parts.values())


def vertex(**fields: Any) -> bytes:
    return encode(Vertex(ANN, **fields))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (vertex(erased=FOREVER, erasure=3, version=7), False),
        (vertex(erased=FOREVER, links={BOB: Link("email", {})}), True),
        (vertex(erased=FOREVER, customer=BOB), True),
        (vertex(erased=FOREVER, first_seen=1), True),
        (vertex(erased=FOREVER, going=Mark(1, Refused.ERASED, "op", "", 1)), True),
    ],
)
def test_that_an_identity_was_erased_is_no_trace_but_anything_else_is(
    value: bytes, expected: bool
) -> None:
    assert TRACES.in_state("stitch", VERTEX + ANN, value) is expected


def test_neighbours_roots_and_customers_may_keep_a_trace() -> None:
    neighbour = encode(Vertex(BOB, links={ANN: Link("email", {})}))
    assert TRACES.in_state("stitch", VERTEX + BOB, neighbour)
    root = encode(Component({ANN: Seat(Member("email", 1), 1, 1)}))
    assert TRACES.in_state("stitch", COMPONENT + BOB, root)
    assert TRACES.in_state("profile", VERTEX + ANN, b"")
