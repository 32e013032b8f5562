"""Operate: what operators say, from their log to the identities it is about.

An agent without state over `cx.operations`. A word goes to one of its two identities, which passes
it on; rules go to every partition of `cx.identity`. The place in the log is the order of them all.
"""

from touchstream.agents.evidence import Mark
from touchstream.agents.identity_messages import Marked, Ruled, Said, encode
from touchstream.agents.judgement import Refused
from touchstream.agents.operations import SetMark, SetRules, SetWord, decode_operation
from touchstream.agents.resolution import Word
from touchstream.streams.app import App
from touchstream.streams.dead_letters import Reason
from touchstream.streams.effects import Effects
from touchstream.streams.errors import PoisonError
from touchstream.streams.internal import KEY_BYTES
from touchstream.streams.records import Record
from touchstream.streams.state import State
from touchstream.streams.topics import IDENTITY, OPERATIONS


class Operate:
    """The stage: one operation in, messages to identities out."""

    name = "operate"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Pass on an operation."""
        if record.partition != 0:
            raise PoisonError(Reason.INVALID_VALUE, "operations stand in partition 0 only")
        operation = decode_operation(record.value)
        number, at = record.offset + 1, record.timestamp_ms
        match operation:
            case SetWord():
                one, other = _token(operation.one), _token(operation.other)
                if one == other:
                    raise PoisonError(Reason.INVALID_VALUE, "a word on one identity only")
                word = Word(number, operation.allow, operation.operator, operation.note, at)
                effects.send(IDENTITY, one, encode(Said(other, word)))
            case SetMark():
                reason = Refused.SHARED if operation.shared else None
                mark = Mark(number, reason, operation.operator, operation.note, at)
                effects.send(IDENTITY, _token(operation.identity), encode(Marked(mark)))
            case SetRules(rules, text, operator):
                ruled = encode(Ruled(number, rules, operator, at, text))
                effects.broadcast(IDENTITY, bytes(KEY_BYTES), ruled)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """No state, no rows of state."""


def _token(text: str) -> bytes:
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != KEY_BYTES:
        raise PoisonError(Reason.INVALID_VALUE, "not the token of an identity")
    return token


def attach(app: App) -> None:
    """Run operate over the log of operations."""
    app.run(Operate(), (OPERATIONS,), stateful=False)
