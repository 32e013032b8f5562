"""Forgetting: what an operator had erased goes from an identity, and from all who know of it.

An identity that is erased joins no one, so its root lets it go, and its activity comes with it.
Once alone it throws the activity away, its neighbours forget their links, and nothing stays but its
token and the moment before which nothing is taken again. A neighbour that was only ever seen with
it goes as well.
"""

from touchstream.agents.belonging import vanish
from touchstream.agents.component import decode_component
from touchstream.agents.evidence import Mark, Vertex
from touchstream.agents.identity import Identity
from touchstream.agents.identity_messages import Cause, Erase, Forgotten
from touchstream.agents.identity_rows import mark_row
from touchstream.agents.judgement import Refused
from touchstream.agents.turn import COMPONENT, Turn
from touchstream.streams.tables import MARKS


def erase(identity: Identity, erase: Erase) -> None:
    """An operator wants us forgotten, or lets us come back."""
    turn, vertex, mark = identity.turn, identity.vertex, erase.mark
    if vertex.erasure >= mark.number:
        return
    vertex.erasure, vertex.erased = mark.number, erase.until
    turn.save(vertex)
    if mark.reason and vertex.first_seen is not None:
        _go(identity, mark)
        return
    if mark.reason:
        _strip(turn, mark)
    turn.effects.insert(MARKS, mark_row(identity.me, mark))


def forgotten(identity: Identity, message: Forgotten) -> None:
    """A neighbour was erased."""
    vertex, other = identity.vertex, message.other
    link, word = vertex.links.pop(other, None), vertex.words.pop(other, None)
    if link is None and word is None:
        return
    vertex.refused.pop(other, None)
    seen = vertex.first_sight()
    if vertex.first_seen is None or vertex.going:
        vertex.shown.pop(other, None)  # of a link that is no more nothing can be judged again
        identity.turn.save(vertex)
    elif seen is None:
        cause = message.cause
        _go(identity, Mark(0, Refused.ERASED, cause.who, "", cause.at))
    else:
        vertex.version += seen != vertex.first_seen
        vertex.first_seen = seen
        identity.notice(message.cause)
        identity.report([], message.cause)


def forget_if_let_go(turn: Turn) -> None:
    """Throw everything away when we are to go and nobody decides on us any more."""
    vertex = turn.vertex
    if vertex is None or vertex.going is None or vertex.root != turn.identity:
        return
    if turn.state.get(COMPONENT + turn.identity, decode_component) is None:
        vanish(turn)
        _strip(turn, vertex.going)
        if vertex.going.number:
            turn.effects.insert(MARKS, mark_row(turn.identity, vertex.going))


def _go(identity: Identity, mark: Mark) -> None:
    """Join no one from now on, so that our root lets us go."""
    identity.vertex.going, cause = mark, _cause(mark)
    identity.notice(cause)
    identity.report([], cause)


def _cause(mark: Mark) -> Cause:
    return Cause("erased", mark.operator, mark.said_at)


def _strip(turn: Turn, mark: Mark) -> None:
    """Keep nothing but what keeps the past away, and what operators said of who was not erased."""
    vertex = turn.vertex
    assert vertex is not None
    kept = Vertex(
        turn.identity,
        version=vertex.version,
        revision=vertex.revision,
        term=vertex.term,
        erased=vertex.erased,
        erasure=vertex.erasure,
    )
    if vertex.mark and vertex.mark.said_at >= vertex.erased:
        kept.mark = vertex.mark
    kept.words = {o: word for o, word in vertex.words.items() if word.said_at >= vertex.erased}
    for other in sorted(vertex.links.keys() | vertex.words.keys() - kept.words.keys()):
        turn.send(other, Forgotten(turn.identity, _cause(mark)))
    turn.save(kept)
