"""Who is one customer: a pure function of evidence and rules, the same in any order.

Links are taken strongest first, then oldest, then by identity. A link joins the two groups at its
ends unless the result would break a rule; then it is refused, and kept with its reason. What an
operator allowed is taken last and needs to break no denial only. The groups that remain are the
customers, each named after its oldest identity, so the older customer survives a merge.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from touchstream.agents.judgement import Bond, Refused
from touchstream.agents.rules import Limit, Rules

Token = bytes
Pair = tuple[Token, Token]


class Word(msgspec.Struct, array_like=True, frozen=True, order=True):
    """An operator's word on two identities; the latest counts."""

    number: int
    """Place in the log of operations."""
    allow: bool
    """True: they are one customer; False: they are not."""
    operator: str
    note: str
    said_at: int


class Member(msgspec.Struct, array_like=True):
    """What is decided on: one identity with its links that may join, and what operators said."""

    kind: str
    first_seen: int
    bonds: dict[Token, Bond] = {}
    words: dict[Token, Word] = {}
    alone: bool = False
    """Shared by many, or erased: its links join no one."""

    def neighbours(self) -> Iterator[Token]:
        """Identities that it must be decided together with."""
        if not self.alone:
            yield from self.bonds
            yield from (other for other, word in self.words.items() if word.allow)


class Verdict(msgspec.Struct, frozen=True):
    """Why a link was refused, and over which kind or pair."""

    reason: Refused
    detail: str = ""


class Resolution(msgspec.Struct, frozen=True):
    """The answer."""

    customers: dict[Token, Token]
    """Identity -> customer, named by its oldest identity."""
    refused: dict[Pair, Verdict]
    joined: list[Pair]
    """Links that joined two groups, in order: the chains that hold customers together."""


def resolve(members: Mapping[Token, Member], rules: Rules) -> Resolution:
    """Customers of the members; links to identities that are not members are left out."""
    if len(members) == 1:
        return Resolution({identity: identity for identity in members}, {}, [])
    words = _words_of(members)
    groups = _Groups(members, rules, words)
    refused: dict[Pair, Verdict] = {}
    joined: list[Pair] = []
    for pair, allowed in _in_order(members, words):
        if groups.are_one(pair):
            continue
        verdict = groups.breach(pair, allowed)
        if verdict:
            refused[pair] = verdict
        else:
            groups.join(pair)
            joined.append(pair)
    customers = groups.customers()
    apart = {pair: why for pair, why in refused.items() if customers[pair[0]] != customers[pair[1]]}
    return Resolution(customers, apart, joined)


def chain(joined: Iterable[Pair], start: Token, end: Token) -> list[Pair]:
    """Links that lead from one identity to another; empty when they are not joined."""
    neighbours: dict[Token, list[Token]] = defaultdict(list)
    for one, other in joined:
        neighbours[one].append(other)
        neighbours[other].append(one)
    before = {start: start}
    queue = deque([start])
    while queue and end not in before:
        here = queue.popleft()
        for there in neighbours[here]:
            if there not in before:
                before[there] = here
                queue.append(there)
    path = []
    while end in before and end != start:
        path.append((before[end], end))
        end = before[end]
    return path[::-1]


def pair_of(one: Token, other: Token) -> Pair:
    """A link whatever its direction."""
    return (one, other) if one < other else (other, one)


def _words_of(members: Mapping[Token, Member]) -> dict[Pair, Word]:
    """The latest word on two members, whichever end has heard it."""
    words: dict[Pair, Word] = {}
    for identity, member in members.items():
        for other, word in member.words.items():
            if other in members:
                pair = pair_of(identity, other)
                words[pair] = max(word, words.get(pair, word))
    return words


def _in_order(
    members: Mapping[Token, Member], words: Mapping[Pair, Word]
) -> Iterator[tuple[Pair, bool]]:
    """Links in the order in which they are taken, and whether an operator allowed them."""
    bonds: dict[Pair, Bond] = {}
    for identity, member in members.items():
        if member.alone:
            continue
        for other, bond in member.bonds.items():
            if other in members and not members[other].alone:
                pair = pair_of(identity, other)
                bonds[pair] = min(bond, bonds.get(pair, bond))
    for pair, _ in sorted(bonds.items(), key=lambda item: (item[1], item[0])):
        yield pair, False
    for pair, word in sorted(words.items(), key=lambda item: (item[1].number, item[0])):
        if word.allow and not (members[pair[0]].alone or members[pair[1]].alone):
            yield pair, True


