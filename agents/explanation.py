"""Why two identities are one customer, or why not: the links between them, taken or refused.

Pure: the evidence around the two in, an explanation out. It decides with the very functions that
the workers decide with.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

import msgspec

from touchstream.agents.history import components_of, resolve_history
from touchstream.agents.judgement import Refused
from touchstream.agents.neighbourhood import Neighbourhood
from touchstream.agents.resolution import Pair, Token, chain, pair_of
from touchstream.agents.rules import UNIDENTIFIED, Rules

WHY = {
    Refused.CHANNEL: "no channel that saw it may link these kinds",
    Refused.UNVERIFIED: "the rules want it verified, and it never was",
    Refused.SHARED: "one of the two is linked to too many",
    Refused.ERASED: "one of the two was erased",
    Refused.UNIQUE: "the customer would have two of a kind that is unique",
    Refused.LIMIT: "the customer would have more of a kind than allowed",
    Refused.CUSTOMER_FULL: "the customer would have too many identities",
    Refused.COMPONENT_FULL: "too many identities would have to be decided together",
    Refused.DENIED: "an operator denied that two of the identities are one customer",
    Refused.TOO_MANY_IDENTIFIERS: "the touchpoint had more identifiers than are used",
}


class Step(msgspec.Struct, frozen=True):
    """A link that joins, from one identity to the next."""

    identity: str
    kind: str
    other: str
    other_kind: str
    seen: str
    """Channel and event id of the touchpoint that counts; or who allowed it."""
    at: int
    """Event time of it, or when it was allowed, ms."""
    verified: bool
    """Whether both were."""


class Obstacle(msgspec.Struct, frozen=True):
    """A link that joins no one."""

    identity: str
    kind: str
    other: str
    other_kind: str
    reason: str
    detail: str
    why: str


class Remark(msgspec.Struct, frozen=True):
    """What an operator said of two identities."""

    identity: str
    other: str
    allow: bool
    operator: str
    note: str
    at: int


class Explanation(msgspec.Struct, frozen=True):
    """The answer."""

    together: bool
    steps: list[Step]
    """The chain of links that joins the two."""
    obstacles: list[Obstacle]
    """Refused links between them: on the shortest way first, then between their customers."""
    words: list[Remark]
    """Of operators, on identities of their customers."""
    notes: list[str]


def explain(found: Neighbourhood, one: Token, other: Token, rules: Rules) -> Explanation:
    """Explain two identities with the evidence around both."""
    case = _Case(found, one, other, rules)
    return Explanation(
        case.together,
        [case.step(pair) for pair in case.links()],
        [case.obstacle(pair) for pair in case.obstacles()],
        list(case.remarks()),
        list(case.notes()),
    )


class _Case:
    """Two identities, decided."""

    def __init__(self, found: Neighbourhood, one: Token, other: Token, rules: Rules) -> None:
        self._found, self._rules, self._ends = found, rules, (one, other)
        self._members, refused = found.judged(rules)
        self._resolution = resolve_history(self._members, rules)
        self._customers = customers = self._resolution.customers
        self.together = customers[one] == customers[other]
        self._apart = {
            pair: verdict
            for pair, verdict in (refused | self._resolution.refused).items()
            if customers[pair[0]] != customers[pair[1]]
        }
        """Refused links that no others have made good."""
        self._inside = {
            token for token in customers if customers[token] in (customers[one], customers[other])
        }

    def links(self) -> list[Pair]:
        """The chain that joins the two."""
        return chain(self._resolution.joined, *self._ends) if self.together else []

    def obstacles(self) -> list[Pair]:
        """Refused links on the way with the fewest of them, then all between the two customers."""
        if self.together:
            return []
        way = (pair_of(*pair) for pair in _way(self._resolution.joined, self._apart, *self._ends))
        between = sorted(pair for pair in self._apart if self._inside.issuperset(pair))
        return list(dict.fromkeys([*(pair for pair in way if pair in self._apart), *between]))

    def step(self, pair: Pair) -> Step:
        """One link of the chain: the evidence for it, or the operator who allowed it."""
        one, other = pair
        member = self._members[one]
        bond = member.bonds.get(other)
        if bond is None or pair_of(one, other) in self._resolution.refused:
            word = member.words[other]
            seen, at, verified = f"allowed by {word.operator}", word.said_at, False
        else:
            seen, at, verified = bond.event, bond.time, not bond.weakness[2]
        kinds = member.kind, self._members[other].kind
        return Step(one.hex(), kinds[0], other.hex(), kinds[1], seen, at, verified)

    def obstacle(self, pair: Pair) -> Obstacle:
        """One refused link."""
        one, other = pair
        verdict = self._apart[pair]
        kinds = self._members[one].kind, self._members[other].kind
        reason, detail = verdict.reason, verdict.detail
        return Obstacle(one.hex(), kinds[0], other.hex(), kinds[1], reason, detail, WHY[reason])

    def remarks(self) -> Iterator[Remark]:
        """Words on two identities of the two customers, in order."""
        words = {pair_of(one, other): word for one, other, word in self._found.words}
        for (one, other), word in sorted(words.items(), key=lambda item: item[1]):
            if self._inside.issuperset((one, other)):
                at, ends = word.said_at, (one.hex(), other.hex())
                yield Remark(*ends, word.allow, word.operator, word.note, at)

    def notes(self) -> Iterator[str]:
        """What else matters."""
        concerned = {*self._ends, *(end for pair in self.obstacles() for end in pair)}
        for token in sorted(concerned & self._found.marks.keys()):
            mark = self._found.marks[token]
            yield f"an operator marked {self._members[token].kind} {token.hex()} as {mark}"
        for token in sorted(concerned & self._found.shared.keys()):
            kind = self._members[token].kind
            if kind == UNIDENTIFIED:
                yield f"{token.hex()} stands for a touchpoint that says nobody: it joins no one"
                continue
            yield (
                f"{kind} {token.hex()} is shared: it is linked to {self._found.shared[token]:,}"
                f" others, {self._rules.kind(kind).max_links:,} are allowed, so it joins no one"
            )
        component = self._largest_component()
        if component > self._rules.max_component:
            yield (
                f"{component:,} identities hang together here, max_component is"
                f" {self._rules.max_component:,}: workers refuse some of the links"
            )
        shown_together = len({self._found.customers[token] for token in self._ends}) == 1
        if shown_together != self.together:
            yield (
                f"the view identities shows {'one customer' if shown_together else 'two customers'}"
                ": workers have not yet processed everything, or decided with less evidence"
            )

    def _largest_component(self) -> int:
        return max(
            len(component)
            for component in components_of(self._members)
            if not component.keys().isdisjoint(self._ends)
        )


def _way(taken: Iterable[Pair], refused: Iterable[Pair], start: Token, end: Token) -> list[Pair]:
    """Links from start to end with as few refused ones as can be; empty when there is no way."""
    edges: defaultdict[Token, list[tuple[Token, int]]] = defaultdict(list)
    for cost, pairs in enumerate((taken, refused)):
        for one, other in pairs:
            edges[one].append((other, cost))
            edges[other].append((one, cost))
    costs, before = {start: 0}, {start: start}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there, cost in edges[here]:
            if there not in costs or costs[here] + cost < costs[there]:
                costs[there], before[there] = costs[here] + cost, here
                (queue.append if cost else queue.appendleft)(there)
    way = []
    while end in before and end != start:
        way.append((before[end], end))
        end = before[end]
    return way[::-1]
