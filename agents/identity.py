"""An identity: takes touches, links and words, tells its root, and follows its root's decision.

What it sees becomes evidence at both ends of a link. A link that is new to the other end is asked
to be decided together by that end.
"""

from touchstream.agents.belonging import become, forward
from touchstream.agents.component import Ask
from touchstream.agents.evidence import Link, Vertex
from touchstream.agents.identity_messages import (
    Absorb,
    Alone,
    Assign,
    Cause,
    Decline,
    Forgotten,
    Grant,
    Join,
    Marked,
    Meet,
    Report,
    Said,
    Touch,
)
from touchstream.agents.identity_messages import Link as LinkMessage
from touchstream.agents.identity_rows import (
    mark_row,
    refused_row,
    sight_row,
    word_row,
)
from touchstream.agents.judgement import Bond, Refused, Sights
from touchstream.agents.resolution import Token, Verdict
from touchstream.agents.root import Root, declined
from touchstream.agents.turn import Turn
from touchstream.streams.tables import LINKS, MARKS, REFUSED, WORDS

ToRoot = Report | Meet | Join | Absorb | Decline | Grant
LOCAL = (Refused.CHANNEL, Refused.UNVERIFIED, Refused.SHARED, Refused.ERASED)
"""What an identity refuses without its root."""


