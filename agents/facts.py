"""From a touch to its row of facts: which fields have a column, and what the rest becomes."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from touchstream.agents.customer_messages import (
    Answer,
    Contact,
    Event,
    Purchase,
    customer_name,
)
from touchstream.agents.evidence import Vertex
from touchstream.agents.identity_messages import Touch
from touchstream.agents.resolution import Token
from touchstream.streams.records import Record
from touchstream.streams.table import Row
from touchstream.streams.validation import SCALES

FIRST = 1 << 63
LONGEST_TEXT = 128
"""Characters of the texts that are kept with a customer."""
LONGEST_PURPOSE, MOST_PURPOSES = 64, 16
"""Characters of a purpose of consent, and purposes of a touchpoint, that are kept."""
SERVICE = {
    ("phone", "ended"),
    ("chat", "ended"),
    ("in_person", "ended"),
    ("email", "replied"),
    ("sms", "replied"),
    ("social", "messaged"),
}
"""Touchpoints that are contacts with the service."""
PROMOTED = {
    "value",
    "currency",
    "order_id",
    "quantity",
    "question",
    "score",
    "scale_min",
    "scale_max",
    "about_channel",
    "queue",
    "topic",
    "agent_id",
    "wait_ms",
    "handle_ms",
    "resolved",
    "text",
    "conversation_id",
    "call_id",
    "comment",
    "staff_id",
}
"""Fields with a column; `call_id`, `comment` and `staff_id` share one with their like."""


def ten_thousandths(value: float | None) -> int | None:
    """Money as an exact integer of 1/10,000."""
    return None if value is None else round(value * 10_000)


def event_key(channel: str, event_id: str) -> int:
    """64-bit key of a touchpoint within its identity: channel (the source) and event id."""
    digest = blake2b(f"{channel}\0{event_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def event_of(touch: Touch) -> Event:
    """What the customer view needs of a touch."""
    channel, get, properties = touch.channel, touch.fields.get, touch.properties
    return Event(
        touch.occurred_at,
        channel,
        touch.action[:LONGEST_TEXT],
        _short(touch.campaign),
        _short(touch.account_id),
        _short(properties.get("segment")),
        _short(get("team") or properties.get("team")),
        get("sentiment"),
        get("rating"),
        _short(get("invitation_id") or (properties.get("brand") if channel == "social" else None)),
        kept_consent(touch.consent) or None,
        _answer(touch) if "question" in touch.fields or "item" in touch.fields else None,
        _contact(touch) if (channel, touch.action) in SERVICE else None,
        _purchase(touch) if channel == "purchase" else None,
    )


def _answer(touch: Touch) -> Answer:
    get = touch.fields.get
    question = get("question", "")
    low, high = SCALES.get(question, (1, 5))
    return Answer(
        question[:LONGEST_TEXT],
        get("score"),
        get("scale_min", low),
        get("scale_max", high),
        _short(get("about_channel")),
        _short(get("item")),
    )


def _contact(touch: Touch) -> Contact:
    get = touch.fields.get
    return Contact(
        get("topic", "")[:LONGEST_TEXT],
        _short(get("queue")),
        get("wait_ms"),
        get("handle_ms"),
        get("transfers"),
        get("abandoned", False),
        get("resolved"),
    )


def _purchase(touch: Touch) -> Purchase:
    get = touch.fields.get
    value = ten_thousandths(get("value")) or 0
    order_id = _short(get("order_id"))
    return Purchase(order_id, value, get("promised_at"), get("delivered_at"))


def kept_consent(consent: Mapping[str, bool]) -> dict[str, bool]:
    """Purposes that are kept: the first ones by name."""
    names = sorted(name for name in consent if len(name) <= LONGEST_PURPOSE)
    return {name: consent[name] for name in names[:MOST_PURPOSES]}


def _short(text: str | None) -> str | None:
    return text[:LONGEST_TEXT] if text else None


def fact_row(touch: Touch, identity: Token, vertex: Vertex, record: Record) -> Row:
    """Row of `tables.FACTS`; of duplicates the first in the log has the highest precedence."""
    get = touch.fields.get
    assert vertex.customer is not None
    return (
        identity.hex(),
        touch.channel,
        touch.event_id,
        customer_name(vertex.customer),
        touch.occurred_at,
        touch.received_at,
        touch.action,
        touch.account_id or "",
        touch.session_id or "",
        touch.campaign or "",
        touch.locale or "",
        touch.consent,
        ten_thousandths(get("value")),
        get("currency", ""),
        get("order_id", ""),
        get("quantity"),
        get("question", ""),
        get("score"),
        get("scale_min"),
        get("scale_max"),
        get("about_channel", ""),
        get("conversation_id") or get("call_id") or "",
        get("queue", ""),
        get("topic", ""),
        get("agent_id") or get("staff_id") or "",
        get("wait_ms"),
        get("handle_ms"),
        get("resolved"),
        get("text") or get("comment") or "",
        details(touch.fields),
        touch.properties,
        record.partition,
        record.offset,
        FIRST - record.offset,
        vertex.version,
    )


def details(fields: dict[str, Any]) -> dict[str, str]:
    """Fields without a column of their own, as text; structures as JSON."""
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in fields.items()
        if name not in PROMOTED
    }
