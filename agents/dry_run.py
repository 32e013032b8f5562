"""What other rules would change: everybody's customer under two sets of rules, and the difference.

Pure: an archive of the whole history and two sets of rules in, a report out.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from heapq import heappush, heappushpop

import msgspec

from touchstream.agents.archive import Archive, Part
from touchstream.agents.customer_messages import customer_name
from touchstream.agents.history import Judged, judge_history, resolve_history
from touchstream.agents.resolution import Token
from touchstream.agents.rules import Rules

EXAMPLES = 3
"""Of each kind of change; the largest are shown."""
SHOWN_IDENTITIES = 6
"""Of one customer in an example."""


class Figures(msgspec.Struct, frozen=True):
    """Headline figures; a rate without customers to divide by is None."""

    customers: int
    customers_with_touchpoints: int
    buyers: int
    repeat_buyers: int
    repeat_rate: float | None
    """Repeat buyers by buyer."""
    orders_per_buyer: float | None
    revenue_per_buyer: float | None
    contacts_per_customer: float | None
    """By customer with touchpoints."""


class Outcome(msgspec.Struct, frozen=True):
    """What one set of rules makes of the history."""

    figures: Figures
    refused: dict[str, int]
    """Links that join no one, by reason."""


class Group(msgspec.Struct, frozen=True):
    """Identities of one customer, as far as they are shown: token and kind."""

    customer: str
    identities: list[tuple[str, str]]
    more: int


class Example(msgspec.Struct, frozen=True):
    """A customer that falls apart, or that others become: its identities on the side of many."""

    customer: str
    groups: list[Group]


class Report(msgspec.Struct, frozen=True):
    """The answer."""

    identities: int
    now: Outcome
    then: Outcome
    split: int
    """Customers of now whose identities would belong to more than one."""
    split_into: int
    """How many customers they would be."""
    joined: int
    """Customers of now whose identities would be put together with those of others."""
    joined_into: int
    """How many customers they would be."""
    moved: int
    """Identities that would belong to a customer of another id."""
    behind: int
    """Identities that ClickHouse shows with another customer than the rules of now give them."""
    splits: list[Example]
    joins: list[Example]


def dry_run(archive: Archive, now: Rules, then: Rules) -> Report:
    """Resolve everything under both sets of rules and compare."""
    before, after = _Side(archive, now), _Side(archive, then)
    changes = _Changes(archive)
    alike = _judge_alike(now, then)
    for part in archive.parts():
        judged = before.judge(part)
        changes.compare(
            before.take(part, judged), after.take(part, judged if alike else after.judge(part))
        )
    return Report(
        identities=len(archive.tokens),
        now=before.outcome(),
        then=after.outcome(),
        behind=archive.behind(before.customers),
        moved=sum(map(int.__ne__, before.customers, after.customers)),
        split=changes.split,
        split_into=changes.split_into,
        joined=changes.joined,
        joined_into=changes.joined_into,
        splits=changes.splits.examples(),
        joins=changes.joins.examples(),
    )


class _Side:
    """One set of rules, and what it makes of everybody."""

    def __init__(self, archive: Archive, rules: Rules) -> None:
        self._archive = archive
        self._rules = rules
        self._refused: Counter[str] = Counter()
        self.customers = array("q", range(len(archive.tokens)))
        """Place of each identity's customer; who has no links is a customer."""

    def judge(self, part: Part) -> Judged:
        """Every link of a part by itself."""
        marks = {"shared": self._archive.shared, "erased": self._archive.erased}
        return judge_history(part.identities, part.links, part.words, self._rules, **marks)

    def take(self, part: Part, judged: Judged) -> dict[Token, Token]:
        """Customers of a part."""
        members, refused = judged
        if refused or part.words or not self._allows(part):
            resolution = resolve_history(members, self._rules)
            customers = resolution.customers
            self._refused.update(str(verdict.reason) for verdict in refused.values())
            for (one, other), verdict in resolution.refused.items():
                if customers[one] != customers[other]:
                    self._refused[str(verdict.reason)] += 1
        else:
            customers = dict.fromkeys(members, _oldest(part))
        places = self._archive.places
        for identity, customer in customers.items():
            self.customers[places[identity]] = places[customer]
        return customers

    def _allows(self, part: Part) -> bool:
        """Whether all identities of a part may be one customer, whatever their times.

        If so, no link of the part can break a rule: most of a history needs no weighing.
        """
        if len(part.identities) > self._rules.max_identities:
            return False
        for kind, number in Counter(kind for kind, _ in part.identities.values()).items():
            rule = self._rules.kind(kind)
            if number > 1 and (rule.unique or (rule.limit and number > rule.limit.count)):
                return False
        return True

    def outcome(self) -> Outcome:
        """Figures by customer, from the figures by identity."""
        touchpoints, orders, revenue, contacts = (
            self._by_customer(figure) for figure in self._archive.figures.values()
        )
        reached = sum(number > 0 for number in touchpoints)
        buyers = sum(number > 0 for number in orders)
        repeat = sum(number > 1 for number in orders)
        figures = Figures(
            customers=sum(map(int.__eq__, self.customers, range(len(self.customers)))),
            customers_with_touchpoints=reached,
            buyers=buyers,
            repeat_buyers=repeat,
            repeat_rate=_ratio(repeat, buyers),
            orders_per_buyer=_ratio(sum(orders), buyers),
            revenue_per_buyer=_ratio(sum(revenue) / 10_000, buyers),
            contacts_per_customer=_ratio(sum(contacts), reached),
        )
        return Outcome(figures, dict(sorted(self._refused.items())))

    def _by_customer(self, figure: "array[int]") -> "array[int]":
        totals = array("q", bytes(8 * len(figure)))
        for customer, number in zip(self.customers, figure, strict=True):
            if number:
                totals[customer] += number
        return totals


