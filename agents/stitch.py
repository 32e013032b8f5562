"""Stitch: touches in, one customer per person out; facts and identities to ClickHouse.

An agent over one log keyed by identity. `identity.py` says what an identity does with a message,
`root.py` how linked identities are decided on, `resolution.py` who is one customer.
"""

from touchstream.agents.evidence import decode_vertex
from touchstream.agents.forgetting import erase, forget_if_let_go, forgotten
from touchstream.agents.identity import Identity
from touchstream.agents.identity_messages import (
    Absorb,
    Alone,
    Assign,
    Decline,
    Erase,
    Forgotten,
    Grant,
    IdentityMessage,
    Join,
    Link,
    Marked,
    Meet,
    Report,
    Ruled,
    Said,
    Sweep,
    Touch,
    decode_identity,
    encode,
)
from touchstream.agents.identity_rows import identity_row, rules_row
from touchstream.agents.resolution import Token
from touchstream.agents.rules import Rules
from touchstream.agents.rules_file import default_rules
from touchstream.agents.turn import RULING, VERTEX, Ruling, Turn, decode_ruling
from touchstream.streams.app import App
from touchstream.streams.effects import Effects
from touchstream.streams.internal import unframe
from touchstream.streams.positions import is_new
from touchstream.streams.records import Record
from touchstream.streams.state import State
from touchstream.streams.tables import IDENTITIES, RULES
from touchstream.streams.topics import IDENTITY

NOBODY = bytes(16)
"""Key of records that are for a partition, not for an identity."""
SWEPT_AT_ONCE = 1_000
"""Identities that are judged again, about, for one record."""
MOST_SLOTS = 256
"""Every record of a sweep looks at every key, so a large partition takes more at once."""


class Stitch:
    """The stage: keeps a vertex for each identity, and a component at each root."""

    name = "stitch"

    def __init__(self, rules: Rules) -> None:
        """`rules` hold until an operator applies others."""
        self._first = Ruling(0, rules, "", 0)

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Take one record of `cx.identity`."""
        identity, value, body = unframe(record)
        message = decode_identity(body)
        if not is_new(value, state):
            effects.count("replayed")
            return
        match message:
            case Ruled():
                self._rule(message, record, state, effects)
            case Sweep():
                self._sweep(message, record, state, effects)
            case _:
                self._tell(identity, message, record, state, effects)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """Rows are written as identities change."""

    def _tell(
        self,
        identity: Token,
        message: IdentityMessage | None,
        record: Record,
        state: State,
        effects: Effects,
    ) -> None:
        """Give one identity its turn; without a message it only renews itself."""
        vertex = state.get(VERTEX + identity, decode_vertex)
        ruling = state.get(RULING, decode_ruling) or self._first
        version = vertex.version if vertex else 0
        turn = Turn(identity, vertex, record, state, effects, ruling)
        receiver = Identity(turn)
        receiver.renew()
        match message:
            case Touch():
                receiver.touch(message)
            case Link():
                receiver.link(message)
            case Said():
                receiver.said(message)
            case Marked():
                receiver.marked(message)
            case Erase():
                erase(receiver, message)
            case Forgotten():
                forgotten(receiver, message)
            case Alone():
                receiver.alone(message)
            case Assign():
                receiver.assign(message)
            case Report() | Meet() | Join() | Absorb() | Decline() | Grant():
                receiver.refer(message)
        forget_if_let_go(turn)
        vertex = turn.vertex
        if vertex and vertex.customer is not None and vertex.version != version:
            effects.upsert(IDENTITIES, identity, identity_row(identity, vertex))

    def _rule(self, ruled: Ruled, record: Record, state: State, effects: Effects) -> None:
        """Take new rules, and begin to judge all identities of this partition again."""
        current = state.get(RULING, decode_ruling) or self._first
        if ruled.number <= current.number:
            return
        state.put(RULING, Ruling(ruled.number, ruled.rules, ruled.operator, ruled.said_at))
        effects.insert(RULES, rules_row(ruled))
        slots = min(1 + len(state.keys(VERTEX)) // SWEPT_AT_ONCE, MOST_SLOTS)
        self._sweep(Sweep(ruled.number, 0, slots), record, state, effects)

    def _sweep(self, sweep: Sweep, record: Record, state: State, effects: Effects) -> None:
        current = state.get(RULING, decode_ruling) or self._first
        if sweep.number != current.number:
            return
        slot, slots = sweep.slot, sweep.slots
        for key in state.keys(VERTEX, lambda key: int.from_bytes(key[-4:], "big") % slots == slot):
            self._tell(key[len(VERTEX) :], None, record, state, effects)
        if sweep.slot + 1 < sweep.slots:
            onward = encode(Sweep(sweep.number, sweep.slot + 1, sweep.slots))
            effects.send_to(IDENTITY, record.partition, NOBODY, onward)


def attach(app: App) -> None:
    """Run stitch over the identity log."""
    app.run(Stitch(default_rules()), (IDENTITY,))
