"""What one link is worth under the rules: a bond of some strength, or a refusal.

Looks at the sights of the link and at the kinds of its two ends, at nothing else; so both ends come
to the same judgement. What needs to know the rest of a customer is `resolution.py`.
"""

from collections.abc import Collection
from enum import StrEnum
from hashlib import blake2b

import msgspec

from touchstream.agents.rules import Kind, Rules

LONGEST_EVENT = 48
Sights = dict[tuple[str, bool, bool], tuple[int, str]]
"""Channel, whether this end and the other end were verified -> time (ms) and id of the earliest
touchpoint that showed both ends so."""


class Refused(StrEnum):
    """Why a link joins no one; as in ClickHouse and in Prometheus."""

    CHANNEL = "channel"
    """No channel that saw it may assert these kinds."""
    UNVERIFIED = "unverified"
    """The rules want it verified, and it never was."""
    SHARED = "shared"
    """One end belongs to many."""
    ERASED = "erased"
    """One end was erased."""
    UNIQUE = "unique"
    """The customer would have two identities of a kind of which it has at most one."""
    LIMIT = "limit"
    """The customer would have more identities of a kind than allowed."""
    CUSTOMER_FULL = "customer_full"
    """The customer would have too many identities."""
    COMPONENT_FULL = "component_full"
    """Too many identities would have to be decided together."""
    DENIED = "denied"
    """An operator said that two of the identities are not one customer."""
    TOO_MANY_IDENTIFIERS = "too_many_identifiers"
    """The touchpoint carried more identifiers than are used."""


class Bond(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A link that may join; bonds sort in the order in which they are taken."""

    weakness: tuple[int, int, bool]
    """Negative priorities of the weaker and the stronger end, and whether it is unverified."""
    time: int
    """Event time of the earliest sight that counts, ms."""
    event: str
    """Channel and event id of that sight; a digest of them when they are long."""


def judge(kind: str, other_kind: str, sights: Sights, rules: Rules) -> Bond | Refused:
    """Strongest bond that the sights of a link make, or why they make none."""
    one, other = rules.kind(kind), rules.kind(other_kind)
    weaker, stronger = sorted((one.priority, other.priority))
    bonds = []
    asserted = False
    for (channel, verified, other_verified), (time, event_id) in sights.items():
        if not (_may_assert(one, channel) and _may_assert(other, channel)):
            continue
        asserted = True
        if (one.verified_only and not verified) or (other.verified_only and not other_verified):
            continue
        weakness = (-weaker, -stronger, not (verified and other_verified))
        bonds.append(Bond(weakness, time, _short(f"{channel}/{event_id}")))
    if bonds:
        return min(bonds)
    return Refused.UNVERIFIED if asserted else Refused.CHANNEL


def is_shared(kind: str, links: Collection[object], rules: Rules) -> bool:
    """Whether an identity with these links (those that rules let join) belongs to many."""
    return len(links) > rules.kind(kind).max_links


def _short(event: str) -> str:
    """Of long event ids a digest, so that the links of a component fit into one message."""
    return (
        event
        if len(event) <= LONGEST_EVENT
        else blake2b(event.encode(), digest_size=16).hexdigest()
    )


def _may_assert(kind: Kind, channel: str) -> bool:
    return kind.channels is None or channel in kind.channels
