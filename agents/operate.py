"""Operate: what operators say, from their log to the identities it is about.

An agent without state over `cx.operations`. A word goes to one of its two identities, which passes
it on; rules go to every partition of `cx.identity`. The place in the log is the order of them all.
"""

from touchstream.agents.evidence import Mark
from touchstream.agents.heard import Heard, follow
from touchstream.agents.identity_messages import Erase, Marked, Ruled, Said, encode
from touchstream.agents.judgement import Refused
from touchstream.agents.operations import (
    SetErased,
    SetMark,
    SetRules,
    SetWord,
    decode_operation,
)
from touchstream.agents.resolution import Token, Word
from touchstream.agents.suppressions import erased_until
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

    def __init__(self, heard: Heard | None = None) -> None:
        """`heard` knows what was erased later in the log, when the log is read again."""
        self._suppressions = (heard or Heard()).suppressions

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Pass on an operation."""
        if record.partition != 0:
            raise PoisonError(Reason.INVALID_VALUE, "operations stand in partition 0 only")
        number, at = record.offset + 1, record.timestamp_ms
        match decode_operation(record.value):
            case SetWord() as said:
                self._say(said, number, at, effects)
            case SetMark() as marked:
                self._mark(marked, number, at, effects)
            case SetErased() as erased:
                reason = None if erased.back else Refused.ERASED
                mark = Mark(number, reason, erased.operator, erased.note, at)
                erase = encode(Erase(mark, erased_until(erased, at)))
                for token in [_token(identity) for identity in erased.identities]:
                    effects.send(IDENTITY, token, erase)
            case SetRules(rules, text, operator):
                ruled = encode(Ruled(number, rules, operator, at, text))
                effects.broadcast(IDENTITY, bytes(KEY_BYTES), ruled)

    def _say(self, said: SetWord, number: int, at: int, effects: Effects) -> None:
        one, other = _token(said.one), _token(said.other)
        if one == other:
            raise PoisonError(Reason.INVALID_VALUE, "a word on one identity only")
        if self._outdated(one, number, effects) or self._outdated(other, number, effects):
            return
        word = Word(number, said.allow, said.operator, said.note, at)
        effects.send(IDENTITY, one, encode(Said(other, word)))

    def _mark(self, marked: SetMark, number: int, at: int, effects: Effects) -> None:
        identity = _token(marked.identity)
        if self._outdated(identity, number, effects):
            return
        reason = Refused.SHARED if marked.shared else None
        mark = Mark(number, reason, marked.operator, marked.note, at)
        effects.send(IDENTITY, identity, encode(Marked(mark)))

    def _outdated(self, identity: Token, number: int, effects: Effects) -> bool:
        """Whether it was said of an identity that was erased later."""
        outdated = self._suppressions.outdate(identity, number)
        if outdated:
            effects.count("suppressed")
        return outdated

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
    heard = Heard()
    follower = follow(app.settings, heard)
    follower.start()
    app.on_stop(follower.stop)
    app.run(Operate(heard), (OPERATIONS,), stateful=False)
