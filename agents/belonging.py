"""An identity and its customer: touches go to the customer of the moment; activity moves along.

The identity alone writes which customer it has, with a version, so whatever arrives late is known
to be late.
"""

from touchstream.agents.customer_messages import (
    NOWHERE,
    Activity,
    Arrive,
    CustomerMessage,
    Move,
    Touched,
    encode,
)
from touchstream.agents.evidence import Vertex
from touchstream.agents.facts import event_key, event_of, fact_row
from touchstream.agents.identity_messages import Cause, Touch
from touchstream.agents.identity_rows import change_row, override_row
from touchstream.agents.resolution import Token
from touchstream.agents.turn import Turn
from touchstream.streams.tables import CHANGES, FACTS, OVERRIDES
from touchstream.streams.topics import CUSTOMER


def become(turn: Turn, customer: Token, cause: Cause) -> None:
    """Belong to `customer` from now on, and take the activity along."""
    vertex, effects = _vertex(turn), turn.effects
    former, vertex.customer = vertex.customer, customer
    if former == customer:
        return
    vertex.version += 1
    turn.save(vertex)
    if former is None:
        effects.count("identities")
        _send(turn, customer, Arrive(turn.identity, Activity(vertex.kind)))
        return
    effects.count("moves")
    effects.repaired(cause.at)
    effects.insert(CHANGES, change_row(turn, former, cause))
    effects.insert(OVERRIDES, override_row(turn.identity, vertex))
    _send(turn, former, Move(turn.identity, customer))


def forward(turn: Turn, touch: Touch) -> None:
    """The fact to ClickHouse, the event to the customer."""
    vertex, record = _vertex(turn), turn.record
    assert vertex.customer is not None
    turn.effects.insert(FACTS, fact_row(touch, turn.identity, vertex, record))
    key = event_key(touch.channel, touch.event_id)
    event = Touched(turn.identity, vertex.kind, key, event_of(touch))
    _send(turn, vertex.customer, event)


def vanish(turn: Turn) -> None:
    """Belong to nobody from now on; the activity is thrown away."""
    vertex = _vertex(turn)
    former, vertex.customer = vertex.customer, None
    assert former is not None
    vertex.version += 1
    _send(turn, former, Move(turn.identity, NOWHERE))


def _vertex(turn: Turn) -> Vertex:
    assert turn.vertex is not None
    return turn.vertex


def _send(turn: Turn, customer: Token, message: CustomerMessage) -> None:
    turn.effects.send(CUSTOMER, customer, encode(message))
