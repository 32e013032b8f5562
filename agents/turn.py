"""One message to one identity: what an identity and a root have at hand while they answer it."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from touchstream.agents.customer_messages import customer_name
from touchstream.agents.evidence import Vertex
from touchstream.agents.identity_messages import Cause, IdentityMessage, encode
from touchstream.agents.resolution import Token
from touchstream.agents.rules import Rules
from touchstream.streams.alerts import Evidence
from touchstream.streams.effects import Effects
from touchstream.streams.records import Record
from touchstream.streams.state import State
from touchstream.streams.topics import IDENTITY

VERTEX = b"\x02"
COMPONENT = b"\x03"
RULING = b"\x04"


class Ruling(msgspec.Struct, array_like=True, frozen=True):
    """The rules of a partition, and who set them."""

    number: int
    rules: Rules
    operator: str
    said_at: int


decode_ruling: Callable[[bytes], Ruling] = msgspec.msgpack.Decoder(Ruling).decode


@dataclass(slots=True)
class Turn:
    """The receiver and everything it may touch."""

    identity: Token
    vertex: Vertex | None
    record: Record
    state: State
    effects: Effects
    ruling: Ruling

    @property
    def rules(self) -> Rules:
        """Rules in force."""
        return self.ruling.rules

    def send(self, identity: Token, message: IdentityMessage) -> None:
        """Tell another identity."""
        self.effects.count("graph_messages")
        self.effects.send(IDENTITY, identity, encode(message))

    def save(self, vertex: Vertex) -> None:
        """Keep the vertex."""
        self.vertex = vertex
        vertex.changed_at = self.record.timestamp_ms
        self.state.put(VERTEX + self.identity, vertex)

    def alert(self, kind: str, reason: str, cause: Cause, evidence: Evidence) -> None:
        """Tell whoever watches; once for each cause."""
        name, customer = self.identity.hex(), self.vertex.customer if self.vertex else None
        self.effects.alert(
            kind,
            reason,
            cause=(name, cause.what, str(cause.at)),
            customer=customer_name(customer) if customer else None,
            identity=name,
            evidence={**evidence, "cause": cause.what},
        )
