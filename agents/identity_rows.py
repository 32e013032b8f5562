"""What ClickHouse keeps of identities: their customers, evidence, refusals and changes, as rows."""

from touchstream.agents.customer_messages import customer_name
from touchstream.agents.evidence import Mark, Vertex
from touchstream.agents.identity_messages import Cause, Ruled
from touchstream.agents.resolution import Token, Verdict, Word, pair_of
from touchstream.agents.turn import Turn
from touchstream.streams.table import Row

FIRST = 1 << 63


def identity_row(identity: Token, vertex: Vertex) -> Row:
    """Row of `tables.IDENTITIES`."""
    assert vertex.customer is not None
    return (
        identity.hex(),
        vertex.kind,
        customer_name(vertex.customer),
        vertex.first_seen,
        vertex.changed_at,
        vertex.version,
    )


def override_row(identity: Token, vertex: Vertex) -> Row:
    """Row of `tables.OVERRIDES`."""
    assert vertex.customer is not None
    return identity.hex(), customer_name(vertex.customer), vertex.version


def sight_row(
    identity: Token,
    kind: str,
    other: Token,
    other_kind: str,
    how: tuple[str, bool, bool],
    seen: tuple[int, str],
) -> Row:
    """Row of `tables.LINKS`."""
    (channel, verified, other_verified), (time, event_id) = how, seen
    ends = (identity.hex(), other.hex(), kind, other_kind)
    return (*ends, channel, verified, other_verified, time, event_id, FIRST - time)


def refused_row(turn: Turn, other: Token, verdict: Verdict | None) -> Row:
    """Row of `tables.REFUSED`; None for a link that is no longer refused."""
    assert turn.vertex is not None
    return (
        turn.identity.hex(),
        other.hex(),
        turn.vertex.kind,
        str(verdict.reason) if verdict else "",
        verdict.detail if verdict else "",
        turn.record.timestamp_ms,
        turn.vertex.revision,
        0 if verdict else 1,
    )


def change_row(turn: Turn, former: Token, cause: Cause) -> Row:
    """Row of `tables.CHANGES`."""
    vertex = turn.vertex
    assert vertex is not None and vertex.customer is not None
    return (
        turn.identity.hex(),
        vertex.version,
        vertex.kind,
        customer_name(former),
        customer_name(vertex.customer),
        turn.record.timestamp_ms,
        cause.what,
        cause.who,
        cause.at,
    )


def word_row(identity: Token, other: Token, word: Word) -> Row:
    """Row of `tables.WORDS`."""
    one, two = pair_of(identity, other)
    return (
        one.hex(),
        two.hex(),
        word.allow,
        word.operator,
        word.note,
        word.said_at,
        word.number,
    )


def mark_row(identity: Token, mark: Mark) -> Row:
    """Row of `tables.MARKS`."""
    reason = str(mark.reason) if mark.reason else ""
    return identity.hex(), reason, mark.operator, mark.note, mark.said_at, mark.number


def rules_row(ruled: Ruled) -> Row:
    """Row of `tables.RULES`."""
    return ruled.number, ruled.operator, ruled.said_at, ruled.text
