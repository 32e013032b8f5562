"""Who is one customer: a pure function from evidence to customers, the same in any order.

Evidence is what was seen: identities with the time they were first seen, and links between two
identities that one touchpoint carried. Connected identities are one customer, named after its
oldest identity, so the older customer survives when two turn out to be one.
"""

from collections.abc import Iterable, Mapping

from touchstream.agents.messages import Token


def resolve(
    first_seen: Mapping[Token, int], links: Iterable[tuple[Token, Token]]
) -> dict[Token, Token]:
    """Customer of every identity in `first_seen`; links to identities not in it are left out."""
    parent = {identity: identity for identity in first_seen}

    def find(identity: Token) -> Token:
        while parent[identity] != identity:
            parent[identity] = parent[parent[identity]]
            identity = parent[identity]
        return identity

    def older(identity: Token) -> tuple[int, Token]:
        return first_seen[identity], identity

    for one, other in links:
        if one in parent and other in parent:
            first, second = sorted((find(one), find(other)), key=older)
            parent[second] = first
    return {identity: find(identity) for identity in parent}
