"""The whole history at once: everybody's links and words in, everybody's customer out.

Stitch learns the same piece by piece, in messages; what it settles on must be what these functions
say. `identity explain` and `identity dry-run` use them, and tests compare stitch with them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from touchstream.agents.judgement import Refused, Sights, is_shared, judge
from touchstream.agents.resolution import (
    Member,
    Pair,
    Resolution,
    Token,
    Verdict,
    Word,
    resolve,
)
from touchstream.agents.rules import Rules

Identities = Mapping[Token, tuple[str, int]]
"""Identity -> kind and event time of its first touchpoint, ms."""
Sight = tuple[Token, Token, str, bool, bool, int, str]
"""Row of the table of links: identity, other, channel, verified, other verified, time (ms), event
id."""
Said = tuple[Token, Token, Word]
"""Row of the table of words: an operator's word on two identities."""


class Judged(NamedTuple):
    """What every link is worth by itself, before any two are weighed against each other."""

    members: dict[Token, Member]
    refused: dict[Pair, Verdict]
    """Links that no resolution will take: of a wrong channel, unverified, shared or erased."""


def members_of(
    identities: Identities, sights: Iterable[Sight], words: Iterable[Said], rules: Rules
) -> dict[Token, Member]:
    """Members of all components, each with its bonds and words at both ends."""
    return judge_history(identities, links_of(identities, sights), words, rules).members


def judge_history(
    identities: Identities,
    links: Mapping[Pair, Sights],
    words: Iterable[Said],
    rules: Rules,
    *,
    shared: Collection[Token] = (),
    erased: Collection[Token] = (),
) -> Judged:
    """Judge every link; words that name an unknown identity are left out.

    `shared` are identities known to belong to many whatever links are given: an operator said so,
    or their links were counted elsewhere.
    """
    members = {token: Member(kind, seen) for token, (kind, seen) in identities.items()}
    refused: dict[Pair, Verdict] = {}
    for (one, other), sights in links.items():
        here, there = members[one], members[other]
        judgement = judge(here.kind, there.kind, sights, rules)
        if isinstance(judgement, Refused):
            refused[one, other] = Verdict(judgement)
        else:
            here.bonds[other] = there.bonds[one] = judgement
    for one, other, word in words:
        if one in members and other in members and one != other:
            latest = max(word, members[one].words.get(other, word))
            members[one].words[other] = members[other].words[one] = latest
    for identity, member in members.items():
        member.alone = (
            identity in shared or identity in erased or is_shared(member.kind, member.bonds, rules)
        )
    for pair in _bonds_that_join_no_one(members):
        gone = pair[0] in erased or pair[1] in erased
        refused[pair] = Verdict(Refused.ERASED if gone else Refused.SHARED)
    return Judged(members, refused)


def links_of(identities: Identities, sights: Iterable[Sight]) -> dict[Pair, Sights]:
    """Earliest sights of each link, as its smaller end sees them, whatever side saw them.

    Sights that name an unknown identity are left out.
    """
    links: defaultdict[Pair, Sights] = defaultdict(dict)
    for one, other, channel, verified, other_verified, time, event_id in sights:
        if one == other or one not in identities or other not in identities:
            continue
        if one < other:
            link, ends = links[one, other], (channel, verified, other_verified)
        else:
            link, ends = links[other, one], (channel, other_verified, verified)
        seen = (time, event_id)
        if ends not in link or seen < link[ends]:
            link[ends] = seen
    return links


def components_of(members: Mapping[Token, Member]) -> Iterator[dict[Token, Member]]:
    """Identities that must be decided together: joined by bonds or by an operator's word.

    Bonds and words must stand at both ends, as `members_of` puts them.
    """
    seen: set[Token] = set()
    for start in members:
        if start in seen:
            continue
        seen.add(start)
        component: dict[Token, Member] = {}
        edge = [start]
        while edge:
            identity = edge.pop()
            member = component[identity] = members[identity]
            for other in member.neighbours():
                if other not in seen and other in members and not members[other].alone:
                    seen.add(other)
                    edge.append(other)
        yield component


def resolve_history(members: Mapping[Token, Member], rules: Rules) -> Resolution:
    """Customers of all members, component by component.

    A component of more than `rules.max_component` identities is resolved exactly all the same. A
    worker would refuse further links to it, so then the two may differ.
    """
    whole = Resolution({}, {}, [])
    for component in components_of(members):
        if len(component) == 1:
            whole.customers.update(zip(component, component, strict=True))
            continue
        resolution = resolve(component, rules)
        whole.customers.update(resolution.customers)
        whole.refused.update(resolution.refused)
        whole.joined.extend(resolution.joined)
    return whole


def _bonds_that_join_no_one(members: Mapping[Token, Member]) -> Iterator[Pair]:
    for identity, member in members.items():
        for other in member.bonds:
            if identity < other and (member.alone or members[other].alone):
                yield identity, other
