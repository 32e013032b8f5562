"""What a root decides: whom it lets go, who is one customer, and whom it tells."""

from touchstream.agents.component import Component, Seat
from touchstream.agents.identity_messages import Assign, Cause, Grant
from touchstream.agents.resolution import Token, resolve
from touchstream.agents.turn import Turn


def decide(
    turn: Turn, component: Component, cause: Cause, new: set[Token], ours: list[Assign]
) -> bool:
    """Let go what is no longer connected, resolve the rest, tell whom it concerns.

    `new` identities are told in any case; what the root has to tell itself is added to `ours`.
    False when there was something to let go.
    """
    component.unpark()
    connected = len(component.seats) == 1 or _let_go(turn, component, cause)
    seats = component.seats
    before = {seat.customer for seat in seats.values()} - {None}
    found = resolve({i: seat.member for i, seat in seats.items()}, turn.rules)
    refused = component.refusals(found.refused)
    for identity, seat in seats.items():
        customer, links = found.customers[identity], refused.get(identity, {})
        if identity in new or customer != seat.customer or links != seat.refused:
            seat.term += 1
            seat.customer, seat.refused = customer, links
            assign = _assign(turn.identity, seat, customer, cause)
            if identity == turn.identity:
                ours.append(assign)
            else:
                turn.send(identity, assign)
    if len(seats) > 1:
        _count(turn, len(before), len(set(found.customers.values())))
        turn.effects.observe("component_identities", len(seats))
    return connected


def _let_go(turn: Turn, component: Component, cause: Cause) -> bool:
    """Grant parts that nothing connects to the root a root of their own."""
    parts = list(component.parts())
    customers: set[Token | None] = set()
    for part in parts if len(parts) > 1 else ():
        theirs = {seat.customer for seat in part.values()}
        if customers & theirs:
            turn.effects.count("splits")
        customers |= theirs
        if turn.identity in part:
            component.seats = part
        else:
            turn.send(min(part), Grant(turn.identity, part, cause))
    return len(parts) == 1


def _assign(root: Token, seat: Seat, customer: Token, cause: Cause) -> Assign:
    return Assign(root, seat.term, seat.revision, customer, dict(seat.refused), cause)


def _count(turn: Turn, before: int, after: int) -> None:
    if before and before != after:
        name = "merges" if after < before else "splits"
        turn.effects.count(name, number=abs(after - before))