class Identity:
    """Acts for the identity of a turn."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.me = turn.identity
        self.vertex = turn.vertex or Vertex(turn.identity, rules=turn.ruling.number)

    def touch(self, touch: Touch) -> None:
        """A touchpoint: its links are evidence, the touch itself goes to the customer."""
        turn, vertex = self.turn, self.vertex
        if vertex.forgets(min(touch.occurred_at, touch.received_at)):
            turn.effects.count("suppressed")
            return
        source = f"touchpoint {touch.channel}/{touch.event_id}"
        cause = Cause(source, touch.channel, turn.record.timestamp_ms)
        self._stay(cause)
        asks, news = self._open(touch.kind, touch.occurred_at)
        if vertex.stand(touch.occurred_at) and not news:
            turn.save(vertex)
        seen = (touch.occurred_at, touch.event_id)
        for kind, other, verified in touch.others:
            sights = {(touch.channel, touch.verified, verified): seen}
            news |= self._link(kind, other, sights, cause)
        if news:
            self.report(asks, cause)
        if vertex.customer is None:
            become(turn, self.me, cause)
        forward(turn, touch)

    def link(self, link: LinkMessage) -> None:
        """A neighbour saw us together."""
        vertex, rules = self.vertex, self.turn.rules
        if vertex.forgets(max(time for time, _ in link.sights.values())):
            self.turn.send(link.other, Forgotten(self.me, link.cause))
            return
        time = min(time for time, _ in link.sights.values())
        self._stay(link.cause)
        asks, news = self._open(link.kind, time)
        known = self._keep(link.other, link.other_kind, link.sights, link.alone)
        fresh = known is not None and known.see(link.sights) | (known.alone != link.alone)
        if known is not None:
            known.alone = link.alone
        elif vertex.stand(time):
            self.turn.save(vertex)
        self.notice(link.cause)
        if fresh and vertex.joins(link.other, rules):
            asks = [*asks, Ask(self.me, link.other, link.root)]
        if vertex.alone != link.believed or (vertex.alone and vertex.rules < link.rules):
            self.turn.send(link.other, self._alone(link.cause))
        if link.alone and link.rules < vertex.rules and known:
            self._announce(link.other, known.sights, link.cause)  # it has older rules than we
        if news or fresh:
            self.report(asks, link.cause)

    def said(self, said: Said) -> None:
        """An operator's word on us and another identity."""
        vertex, word = self.vertex, said.word
        if vertex.forgets(word.said_at):
            self.turn.send(said.other, Forgotten(self.me, Cause("erased", "", word.said_at)))
            return
        known = vertex.words.get(said.other)
        if known is not None and known.number >= word.number:
            return
        vertex.words[said.other] = word
        cause = Cause("allowed" if word.allow else "denied", word.operator, word.said_at)
        if said.root is None:
            self.turn.send(said.other, Said(self.me, word, vertex.root))
            self.turn.effects.insert(WORDS, word_row(self.me, said.other, word))
        self.turn.save(vertex)
        if vertex.first_seen is not None:
            self.report([Ask(self.me, said.other, said.root)] if word.allow else [], cause)

    def marked(self, marked: Marked) -> None:
        """An operator's word on us alone."""
        turn, vertex, mark = self.turn, self.vertex, marked.mark
        if not vertex.take(mark):
            return
        cause = Cause(f"marked {mark.reason or 'as usual'}", mark.operator, mark.said_at)
        turn.effects.insert(MARKS, mark_row(self.me, mark))
        self.notice(cause)
        turn.save(vertex)
        if vertex.first_seen is not None:
            self.report([], cause)

    def alone(self, alone: Alone) -> None:
        """A neighbour links no one from now on, or does again."""
        link = self.vertex.links.get(alone.other)
        if link is None:
            if self.vertex.erased:
                self.turn.send(alone.other, Forgotten(self.me, alone.cause))
            return
        former, link.alone = link.alone, alone.alone
        if alone.alone and alone.rules < self.vertex.rules:
            self._announce(alone.other, link.sights, alone.cause)  # it has older rules than we
        if former != link.alone:
            asks = [] if link.alone else [Ask(self.me, alone.other, alone.root)]
            self.report(asks, alone.cause)

    def assign(self, assign: Assign) -> None:
        """The root's decision."""
        vertex = self.vertex
        if assign.term <= vertex.term:
            return
        former, vertex.root = vertex.root, assign.root
        vertex.term = assign.term
        if former == self.me != assign.root:
            Root(self.turn).hand_over(assign.root, assign.cause)
        if vertex.refused != assign.refused:
            vertex.refused = assign.refused
            vertex.revision += 1
            self._show(self.vertex.weigh(self.turn.rules)[1])
        self.turn.save(vertex)
        become(self.turn, assign.customer, assign.cause)
        if former != assign.root and assign.revision < vertex.revision:
            self.report(self._all_asks(), assign.cause)

    def refer(self, message: ToRoot) -> None:
        """A message for a root: to ours if we are none."""
        turn, vertex = self.turn, self.vertex
        if isinstance(message, Grant):
            vertex.root = self.me
            turn.save(vertex)
        elif vertex.first_seen is None or (vertex.alone and isinstance(message, Meet)):
            if isinstance(message, Join | Absorb):
                turn.send(*declined(message))
            return
        elif vertex.root != self.me:
            turn.send(vertex.root, message)
            return
        root = Root(turn)
        root.take(message)
        self._close(root)
        if isinstance(message, Grant) and message.seats[self.me].revision < vertex.revision:
            self.report(self._all_asks(), message.cause)

    def renew(self) -> None:
        """Judge everything again if the rules of the partition are new."""
        vertex, rules, ruling = self.vertex, self.turn.rules, self.turn.ruling
        if vertex.rules >= ruling.number or vertex.first_seen is None:
            return
        vertex.rules, vertex.crowded = ruling.number, False
        cause = Cause(f"rules {ruling.number}", ruling.operator, ruling.said_at)
        asks = []
        self.notice(cause)
        for other, verdict in vertex.shown.items():
            if verdict.reason in LOCAL and isinstance(vertex.judge(other, rules), Bond):
                self._announce(other, vertex.links[other].sights, cause)
                asks.append(Ask(self.me, other))
        self.report(asks, cause)
        if vertex.root == self.me:
            root = Root(self.turn)
            root.renew(cause)
            self._close(root)

    def _stay(self, cause: Cause) -> None:
        """Seen again while we were about to go with a neighbour: we stay, as if seen first now."""
        if self.vertex.stay():
            self.notice(cause)

    def _open(self, kind: str, time: int) -> tuple[list[Ask], bool]:
        """Seen at `time`; True when we are new or were never seen as early."""
        asks = [] if self.vertex.first_seen is not None else self._all_asks()
        news = self.vertex.see(kind, time)
        if news:
            self.turn.save(self.vertex)
        return asks, news

    def _link(self, kind: str, other: Token, sights: Sights, cause: Cause) -> bool:
        """Take what a touch says of a link; True when it changes what we know."""
        turn, vertex = self.turn, self.vertex
        known = len(vertex.links)
        link = self._keep(other, kind, sights)
        if len(vertex.links) > known:
            turn.effects.count("links")
        if link is not None and not link.see(sights):
            return False
        self.notice(cause)
        self._announce(other, sights, cause, kind)
        for how, seen in sights.items():
            turn.effects.insert(LINKS, sight_row(self.me, vertex.kind, other, kind, how, seen))
        return link is not None

    def _keep(
        self, other: Token, kind: str, sights: Sights, alone: Refused | None = None
    ) -> Link | None:
        was_crowded = self.vertex.crowded
        link = self.vertex.keep(other, kind, sights, self.turn.rules, alone)
        if self.vertex.crowded != was_crowded:
            self.turn.save(self.vertex)
        return link

    def _announce(self, other: Token, sights: Sights, cause: Cause, kind: str = "") -> None:
        """Tell the other end."""
        vertex = self.vertex
        swapped = {(channel, b, a): seen for (channel, a, b), seen in sights.items()}
        link = vertex.links.get(other)
        believed, kind = (link.alone, link.kind) if link else (None, kind)
        ours = (self.me, vertex.kind, swapped, vertex.root, vertex.alone)
        self.turn.send(other, LinkMessage(kind, *ours, believed, vertex.rules, cause))

    def _alone(self, cause: Cause) -> Alone:
        vertex = self.vertex
        return Alone(self.me, vertex.alone, vertex.root, vertex.rules, cause)

    def notice(self, cause: Cause) -> None:
        """Notice whether we are linked to too many, and tell all who are linked to us."""
        turn, vertex = self.turn, self.vertex
        alone = vertex.why_alone(turn.rules)
        if alone == vertex.alone:
            return
        vertex.alone = alone
        for other in vertex.links:
            turn.send(other, self._alone(cause))
        if alone == Refused.SHARED:
            turn.effects.count("shared")
            links = len(vertex.links)
            reason = f"This {vertex.kind} is linked to {links} others and joins no one from now on."
            turn.alert("shared", reason, cause, {"kind": vertex.kind, "links": links})

    def _all_asks(self) -> list[Ask]:
        """Every link that joins, and every word that does."""
        return [Ask(self.me, other) for other in self.vertex.partners(self.turn.rules)]

    def report(self, asks: list[Ask], cause: Cause) -> None:
        """Tell the root, which may be ourselves."""
        vertex = self.vertex
        vertex.revision += 1
        member, refused = vertex.weigh(self.turn.rules)
        self._show(refused)
        self.turn.save(vertex)
        report = Report(self.me, vertex.revision, member, asks, cause)
        if vertex.root == self.me and not asks and Root.is_needless(self.turn, member):
            become(self.turn, self.me, cause)
        elif vertex.root == self.me:
            root = Root(self.turn)
            root.report(report)
            self._close(root)
        else:
            self.turn.send(vertex.root, report)

    def _close(self, root: Root) -> None:
        root.close()
        for assign in root.assignments:
            self.assign(assign)

    def _show(self, refused: dict[Token, Verdict]) -> None:
        """Write the links that are refused now, and those that no longer are."""
        turn, vertex = self.turn, self.vertex
        refused = refused | vertex.refused
        for other in sorted(vertex.shown.keys() | refused.keys()):
            former, verdict = vertex.shown.get(other), refused.get(other)
            if former == verdict:
                continue
            turn.effects.insert(REFUSED, refused_row(turn, other, verdict))
            if verdict and (self.me < other or verdict.reason == Refused.SHARED):
                turn.effects.count("refused", verdict.reason)
        vertex.shown = refused
