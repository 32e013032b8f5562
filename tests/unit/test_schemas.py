"""Schema files in, the contract out: a released schema must not change by accident."""

import json
from hashlib import blake2b
from typing import Any

import pytest
from fastavro import parse_schema

from touchstream.schemas import load_schema
from touchstream.streams.topics import CHANNELS

COMMON = [
    "event_id",
    "occurred_at",
    "sent_at",
    "action",
    "identifiers",
    "account_id",
    "session_id",
    "campaign",
    "locale",
    "consent",
    "properties",
]
FIELDS = {
    "web": "page_url page_title referrer product_id search_term device_type dwell_ms value"
    " currency",
    "chat": "conversation_id direction author agent_id queue topic text wait_ms handle_ms"
    " transfers resolved rating",
    "phone": "call_id direction queue topic agent_id wait_ms talk_ms hold_ms wrap_up_ms transfers"
    " abandoned resolved",
    "social": "platform post_id parent_id kind text language sentiment followers rating",
    "survey": "survey_id invitation_id question scale_min scale_max score comment about_event_id"
    " about_channel",
    "purchase": "order_id value currency quantity items promised_at delivered_at discount",
    "email": "message_id template link",
    "sms": "message_id template link",
    "in_person": "location_id staff_id wait_ms purpose outcome",
    "employee": "team question scale_min scale_max score item",
}
ACTIONS = {
    "web": "page_viewed, searched, product_viewed",
    "chat": "started, queued, assigned, message, transferred, ended",
    "phone": "offered, answered, held, transferred, ended",
    "social": "posted, mentioned, replied, shared, liked, followed, reviewed, messaged",
    "survey": "invited, answered, expired",
    "purchase": "placed, paid, shipped, delivered, returned, cancelled",
    "email": "sent, delivered, opened, clicked, bounced, complained, unsubscribed, replied",
    "sms": "sent, delivered, opened, clicked, bounced, unsubscribed, replied",
    "in_person": "visited, ended, event_invited, event_registered, event_attended",
    "employee": "answered",
}
FROZEN = {
    "web": "1fde16787ec174d2",
    "chat": "f9f143c233933503",
    "phone": "2253a961880abfe0",
    "social": "90a4e6759fd89709",
    "survey": "3bd72634be6decb5",
    "purchase": "30bc7465ac0c04fa",
    "email": "f4ac4eb7a0f6870a",
    "sms": "53a7431e9cf90fb5",
    "in_person": "74e360a59d7df9a5",
    "employee": "3fc5b9db24292e1f",
}
"""Hash of everything but the docs, defaults and logical types included."""


def without_docs(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_docs(value) for key, value in schema.items() if key != "doc"}
    return [without_docs(entry) for entry in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("channel", CHANNELS)
def test_schema_is_frozen(channel: str) -> None:
    text = json.dumps(without_docs(load_schema(channel)), sort_keys=True)
    assert blake2b(text.encode(), digest_size=8).hexdigest() == FROZEN[channel]


@pytest.mark.parametrize("channel", CHANNELS)
def test_schema_has_the_common_fields_then_its_own(channel: str) -> None:
    names = [field["name"] for field in load_schema(channel)["fields"]]
    assert names == COMMON + FIELDS[channel].split()


@pytest.mark.parametrize("channel", CHANNELS)
def test_schema_is_valid_avro(channel: str) -> None:
    parse_schema(load_schema(channel))


@pytest.mark.parametrize("channel", CHANNELS)
def test_doc_lists_the_actions(channel: str) -> None:
    assert load_schema(channel)["doc"].startswith(f"Actions: {ACTIONS[channel]}")


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_field_has_a_doc_and_times_and_durations_their_unit(channel: str) -> None:
    for field in load_schema(channel)["fields"]:
        assert field["doc"]
        if field["name"].endswith("_ms") or "timestamp-millis" in json.dumps(field["type"]):
            assert "milliseconds" in field["doc"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_own_fields_may_be_missing(channel: str) -> None:
    own = load_schema(channel)["fields"][len(COMMON) :]
    assert all("default" in field for field in own)
