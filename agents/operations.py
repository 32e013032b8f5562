"""What operators say, as it stands on `cx.operations`: JSON, in one order, kept for ever."""

from typing import cast

import msgspec

from touchstream.agents.rules import Rules
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError


class SetWord(msgspec.Struct, frozen=True, tag="word", tag_field="operation"):
    """Two identities (tokens in hex) are one customer, or are not."""

    one: str
    other: str
    allow: bool
    operator: str
    note: str = ""


class SetMark(msgspec.Struct, frozen=True, tag="mark", tag_field="operation"):
    """An identity (token in hex) belongs to many, or no longer does."""

    identity: str
    shared: bool
    operator: str
    note: str = ""


class SetRules(msgspec.Struct, frozen=True, tag="rules", tag_field="operation"):
    """The identity rules from here on, and the file they were read from."""

    rules: Rules
    text: str
    operator: str
    note: str = ""


class SetErased(msgspec.Struct, frozen=True, tag="erased", tag_field="operation"):
    """Identities (tokens in hex) of one customer are erased, or may come `back` from here on."""

    identities: list[str]
    operator: str
    note: str = ""
    back: bool = False


Operation = SetWord | SetMark | SetRules | SetErased

encode_operation = msgspec.json.Encoder().encode
_operation = msgspec.json.Decoder(Operation)


def decode_operation(value: bytes | None) -> Operation:
    """Value of a record on `cx.operations`; raises PoisonError."""
    if value is None:
        raise PoisonError(Reason.NULL_VALUE, "an operation has no value")
    try:
        return cast(Operation, _operation.decode(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError(Reason.WRONG_TYPE, str(error)) from None
