"""What an identity keeps: its links, the latest words of operators, its root and its customer.

Evidence only grows: a link keeps the earliest sight of each sort, and of words the latest counts.
So order, duplicates and replays do not matter.
"""

from collections.abc import Iterable

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
    """Who wants it forgotten, while its root has not let it go yet."""
    own: int | None = None
    """Its earliest sight that does not stand with a link: as the strongest identity of a
    touchpoint, or with an identity that keeps the link alone."""
    crowded: bool = False
    """A link that would join was left to its other end because there are too many. So it stays
    shared, should some of those it keeps be erased, until other rules make all ends speak again."""

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
        """Whether what happened at `at` (ms) was erased.

        Who goes only because a neighbour was erased forgets nothing that comes from others.
        """
        return bool(self.going and self.going.number) or at < self.erased

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
        return Refused.SHARED if self.crowded or self._has_too_many(rules) else None

    def _has_too_many(self, rules: Rules) -> bool:
        if len(self.links) <= rules.kind(self.kind).max_links:
            return False
        bonds = [other for other in self.links if isinstance(self.judge(other, rules), Bond)]
        return is_shared(self.kind, bonds, rules)

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

        So it is when we have too many and it does not, or when we have as many links that cannot
        join. `alone` is of the other end, as far as we know.
        """
        link = self.links.get(other)
        if link is not None:
            return link
        joins = isinstance(judge(self.kind, kind, sights, rules), Bond)
        if self.alone and not alone and (self.crowded or self._has_too_many(rules)):
            self.crowded |= joins
            return None
        if not joins and len(self.links) > 2 * rules.kind(self.kind).max_links:
            return None
        link = self.links[other] = Link(kind, {})
        return link

    def stay(self) -> bool:
        """Take back that it was to go, as if it had never been seen; True when it was to go."""
        was_going = self.going is not None
        if was_going:
            self.going = self.first_seen = None
        return was_going

    def partners(self, rules: Rules) -> Iterable[Token]:
        """Whom a link or a word of an operator joins it to, as far as it can tell."""
        if self.first_seen is None:
            return [other for other, word in self.words.items() if word.allow]
        return self.weigh(rules)[0].neighbours()

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
