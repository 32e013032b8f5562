"""What an identity keeps: its links, the latest words of operators, its root and its customer.

Evidence only grows: a link keeps the earliest sight of each sort, and of words the latest counts.
So order, duplicates and replays do not matter.
"""

import msgspec

from touchstream.agents.judgement import Bond, Refused, Sights, is_shared, judge
from touchstream.agents.resolution import Member, Token, Verdict, Word
from touchstream.agents.rules import Rules


class Link(msgspec.Struct, array_like=True):
    """What one end knows of a link."""

    kind: str
    """Of the other end."""
    sights: Sights
    alone: Refused | None = None
    """Why the other end links no one, if so."""

    def see(self, sights: Sights) -> bool:
        """Take sights; True when one is new or earlier than known."""
        news = False
        for how, seen in sights.items():
            if how not in self.sights or seen < self.sights[how]:
                self.sights[how] = seen
                news = True
        return news


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """An operator's word on one identity; the latest counts."""

    number: int
    """Place in the log of operations."""
    reason: Refused | None
    """SHARED or ERASED: it links no one; None: nothing is special about it."""
    operator: str
    note: str
    said_at: int


class Vertex(msgspec.Struct, array_like=True):
    """One identity."""

    root: Token
    kind: str = ""
    first_seen: int | None = None
    """None: only an operator has spoken of it."""
    links: dict[Token, Link] = {}
    words: dict[Token, Word] = {}
    mark: Mark | None = None
    alone: Refused | None = None
    """Why it links no one, if so."""
    customer: Token | None = None
    version: int = 0
    """Grows with every change of customer or first sight."""
    revision: int = 0
    """Grows with everything that is told: reports to the root, refused links to ClickHouse."""
    term: int = 0
    """Of the last assignment."""
    refused: dict[Token, Verdict] = {}
    """Links that the root refused."""
    shown: dict[Token, Verdict] = {}
    """All refused links, as they stand in ClickHouse."""
    rules: int = 0
    """Number of the rules it was judged under."""
    changed_at: int = 0
    erased: int = 0
    """What happened before this moment (ms) was erased, and is not taken again."""
    erasure: int = 0
    """Place of the latest erasure in the log of operations."""
    going: Mark | None = None
    """Why it is to be forgotten, while its root has not let it go yet: it was erased (number of the
    operation), or a neighbour was, and it is known from nothing else (0)."""
    own: int | None = None
    """Its earliest sight that does not stand with a link: as the strongest identity of a
    touchpoint, or with an identity that keeps the link alone."""

    def see(self, kind: str, time: int) -> bool:
        """The identity was seen at `time`; True when that is earlier than known."""
        if self.first_seen is not None and time >= self.first_seen:
            return False
        self.kind, self.first_seen = kind, time
        self.version += 1
        return True

    @property
    def is_bare(self) -> bool:
        """Whether nothing is known of it but that it was erased."""
        known = self.links or self.words or self.refused or self.shown or self.mark or self.going
        return not known and self.first_seen is None and self.customer is None

    def forgets(self, at: int) -> bool:
        """Whether what happened at `at` (ms) was erased."""
        return at < self.erased or bool(self.going and self.going.number)

    def stand(self, time: int) -> bool:
        """It was seen at `time`, whatever its links say; True when that is earlier than known."""
        if self.own is not None and time >= self.own:
            return False
        self.own = time
        return True

    def first_sight(self) -> int | None:
        """When it was seen first, by all that is known now; None when it never was."""
        times = [time for link in self.links.values() for time, _ in link.sights.values()]
        return min(times if self.own is None else [*times, self.own], default=None)

    def judge(self, other: Token, rules: Rules) -> Bond | Refused:
        """What the link to `other` is worth, whoever is shared."""
        link = self.links[other]
        return judge(self.kind, link.kind, link.sights, rules)

    def take(self, mark: Mark) -> bool:
        """Take an operator's mark; False when it changes nothing."""
        if self.mark and self.mark.number >= mark.number:
            return False
        self.mark = mark
        return True

    def why_alone(self, rules: Rules) -> Refused | None:
        """Why it must link no one, if so: an operator said it, or it is linked to too many."""
        if self.going:
            return Refused.ERASED
        if self.mark and self.mark.reason:
            return self.mark.reason
        limit = rules.kind(self.kind).max_links
        bonds: list[Token] | dict[Token, Link] = self.links
        if len(self.links) > limit:
            bonds = [other for other in self.links if isinstance(self.judge(other, rules), Bond)]
        return Refused.SHARED if is_shared(self.kind, bonds, rules) else None

    def joins(self, other: Token, rules: Rules) -> bool:
        """Whether the link to `other` may join, as far as the two ends can tell."""
        link = self.links.get(other)
        if link is None or link.alone or self.alone:
            return False
        return isinstance(self.judge(other, rules), Bond)

    def keep(
        self, other: Token, kind: str, sights: Sights, rules: Rules, alone: Refused | None = None
    ) -> Link | None:
        """The link to `other`, made if need be; None when the other end has to keep it.

        So it is when we are shared and it is not, or when we have as many links that cannot join.
        `alone` is of the other end, as far as we know.
        """
        link = self.links.get(other)
        if link is not None or (self.alone and not alone):
            return link
        link = Link(kind, {})
        if len(self.links) <= 2 * rules.kind(self.kind).max_links or isinstance(
            judge(self.kind, kind, sights, rules), Bond
        ):
            self.links[other] = link
            return link
        return None

    def weigh(self, rules: Rules) -> tuple[Member, dict[Token, Verdict]]:
        """What the root decides on, and the links that cannot join whatever it decides."""
        bonds: dict[Token, Bond] = {}
        refused: dict[Token, Verdict] = {}
        for other, link in self.links.items():
            reason = self.alone or link.alone
            judged = self.judge(other, rules)
            if not isinstance(judged, Bond):
                refused[other] = Verdict(judged)
            elif reason:
                refused[other] = Verdict(reason)
            else:
                bonds[other] = judged
        assert self.first_seen is not None
        alone = self.alone is not None
        return Member(self.kind, self.first_seen, bonds, dict(self.words), alone), refused


decode_vertex = msgspec.msgpack.Decoder(Vertex).decode