class _Changes:
    """Customers that fall apart and customers that become one, counted; the largest are kept."""

    def __init__(self, archive: Archive) -> None:
        self.split = self.split_into = self.joined = self.joined_into = 0
        self.splits, self.joins = _Largest(archive), _Largest(archive)

    def compare(self, now: dict[Token, Token], then: dict[Token, Token]) -> None:
        """Compare the customers of a part."""
        if now == then:
            return
        for customer, groups in _apart(now, then):
            self.split += 1
            self.split_into += len(groups)
            self.splits.offer(customer, groups)
        for customer, groups in _apart(then, now):
            self.joined += len(groups)
            self.joined_into += 1
            self.joins.offer(customer, groups)


Groups = dict[Token, list[Token]]
"""Identities by customer."""


def _apart(one: dict[Token, Token], other: dict[Token, Token]) -> Iterator[tuple[Token, Groups]]:
    """Customers of `one` whose identities have several in `other`, with their identities there."""
    found: defaultdict[Token, Groups] = defaultdict(dict)
    for identity, customer in one.items():
        found[customer].setdefault(other[identity], []).append(identity)
    return ((customer, groups) for customer, groups in found.items() if len(groups) > 1)


class _Largest:
    """The customers with the most identities that were offered."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._heap: list[tuple[int, Token, Groups]] = []

    def offer(self, customer: Token, groups: Groups) -> None:
        """Keep it if it is among the largest."""
        entry = (sum(map(len, groups.values())), customer, groups)
        if len(self._heap) < EXAMPLES:
            heappush(self._heap, entry)
        else:
            heappushpop(self._heap, entry)

    def examples(self) -> list[Example]:
        """Those kept, the largest first."""
        ranked = sorted(self._heap, key=lambda entry: (-entry[0], entry[1]))
        return [
            Example(
                customer_name(customer), [self._group(*item) for item in sorted(groups.items())]
            )
            for _, customer, groups in ranked
        ]

    def _group(self, customer: Token, identities: list[Token]) -> Group:
        archive = self._archive
        shown = sorted(identities)[:SHOWN_IDENTITIES]
        return Group(
            customer_name(customer),
            [(identity.hex(), archive.kinds[archive.places[identity]]) for identity in shown],
            len(identities) - len(shown),
        )


def _judge_alike(one: Rules, other: Rules) -> bool:
    """Whether every link is worth the same by itself under both rules."""

    def seen(rules: Rules, name: str) -> tuple[object, ...]:
        kind = rules.kind(name)
        return kind.priority, kind.verified_only, kind.channels, kind.max_links

    names = (*one.kinds, *other.kinds, "", "_handle")
    return all(seen(one, name) == seen(other, name) for name in names)


def _oldest(part: Part) -> Token:
    return min((first_seen, token) for token, (_, first_seen) in part.identities.items())[1]


def _ratio(number: float, by: int) -> float | None:
    return round(number / by, 4) if by else None
