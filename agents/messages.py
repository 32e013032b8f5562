"""What agents tell each other: the bodies of records on `cx.identity` and `cx.customer`."""

from typing import Any, cast

import msgspec

from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError

Token = bytes
"""Identity token; a customer is named by the token of its oldest identity."""
Sight = tuple[int, str]
"""When and by which touchpoint something was first seen: event time (ms), channel and event id."""


class Touch(msgspec.Struct, array_like=True, frozen=True, tag="touch"):
    """A touchpoint, normalised, to the strongest of its identities."""

    kind: str
    others: list[tuple[str, Token]]
    channel: str
    event_id: str
    occurred_at: int
    received_at: int
    action: str
    account_id: str | None
    session_id: str | None
    campaign: str | None
    locale: str | None
    consent: dict[str, bool]
    properties: dict[str, str]
    fields: dict[str, Any]


class Link(msgspec.Struct, array_like=True, frozen=True, tag="link"):
    """To an identity: you were seen together with `other`, whose root is `root`."""

    kind: str
    other: Token
    seen: Sight
    root: Token


class Root(msgspec.Struct, array_like=True, frozen=True, tag="root"):
    """To a neighbour: the smallest identity that I can reach."""

    root: Token


class Report(msgspec.Struct, array_like=True, frozen=True, tag="report"):
    """To the root: what `member` has learnt; evidence only grows, so order does not matter."""

    member: Token
    first_seen: int
    links: dict[Token, Sight]


class Assign(msgspec.Struct, array_like=True, frozen=True, tag="assign"):
    """From the root to a member: the customer you belong to."""

    root: Token
    customer: Token


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


IdentityMessage = Touch | Link | Root | Report | Assign
CustomerMessage = Touched | Move | Arrive

encode = msgspec.msgpack.Encoder().encode
_identity = msgspec.msgpack.Decoder(IdentityMessage)
_customer = msgspec.msgpack.Decoder(CustomerMessage)


def decode_identity(body: bytes) -> IdentityMessage:
    """Body of a record on `cx.identity`; raises PoisonError."""
    try:
        return cast(IdentityMessage, _identity.decode(body))
    except msgspec.MsgspecError as error:
        raise PoisonError(Reason.WRONG_TYPE, str(error)) from None


def decode_customer(body: bytes) -> CustomerMessage:
    """Body of a record on `cx.customer`; raises PoisonError."""
    try:
        return cast(CustomerMessage, _customer.decode(body))
    except msgspec.MsgspecError as error:
        raise PoisonError(Reason.WRONG_TYPE, str(error)) from None


def customer_name(customer: Token) -> str:
    """Id of a customer as users see it."""
    return "c" + customer.hex()
