"""Touchpoints in, the field that is wrong and why out."""

from datetime import UTC, datetime
from typing import Any

import pytest

from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.fields import shape_of
from touchstream.streams.validation import InvalidTouchpoint, check_values, validate_touchpoint

SMALL: dict[str, Any] = {
    "event_id": "1",
    "occurred_at": 0,
    "action": "x",
    "identifiers": [{"kind": "email", "value": "a@b.c"}],
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("channel", "fields"),
    [
        ("web", {}),
        ("web", {"occurred_at": NOW, "sent_at": NOW, "value": 3, "consent": {"analytics": True}}),
        ("web", {"identifiers": ({"kind": "a", "value": "b", "verified": True},)}),
        ("survey", {"question": "nps", "score": 10}),
        ("survey", {"question": "nps", "score": 0.0, "scale_min": 0, "scale_max": 10}),
        ("survey", {"question": "csat", "score": 7, "scale_max": 7}),
        ("survey", {"question": "mood", "score": -3}),
        ("employee", {"question": "enps", "score": 9}),
        ("purchase", {"value": -5.0, "items": [{"sku": "a", "price": 0}], "quantity": -1}),
        ("social", {"followers": 2**31 - 1}),
    ],
)
def test_valid_touchpoint_passes(channel: str, fields: dict[str, Any]) -> None:
    validate_touchpoint(channel, {**SMALL, **fields})


@pytest.mark.parametrize(
    ("channel", "fields", "message"),
    [
        ("web", {"colour": "red"}, "web touchpoint: colour is not a field of this channel"),
        ("fax", {}, "channel must be one of web, chat"),
        ("web", {"action": 5}, "action must be text, is int '5'"),
        ("web", {"action": None}, "action must not be null"),
        ("web", {"action": ""}, "action is empty"),
        ("web", {"event_id": ""}, "event_id is empty"),
        ("web", {"occurred_at": "now"}, "occurred_at must be a datetime with a time zone"),
        ("web", {"occurred_at": 1.5}, "occurred_at must be a datetime with a time zone"),
        ("web", {"occurred_at": NOW.replace(tzinfo=None)}, "occurred_at has no time zone"),
        ("web", {"dwell_ms": True}, "dwell_ms must be a whole number"),
        ("web", {"dwell_ms": -1}, "dwell_ms is not between 0 and 100 years"),
        ("web", {"value": "1"}, "value must be a number"),
        ("web", {"value": float("nan")}, "value is not a number within 1e\\+12"),
        ("web", {"value": 10**400}, "value is not a number within 1e\\+12"),
        ("chat", {"resolved": 1}, "resolved must be true or false"),
        ("chat", {"transfers": 1 << 31}, "transfers must be a whole number of at most 32 bits"),
        ("chat", {"transfers": 10**5000}, "is an int of 16610 bits"),
        ("web", {"consent": []}, "consent must be a mapping"),
        ("web", {"consent": {"a": "yes"}}, "consent has 'a', which must be true or false"),
        ("web", {"properties": {1: "a"}}, "properties must have text as keys"),
        ("web", {"properties": {"a": 1}}, "properties has 'a', which must be text"),
        ("web", {"identifiers": []}, "identifiers has no entry"),
        ("web", {"identifiers": None}, "identifiers must not be null"),
        ("web", {"identifiers": {}}, "identifiers must be a list"),
        ("web", {"identifiers": ["a"]}, "identifiers must have mappings as entries"),
        ("web", {"identifiers": [{"kind": "a"}]}, "number 1: value is missing"),
        ("web", {"identifiers": [{"kind": "a", "value": " "}]}, "number 1: value is empty"),
        ("web", {"identifiers": [{"kind": "", "value": "b"}]}, "number 1: kind is empty"),
        ("web", {"identifiers": [{"kind": "a", "value": 1}]}, "number 1: value must be text"),
        ("web", {"identifiers": [{"kind": "a", "value": "b", "x": 1}]}, "'x' is not one of kind"),
        ("purchase", {"items": [{"sku": "a"}]}, "items number 1: price is missing"),
        ("purchase", {"items": [{"sku": "a", "price": 1e13}]}, "items has a price"),
        ("survey", {"question": "nps", "score": 11}, "score is 11, outside its scale, 0 to 10"),
        ("survey", {"question": "nps", "scale_min": 1}, "scale_min and scale_max must be 0 and 10"),
        ("survey", {"question": "csat", "score": 8}, "score is 8, outside its scale, 1 to 5"),
        ("survey", {"question": "csat", "scale_min": 5}, "scale_max is 5, not above"),
        ("survey", {"scale_min": 3, "scale_max": 3}, "scale_max is 3, not above"),
        ("survey", {"scale_min": 3, "score": 2}, "score is 2, outside its scale, 3 to any"),
        ("employee", {"question": "enps", "score": -1}, "score is -1, outside"),
    ],
)
def test_invalid_touchpoint_names_the_field(
    channel: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidTouchpoint, match=message):
        validate_touchpoint(channel, {**SMALL, **fields})


@pytest.mark.parametrize("field", list(SMALL))
def test_missing_field_is_named(field: str) -> None:
    touchpoint = {name: value for name, value in SMALL.items() if name != field}
    with pytest.raises(InvalidTouchpoint, match=f"{field} is missing") as caught:
        validate_touchpoint("web", touchpoint)
    assert (caught.value.channel, caught.value.field) == ("web", field)


def decoded(channel: str, **fields: Any) -> dict[str, Any]:
    return {**dict.fromkeys(shape_of(channel).fields), **SMALL, **fields}


@pytest.mark.parametrize(
    ("channel", "fields", "reason"),
    [
        ("web", {"identifiers": []}, Reason.MISSING_IDENTIFIER),
        ("web", {"identifiers": [{"kind": "a", "value": " "}]}, Reason.MISSING_IDENTIFIER),
        ("web", {"event_id": ""}, Reason.INVALID_VALUE),
        ("web", {"value": float("inf")}, Reason.INVALID_VALUE),
        ("phone", {"talk_ms": 1 << 62}, Reason.INVALID_VALUE),
        ("survey", {"question": "nps", "score": 10.5}, Reason.INVALID_VALUE),
        ("purchase", {"items": [{"price": float("nan")}]}, Reason.INVALID_VALUE),
    ],
)
def test_decoded_touchpoint_that_breaks_a_rule_is_poison(
    channel: str, fields: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(PoisonError) as caught:
        check_values(channel, decoded(channel, **fields))
    assert caught.value.reason == reason


def test_one_received_identifier_with_a_value_is_enough() -> None:
    blank = {"kind": "email", "value": ""}
    check_values("web", decoded("web", identifiers=[blank, *SMALL["identifiers"]]))
