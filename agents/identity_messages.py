"""What is said on `cx.identity`: touches, and how identities find their root and their customer."""

from typing import Any, cast

import msgspec

from touchstream.agents.component import Ask, Seat
from touchstream.agents.evidence import Mark
from touchstream.agents.judgement import Refused, Sights
from touchstream.agents.resolution import Member, Pair, Token, Verdict, Word
from touchstream.agents.rules import Rules
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError


class Cause(msgspec.Struct, array_like=True, frozen=True):
    """Why something changed: for the audit of identity changes, and for its delay."""

    what: str
    """`touchpoint <channel>/<event id>`, `denied`, `allowed`, `rules <number>`, `erased`."""
    who: str
    """Channel of the touchpoint, or operator."""
    at: int
    """When the record that caused it was written, ms."""


class Touch(msgspec.Struct, array_like=True, frozen=True, tag="touch"):
    """A touchpoint, normalised, to the strongest of its identities."""

    kind: str
    verified: bool
    others: list[tuple[str, Token, bool]]
    """Kind, token and whether it was verified, of the other identities."""
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
    """To an identity: `other` was seen with you, or says again what it knows of your link."""

    kind: str
    """Of the receiver."""
    other: Token
    other_kind: str
    sights: Sights
    """As the receiver sees them."""
    root: Token
    """Of the sender."""
    alone: Refused | None
    """Why the sender links no one, if so."""
    believed: Refused | None
    """What the sender believes of the receiver in this."""
    rules: int
    """Number of the rules of the sender."""
    cause: Cause


class Said(msgspec.Struct, array_like=True, frozen=True, tag="said"):
    """To an identity: an operator's word on you and `other`; the receiver passes it on."""

    other: Token
    word: Word
    root: Token | None = None
    """Of the sender, when the other identity passed it on."""


class Marked(msgspec.Struct, array_like=True, frozen=True, tag="marked"):
    """To an identity: an operator's word on you alone."""

    mark: Mark


class Erase(msgspec.Struct, array_like=True, frozen=True, tag="erase"):
    """To an identity: an operator wants what happened before `until` (ms) to be no more."""

    mark: Mark
    until: int


class Forgotten(msgspec.Struct, array_like=True, frozen=True, tag="forgotten"):
    """To a neighbour: `other` was erased, so forget your link."""

    other: Token
    cause: Cause


class Alone(msgspec.Struct, array_like=True, frozen=True, tag="alone"):
    """To a neighbour: whether `other` links no one now, and why."""

    other: Token
    alone: Refused | None
    root: Token
    rules: int
    cause: Cause


class Report(msgspec.Struct, array_like=True, frozen=True, tag="report"):
    """To the root: a member as it is now; `revision` orders the reports of a member."""

    identity: Token
    revision: int
    member: Member
    asks: list[Ask]
    cause: Cause


class Meet(msgspec.Struct, array_like=True, frozen=True, tag="meet"):
    """To an identity, and on to its root: decide together with `ask.root`.

    In this and the next three `ask` is as the sender sees it: its end is `one`, ours is `other`.
    """

    ask: Ask
    fits: bool
    """The sender has counted, and there is room."""
    cause: Cause


class Join(msgspec.Struct, array_like=True, frozen=True, tag="join"):
    """To a smaller root: is there room for our `size` identities?"""

    ask: Ask
    size: int
    cause: Cause


class Absorb(msgspec.Struct, array_like=True, frozen=True, tag="absorb"):
    """To a smaller root: take all our seats."""

    ask: Ask
    seats: dict[Token, Seat]
    parked: list[Pair]
    cause: Cause


class Decline(msgspec.Struct, array_like=True, frozen=True, tag="decline"):
    """To a root that wanted to join: no."""

    ask: Ask
    full: bool
    """There is no room; else somebody will ask again."""
    absorb: bool
    """It answers an absorb: go on alone."""
    cause: Cause


class Grant(msgspec.Struct, array_like=True, frozen=True, tag="grant"):
    """To the smallest of identities that are no longer connected to their root: be the root."""

    root: Token
    """Of the sender."""
    seats: dict[Token, Seat]
    cause: Cause


class Assign(msgspec.Struct, array_like=True, frozen=True, tag="assign"):
    """From the root to a member: your root, your customer, your links that were refused."""

    root: Token
    term: int
    """Orders the assignments of a member."""
    revision: int
    """Of the member, as the root knows it."""
    customer: Token
    refused: dict[Token, Verdict]
    cause: Cause


class Ruled(msgspec.Struct, array_like=True, frozen=True, tag="ruled"):
    """To every partition: the rules from here on."""

    number: int
    rules: Rules
    operator: str
    said_at: int
    text: str
    """The file they were read from."""


class Sweep(msgspec.Struct, array_like=True, frozen=True, tag="sweep"):
    """To ourselves: decide again on the identities of one slot of this partition."""

    number: int
    """Of the rules."""
    slot: int
    slots: int


IdentityMessage = (
    Touch
    | Link
    | Said
    | Marked
    | Erase
    | Forgotten
    | Alone
    | Report
    | Meet
    | Join
    | Absorb
    | Decline
    | Grant
    | Assign
    | Ruled
    | Sweep
)

encode = msgspec.msgpack.Encoder().encode
_identity = msgspec.msgpack.Decoder(IdentityMessage)


def decode_identity(body: bytes) -> IdentityMessage:
    """Body of a record on `cx.identity`; raises PoisonError."""
    try:
        return cast(IdentityMessage, _identity.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PoisonError(Reason.WRONG_TYPE, str(error)) from None
