"""What a root keeps: a seat for each identity that it decides on, and the links that lead outside.

Every identity has a root, the smallest identity of those that are decided together. Tokens are a
keyed hash, so nobody can choose to be small.
"""

from collections.abc import Iterator, Mapping

import msgspec

from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Member, Pair, Token, Verdict


class Seat(msgspec.Struct, array_like=True):
    """What a root knows of one identity, and what it has told it."""

    member: Member
    revision: int
    term: int
    customer: Token | None = None
    refused: dict[Token, Verdict] = {}


class Ask(msgspec.Struct, array_like=True, frozen=True):
    """A link whose ends should be decided together."""

    one: Token
    """Our end."""
    other: Token
    root: Token | None = None
    """Root of the other end when last heard of; None: only the other end knows."""

    def flipped(self) -> "Ask":
        """The same link from the other end."""
        return Ask(self.other, self.one, self.root)

    def asked_by(self, root: Token) -> "Ask":
        """As `root`, which is the root of our end, sends it."""
        return Ask(self.one, self.other, root)


class Component(msgspec.Struct, array_like=True):
    """The identities that a root decides on."""

    seats: dict[Token, Seat]
    parked: set[Pair] = set()
    """Links (our end first) to identities for which there was no room."""
    waiting: bool = False
    """A smaller root was asked to take all seats, and has not answered: nothing is decided."""
    late: set[Token] = set()
    """Identities that reported while waiting."""
    todo: list[Ask] = []
    """Links to follow after waiting."""

    def parts(self) -> Iterator[dict[Token, Seat]]:
        """Seats that links connect."""
        edges: dict[Token, list[Token]] = {identity: [] for identity in self.seats}
        for identity, seat in self.seats.items():
            for other in seat.member.neighbours():
                there = self.seats.get(other)
                if there and not there.member.alone:
                    edges[identity].append(other)
                    edges[other].append(identity)
        while edges:
            start, near = edges.popitem()
            part = {start: self.seats[start]}
            while near:
                identity = near.pop()
                if identity not in part:
                    part[identity] = self.seats[identity]
                    near += edges.pop(identity)
            yield part

    def unpark(self) -> bool:
        """Forget parked links that no longer lead outside; True when there were any."""
        kept = {pair for pair in self.parked if self._leads_outside(*pair)}
        gone = len(self.parked) > len(kept)
        self.parked = kept
        return gone

    def _leads_outside(self, one: Token, other: Token) -> bool:
        seat = self.seats.get(one)
        return seat is not None and other not in self.seats and other in seat.member.neighbours()

    def refusals(self, refused: Mapping[Pair, Verdict]) -> dict[Token, dict[Token, Verdict]]:
        """Refused links by identity, at both ends, with those for which there was no room."""
        found: dict[Token, dict[Token, Verdict]] = {}
        for (one, other), verdict in refused.items():
            found.setdefault(one, {})[other] = verdict
            found.setdefault(other, {})[one] = verdict
        for one, other in sorted(self.parked):
            found.setdefault(one, {})[other] = Verdict(Refused.COMPONENT_FULL)
        return found

    def concerns(self, former: Member, member: Member) -> bool:
        """Whether a change of a member can change a decision here."""
        return self._view(former) != self._view(member)

    def _view(self, member: Member) -> Member:
        bonds = {other: bond for other, bond in member.bonds.items() if other in self.seats}
        return msgspec.structs.replace(member, bonds=bonds)


def linked(ask: Ask, one: Seat, other: Seat) -> bool:
    """Whether a link still connects the two ends of an ask."""
    if one.member.alone or other.member.alone:
        return False
    return ask.other in one.member.neighbours() or ask.one in other.member.neighbours()


decode_component = msgspec.msgpack.Decoder(Component).decode