class _Group:
    """Identities joined so far, with what the rules count."""

    __slots__ = ("identities", "seen")

    def __init__(self, identity: Token, kind: str, first_seen: int, counted: bool) -> None:
        self.identities = [identity]
        self.seen: dict[str, list[int]] = {kind: [first_seen]} if counted else {}
        """Kinds that are unique or limited -> sorted times of first sight."""


class _Groups:
    """The groups that links have made so far."""

    def __init__(
        self, members: Mapping[Token, Member], rules: Rules, words: Mapping[Pair, Word]
    ) -> None:
        self._members = members
        self._rules = rules
        self._of: dict[Token, _Group] = {}
        self._denied: dict[Token, list[Token]] = defaultdict(list)
        counted = {}
        for identity, member in members.items():
            kind = member.kind
            if kind not in counted:
                rule = rules.kind(kind)
                counted[kind] = rule.unique or rule.limit is not None
            self._of[identity] = _Group(identity, kind, member.first_seen, counted[kind])
        for (one, other), word in words.items():
            if not word.allow:
                self._denied[one].append(other)
                self._denied[other].append(one)

    def are_one(self, pair: Pair) -> bool:
        """Whether the ends are in one group."""
        return self._of[pair[0]] is self._of[pair[1]]

    def breach(self, pair: Pair, allowed: bool) -> Verdict | None:
        """Why the groups at the ends must not be one."""
        one, other = self._ends(pair)
        return self._denial(one, other) or (None if allowed else self._broken_rule(one, other))

    def join(self, pair: Pair) -> None:
        """Make the groups at the ends one."""
        one, other = self._ends(pair)
        one.identities += other.identities
        for kind, times in other.seen.items():
            one.seen[kind] = sorted(one.seen.get(kind, []) + times)
        for identity in other.identities:
            self._of[identity] = one

    def _ends(self, pair: Pair) -> tuple[_Group, _Group]:
        """Groups at the ends, the larger first."""
        one, other = self._of[pair[0]], self._of[pair[1]]
        return (one, other) if len(one.identities) >= len(other.identities) else (other, one)

    def _denial(self, one: _Group, other: _Group) -> Verdict | None:
        denied = [
            pair_of(identity, far)
            for identity in (other.identities if self._denied else ())
            for far in self._denied.get(identity, ())
            if self._of.get(far) is one
        ]
        if not denied:
            return None
        ends = min(denied)
        return Verdict(Refused.DENIED, f"{ends[0].hex()} {ends[1].hex()}")

    def _broken_rule(self, one: _Group, other: _Group) -> Verdict | None:
        """The rule that the joined group would break."""
        if len(one.identities) + len(other.identities) > self._rules.max_identities:
            return Verdict(Refused.CUSTOMER_FULL)
        for kind in sorted(one.seen.keys() & other.seen.keys()):
            rule = self._rules.kind(kind)
            if rule.unique:
                return Verdict(Refused.UNIQUE, kind)
            times = sorted(one.seen[kind] + other.seen[kind])
            if rule.limit and _exceeds(times, rule.limit):
                return Verdict(Refused.LIMIT, kind)
        return None

    def customers(self) -> dict[Token, Token]:
        """Identity -> oldest identity of its group."""
        oldest: dict[int, Token] = {}
        for group in {id(group): group for group in self._of.values()}.values():
            oldest[id(group)] = min(
                group.identities, key=lambda token: (self._members[token].first_seen, token)
            )
        return {identity: oldest[id(group)] for identity, group in self._of.items()}


def _exceeds(times: list[int], limit: Limit) -> bool:
    """Whether more than `limit.count` of the sorted times lie within one window."""
    if limit.window_ms is None:
        return len(times) > limit.count
    return any(
        bisect_left(times, start + limit.window_ms) - index > limit.count
        for index, start in enumerate(times)
    )
