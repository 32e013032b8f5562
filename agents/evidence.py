"""What one identity knows: whom it was seen with, the smallest identity it can reach, its customer.

Evidence only grows and only minima are kept (the earliest sight of a link, the smallest root), so
order, duplicates and replays do not matter. The smallest identity of a connected component is its
root; it collects the component's evidence and decides. Roots are smallest by a keyed hash, so
nobody can choose to win.
"""

import msgspec

from touchstream.agents.messages import Sight, Token


class Vertex(msgspec.Struct, array_like=True):
    """One identity."""

    kind: str
    root: Token
    first_seen: int
    links: dict[Token, Sight] = {}
    customer: Token | None = None
    version: int = 0
    """Grows with every change of customer or first sight."""
    changed_at: int = 0

    def see(self, time: int) -> bool:
        """The identity was seen at `time`; True when that is earlier than known."""
        if time >= self.first_seen:
            return False
        self.first_seen = time
        self.version += 1
        return True

    def link(self, other: Token, seen: Sight) -> bool:
        """Seen together with `other`; True when that is new or earlier than known."""
        known = self.links.get(other)
        if known is not None and known <= seen:
            return False
        self.links[other] = seen
        return True


class Member(msgspec.Struct, array_like=True):
    """What the root knows of one identity of its component."""

    first_seen: int
    links: dict[Token, Sight]
    customer: Token | None = None
    """What the root has told it last."""


class Component(msgspec.Struct, array_like=True):
    """The evidence that a root has collected, by member."""

    members: dict[Token, Member] = {}

    def collect(self, identity: Token, first_seen: int, links: dict[Token, Sight]) -> None:
        """Take a report; evidence grows, minima stay."""
        member = self.members.get(identity)
        if member is None:
            self.members[identity] = Member(first_seen, dict(links))
            return
        member.first_seen = min(member.first_seen, first_seen)
        for other, seen in links.items():
            member.links[other] = min(seen, member.links.get(other, seen))


_vertex = msgspec.msgpack.Decoder(Vertex)
_component = msgspec.msgpack.Decoder(Component)
decode_vertex = _vertex.decode
decode_component = _component.decode
