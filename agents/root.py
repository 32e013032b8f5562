"""A root: the smallest of the identities that are decided together; it decides.

Two roots whose identities are linked become one: the larger asks the smaller to take all its seats,
and decides nothing until it has the answer. As roots only ever wait for smaller ones, nobody waits
in a circle. Where a link goes away, the root grants the part that is no longer connected a root of
its own. So what is decided together is what is connected, and never more than the rules allow.
"""

from collections.abc import Iterable

from touchstream.agents.component import Ask, Component, Seat, decode_component, linked
from touchstream.agents.decision import decide
from touchstream.agents.identity_messages import (
    Absorb,
    Assign,
    Cause,
    Decline,
    Grant,
    Join,
    Meet,
    Report,
)
from touchstream.agents.resolution import Member, Token
from touchstream.agents.turn import COMPONENT, Turn

COUNT_FIRST = 32
"""A root of more identities than this asks for room before it sends them."""


class Root:
    """Acts for the identity of a turn that is its own root."""

    def __init__(self, turn: Turn) -> None:
        assert turn.vertex is not None
        self._turn = turn
        self._me = turn.identity
        key = COMPONENT + turn.identity
        self._component = turn.state.get(key, decode_component) or Component({})
        if not self._component.seats:
            vertex = turn.vertex
            told = (vertex.revision, vertex.term, vertex.customer, vertex.refused)
            self._component.seats[self._me] = Seat(vertex.weigh(turn.rules)[0], *told)
        self._parked_by: Cause | None = None
        self._had_parked = bool(self._component.parked)
        self.assignments: list[Assign] = []
        """To ourselves."""

    @staticmethod
    def is_needless(turn: Turn, member: Member) -> bool:
        """Whether there is nothing to decide: no link, and nobody else."""
        if member.bonds or member.words:
            return False
        return turn.state.get(COMPONENT + turn.identity, decode_component) is None

    @property
    def _seats(self) -> dict[Token, Seat]:
        return self._component.seats

    @property
    def waiting(self) -> bool:
        """Whether a smaller root was asked to take over."""
        return self._component.waiting

    def close(self) -> None:
        """Keep the component, unless there is nothing in it but ourselves."""
        component = self._component
        if self._parked_by and not self.waiting:
            self._decide(self._parked_by)
        alone = len(self._seats) == 1 and not component.waiting and not component.parked
        self._turn.state.put(COMPONENT + self._me, None if alone else component)

    def take(self, message: Report | Meet | Join | Absorb | Decline | Grant) -> None:
        """Answer a message for a root."""
        match message:
            case Report():
                self.report(message)
            case Meet():
                self._meet(message)
            case Join():
                self._join(message)
            case Absorb():
                self._absorb(message)
            case Decline():
                self._declined(message)
            case Grant():
                self._grant(message)

    def report(self, report: Report) -> None:
        """A member has changed."""
        seat = self._seats.get(report.identity)
        if seat is None:
            return
        former = seat.member
        if report.revision >= seat.revision:
            seat.member, seat.revision = report.member, report.revision
            if self._component.unpark():
                self._parked_by = report.cause
        if self.waiting:
            self._component.late.add(report.identity)
            self._component.todo += report.asks
            return
        for ask in report.asks:
            self._follow(ask, report.cause)
        if seat.customer is None or self._component.concerns(former, seat.member):
            self._decide(report.cause)

    def renew(self, cause: Cause) -> None:
        """The rules have changed."""
        if not self.waiting:
            self._decide(cause)
            self._follow_all(cause)

    def _meet(self, meet: Meet) -> None:
        """Somebody wants to be decided together with one of ours."""
        ask = meet.ask.flipped()
        if ask.root == self._me or ask.one not in self._seats:
            return
        if self.waiting:
            self._component.todo.append(ask)
        elif meet.fits and ask.root is not None and ask.root < self._me:
            self._ask_to_be_taken(ask, meet.cause)
        else:
            self._follow(ask, meet.cause)

    def _join(self, join: Join) -> None:
        """A larger root asks whether there is room."""
        ask = join.ask.flipped()
        if ask.one not in self._seats or self.waiting:
            self._postpone(ask, absorb=False, cause=join.cause)
        elif self._has_room(join.size):
            self._turn.send(_peer(ask), Meet(ask.asked_by(self._me), True, join.cause))
        else:
            self._refuse(ask, absorb=False, cause=join.cause)

    def _absorb(self, absorb: Absorb) -> None:
        """A larger root hands over its seats."""
        ask = absorb.ask.flipped()
        if ask.one not in self._seats or self.waiting:
            self._postpone(ask, absorb=True, cause=absorb.cause)
        elif not linked(ask, self._seats[ask.one], absorb.seats[ask.other]):
            self._decline(ask, full=False, absorb=True, cause=absorb.cause)
        elif not self._has_room(len(absorb.seats)):
            self._refuse(ask, absorb=True, cause=absorb.cause)
        else:
            self._seats.update(absorb.seats)
            self._component.parked.update(absorb.parked)
            self._decide(absorb.cause, absorb.seats)

    def _declined(self, decline: Decline) -> None:
        """A smaller root has not taken us."""
        component = self._component
        if decline.full and decline.ask.one in self._seats:
            self._park(decline.ask, decline.cause)
        if decline.absorb:
            component.waiting = False
            todo, component.todo, component.late = component.todo, [], set()
            for ask in todo:
                self._follow(ask, decline.cause)
            self._decide(decline.cause)

    def _grant(self, grant: Grant) -> None:
        """Be the root of these from now on; if we waited, that was the answer."""
        former = self._component
        self._component = Component(dict(grant.seats))
        if former.waiting:
            self._send_late(former, grant.root, grant.cause)
        todo, self._component.todo = self._component.todo, []
        self._decide(grant.cause, grant.seats)
        self._follow_all(grant.cause)
        for ask in todo:
            self._follow(ask, grant.cause)

    def hand_over(self, root: Token, cause: Cause) -> None:
        """We were taken by `root`: it gets what came in while we waited."""
        former, self._component = self._component, Component({})
        self._send_late(former, root, cause)
        self._turn.state.put(COMPONENT + self._me, None)

    def _send_late(self, former: Component, root: Token, cause: Cause) -> None:
        """What came in while we waited: keep what is ours now, and pass on the rest."""
        for identity in sorted(former.late):
            seat, ours = former.seats[identity], self._seats.get(identity)
            if ours is not None:
                ours.member, ours.revision = seat.member, seat.revision
            else:
                self._turn.send(root, Report(identity, seat.revision, seat.member, [], cause))
        for ask in former.todo:
            if ask.one in self._seats:
                self._component.todo.append(ask)
            elif ask.root is None:
                self._turn.send(ask.other, Meet(Ask(ask.one, ask.other, root), False, cause))
            else:
                self._turn.send(root, Meet(ask.flipped(), False, cause))

    def _decide(self, cause: Cause, new: Iterable[Token] = ()) -> None:
        """Decide anew; `new` identities are told in any case."""
        if self.waiting:
            return
        self._parked_by = None
        connected = decide(self._turn, self._component, cause, set(new), self.assignments)
        if not connected:
            self._follow_all(cause)

    def _follow_all(self, cause: Cause) -> None:
        """Follow every link that leads to somebody else's identity, parked or not."""
        if self._component.parked:
            self._component.parked.clear()
            self._parked_by = cause
        for identity, seat in self._seats.items():
            for other in seat.member.neighbours():
                self._follow(Ask(identity, other), cause)

    def _follow(self, ask: Ask, cause: Cause) -> None:
        """Have both ends of a link decided together."""
        turn = self._turn
        if ask.other in self._seats or ask.one not in self._seats:
            return
        if self.waiting:
            self._component.todo.append(ask)
        elif len(self._seats) >= turn.rules.max_component:
            self._park(ask, cause)
        elif ask.root is None:
            turn.send(ask.other, Meet(ask.asked_by(self._me), False, cause))
        elif ask.root > self._me:
            turn.send(ask.root, Meet(ask.asked_by(self._me), False, cause))
        elif ask.root < self._me and len(self._seats) > COUNT_FIRST:
            turn.send(ask.root, Join(ask.asked_by(self._me), len(self._seats), cause))
        elif ask.root < self._me:
            self._ask_to_be_taken(ask, cause)

    def _ask_to_be_taken(self, ask: Ask, cause: Cause) -> None:
        """Ask a smaller root to take us."""
        seats, parked = dict(self._seats), sorted(self._component.parked)
        self._turn.send(_peer(ask), Absorb(ask.asked_by(self._me), seats, parked, cause))
        self._component.waiting = True

    def _has_room(self, size: int) -> bool:
        return len(self._seats) + size <= self._turn.rules.max_component

    def _park(self, ask: Ask, cause: Cause) -> None:
        pair, parked = (ask.one, ask.other), self._component.parked
        if pair in parked:
            return
        self._parked_by = cause
        if not parked and not self._had_parked:
            size = len(self._seats)
            reason = f"{size} identities hang together: there is no room to join them with others."
            self._turn.alert("component_full", reason, cause, {"identities": size})
        parked.add(pair)

    def _refuse(self, ask: Ask, *, absorb: bool, cause: Cause) -> None:
        """There is no room: both ends keep the link and say so."""
        self._park(ask, cause)
        self._decline(ask, full=True, absorb=absorb, cause=cause)

    def _postpone(self, ask: Ask, *, absorb: bool, cause: Cause) -> None:
        """We cannot answer now, and come back to it when we know who we are."""
        if self.waiting:
            self._component.todo.append(ask)
        self._decline(ask, full=False, absorb=absorb, cause=cause)

    def _decline(self, ask: Ask, *, full: bool, absorb: bool, cause: Cause) -> None:
        answer = Decline(ask.flipped(), full, absorb, cause)
        self._turn.send(_peer(ask), answer)


def declined(message: Join | Absorb) -> tuple[Token, Decline]:
    """Answer of an identity that was never seen."""
    absorb = isinstance(message, Absorb)
    return _peer(message.ask), Decline(message.ask, False, absorb, message.cause)


def _peer(ask: Ask) -> Token:
    assert ask.root is not None
    return ask.root
