"""What is said on `cx.customer`: events of identities, and identities that change customers."""

from typing import cast

import msgspec

from touchstream.agents.resolution import Token
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError


class Event(msgspec.Struct, array_like=True, frozen=True):
    """What the customer view needs of a touchpoint; money in ten-thousandths, times in ms."""

    occurred_at: int
    channel: str
    action: str
    campaign: str | None = None
    account_id: str | None = None
    about_channel: str | None = None
    question: str | None = None
    score: float | None = None
    scale_min: float | None = None
    scale_max: float | None = None
    value_e4: int | None = None
    handle_ms: int | None = None


class Totals(msgspec.Struct, array_like=True):
    """Lifetime totals of events that are no longer kept one by one."""

    touchpoints: dict[str, int] = {}
    contacts: int = 0
    orders: int = 0
    revenue_e4: int = 0
    last_order_at: int | None = None
    first: Event | None = None
    last: Event | None = None
    answers: dict[str, tuple[int, float]] = {}
    """Latest answer by question: its time and score."""
    account: tuple[int, str] | None = None
    """Latest account named: when, and which."""


class Activity(msgspec.Struct, array_like=True):
    """Everything known of one identity: recent events by event key, totals of the older ones."""

    kind: str
    events: dict[int, Event] = {}
    folded: Totals | None = None
    folded_keys: set[int] = set()


class Touched(msgspec.Struct, array_like=True, frozen=True, tag="touched"):
    """To a customer: an event of one of its identities, at the identity's version."""

    identity: Token
    kind: str
    version: int
    event_key: int
    event: Event


class Move(msgspec.Struct, array_like=True, frozen=True, tag="move"):
    """To the former customer: the identity belongs to `target` now."""

    identity: Token
    kind: str
    version: int
    target: Token


class Arrive(msgspec.Struct, array_like=True, frozen=True, tag="arrive"):
    """To the new customer: an identity with its activity."""

    identity: Token
    version: int
    activity: Activity


CustomerMessage = Touched | Move | Arrive

encode = msgspec.msgpack.Encoder().encode
_customer = msgspec.msgpack.Decoder(CustomerMessage)


def decode_customer(body: bytes) -> CustomerMessage:
    """Body of a record on `cx.customer`; raises PoisonError."""
    try:
        return cast(CustomerMessage, _customer.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PoisonError(Reason.WRONG_TYPE, str(error)) from None


def customer_name(customer: Token) -> str:
    """Id of a customer as users see it."""
    return "c" + customer.hex()
