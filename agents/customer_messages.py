"""What is said on `cx.customer`: events of identities, and identities that change customers."""

from typing import cast

import msgspec

from touchstream.agents.resolution import Token
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """An answer to a survey, as it was asked."""

    question: str
    score: float | None
    low: float
    high: float
    """Ends of the asked scale."""
    about_channel: str | None = None
    item: str | None = None


class Contact(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a contact with the service; times in ms."""

    topic: str = ""
    queue: str | None = None
    wait_ms: int | None = None
    handle_ms: int | None = None
    transfers: int | None = None
    abandoned: bool = False
    resolved: bool | None = None


class Purchase(msgspec.Struct, array_like=True, frozen=True):
    """What is known of an order; money in ten-thousandths, times in ms."""

    order_id: str | None = None
    value_e4: int = 0
    promised_at: int | None = None
    delivered_at: int | None = None


class Event(msgspec.Struct, array_like=True, frozen=True):
    """What the customer view needs of a touchpoint; times in ms."""

    occurred_at: int
    channel: str
    action: str
    campaign: str | None = None
    account_id: str | None = None
    segment: str | None = None
    team: str | None = None
    sentiment: float | None = None
    rating: float | None = None
    mark: str | None = None
    """Id of the invitation to a survey; brand that a post is about."""
    consent: dict[str, bool] | None = None
    answer: Answer | None = None
    contact: Contact | None = None
    purchase: Purchase | None = None


class Totals(msgspec.Struct, array_like=True):
    """Sums over touchpoints; what is the latest goes by time, then by value."""

    touchpoints: dict[str, int] = {}
    contacts: dict[str, int] = {}
    orders: int = 0
    revenue_e4: int = 0
    returns: int = 0
    returned_e4: int = 0
    first_order_at: int | None = None
    last_order_at: int | None = None
    first: tuple[int, str, int, str] | None = None
    last: tuple[int, str, int, str] | None = None
    """First and last touch: time, channel, event key, campaign."""
    answers: dict[str, tuple[int, int, int, int]] = {}
    """By question, in thousandths: time and score of the latest answer, number and sum of all."""
    texts_scored: int = 0
    sentiment_e4: int = 0
    advocacy: dict[str, int] = {}
    consent: dict[str, tuple[int, bool]] = {}
    """Latest word on a purpose: when, and which."""
    account: tuple[int, str] | None = None
    segment: tuple[int, str] | None = None
    """Latest account and segment named: when, and which."""


class Activity(msgspec.Struct, array_like=True):
    """Everything known of one identity: recent events by event key, totals of the older ones."""

    kind: str
    events: dict[int, Event] = {}
    folded: Totals | None = None
    folded_keys: set[int] = set()


class Touched(msgspec.Struct, array_like=True, frozen=True, tag="touched"):
    """To a customer: an event of one of its identities."""

    identity: Token
    kind: str
    event_key: int
    event: Event


class Move(msgspec.Struct, array_like=True, frozen=True, tag="move"):
    """To the former customer: the identity belongs to `target` now, or is no more (`NOWHERE`)."""

    identity: Token
    target: Token


class Arrive(msgspec.Struct, array_like=True, frozen=True, tag="arrive"):
    """To the new customer: an identity with its activity."""

    identity: Token
    activity: Activity


CustomerMessage = Touched | Move | Arrive
NOWHERE = b""
"""Target of a move whose activity is thrown away."""

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
