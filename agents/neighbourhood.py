"""What is around some identities: everything that decides on their customers, and no more.

Walks from identity to identity along links that may join, and along what operators allowed. Does
not walk through identities that are shared: their links join no one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

from touchstream.agents.history import Judged, Said, Sight, judge_history, links_of
from touchstream.agents.judgement import Refused, is_shared, judge
from touchstream.agents.resolution import Token, Word
from touchstream.agents.rules import Rules
from touchstream.streams.errors import ConfigurationError

MOST_IDENTITIES = 20_000


class Store(Protocol):
    """What is asked of the store of identities, with its rows; tokens in hex."""

    def identities(self, tokens: Collection[str]) -> Iterable[tuple[str, str, int, str]]:
        """Token, kind, first seen (ms), customer."""

    def sights(
        self, tokens: Collection[str]
    ) -> Iterable[tuple[str, str, str, bool, bool, int, str]]:
        """Rows of the table of links."""

    def sorts_of_links(
        self, tokens: Collection[str]
    ) -> Iterable[tuple[str, str, str, list[tuple[str, bool, bool]], int]]:
        """Token, kind, kind of others, how they were seen, number of others seen so."""

    def words(self, tokens: Collection[str]) -> Iterable[tuple[Any, ...]]:
        """Rows of the table of words."""

    def marks(self, tokens: Collection[str]) -> Iterable[tuple[str, str]]:
        """Identities that an operator has marked: token, and shared or erased."""


@dataclass
class Neighbourhood:
    """Evidence around the identities that were asked for."""

    identities: dict[Token, tuple[str, int]] = field(default_factory=dict)
    customers: dict[Token, str] = field(default_factory=dict)
    """Customers as ClickHouse shows them."""
    sights: list[Sight] = field(default_factory=list)
    words: list[Said] = field(default_factory=list)
    shared: dict[Token, int] = field(default_factory=dict)
    """Identities that are linked to too many, and to how many."""
    marks: dict[Token, Refused] = field(default_factory=dict)
    """Identities of which an operator said that they are shared or erased."""

    def judged(self, rules: Rules) -> Judged:
        """Every link by itself."""
        links = links_of(self.identities, self.sights)
        shared, erased = marked(self.marks)
        counted = shared | self.shared.keys()
        return judge_history(
            self.identities, links, self.words, rules, shared=counted, erased=erased
        )


def gather(
    store: Store, starts: Collection[Token], rules: Rules, *, most: int = MOST_IDENTITIES
) -> Neighbourhood:
    """Walk until nothing new is found; ConfigurationError when that is too much."""
    found = Neighbourhood()
    walked: set[Token] = set()
    edge = set(starts)
    while edge:
        walked |= edge
        _read_identities(store, edge, found)
        open_ends = _open_ends(store, edge, rules, found)
        sights = [_sight(row) for row in store.sights(_hex(open_ends))]
        words = [said_of(row) for row in store.words(_hex(edge))]
        ends = {end for sight in sights for end in sight[:2]}
        ends |= {end for said in words for end in said[:2]}
        if max(len(walked), len(ends)) > most:
            raise ConfigurationError(
                f"more than {most:,} identities hang together here, too many to explain: see what"
                " links them with `touchstream identity show`"
            )
        _read_identities(store, ends - found.identities.keys(), found)
        found.sights += sights
        found.words += words
        edge = set(_beyond(open_ends, sights, words, rules, found)) - walked
    return found


def _open_ends(
    store: Store, edge: set[Token], rules: Rules, found: Neighbourhood
) -> AbstractSet[Token]:
    """Those of the edge that may be walked through; the others are shared."""
    bonds = dict.fromkeys(edge & found.identities.keys(), 0)
    for token, kind, other_kind, how, number in store.sorts_of_links(_hex(bonds)):
        sights = dict.fromkeys(how, (0, ""))
        if not isinstance(judge(kind, other_kind, sights, rules), Refused):
            bonds[bytes.fromhex(token)] += number
    for identity, number in bonds.items():
        if is_shared(found.identities[identity][0], range(number), rules):
            found.shared[identity] = number
    found.marks |= marks_of(store.marks(_hex(bonds)))
    return bonds.keys() - found.shared.keys() - found.marks.keys()


def _beyond(
    open_ends: AbstractSet[Token],
    sights: Iterable[Sight],
    words: Iterable[Said],
    rules: Rules,
    found: Neighbourhood,
) -> Iterator[Token]:
    """Ends of links and words that may join. All sights of a link are read with its first end."""
    kinds = found.identities
    for (one, other), seen in links_of(kinds, sights).items():
        if not isinstance(judge(kinds[one][0], kinds[other][0], seen, rules), Refused):
            yield from (one, other)
    for one, other, word in words:
        if word.allow and {one, other} & open_ends:
            yield from (one, other)


def _read_identities(store: Store, tokens: Iterable[Token], found: Neighbourhood) -> None:
    for token, kind, first_seen, customer in store.identities(_hex(tokens)):
        identity = bytes.fromhex(token)
        found.identities[identity] = (kind, first_seen)
        found.customers[identity] = customer


def said_of(row: tuple[Any, ...]) -> Said:
    """A row of words."""
    one, other, *word = row
    return bytes.fromhex(one), bytes.fromhex(other), Word(*word)


def marks_of(rows: Iterable[tuple[str, str]]) -> dict[Token, Refused]:
    """Rows of marks by identity."""
    return {bytes.fromhex(token): Refused(mark) for token, mark in rows}


def marked(marks: Mapping[Token, Refused]) -> tuple[set[Token], set[Token]]:
    """Identities that are marked as shared, and those that are erased."""
    erased = {identity for identity, mark in marks.items() if mark == Refused.ERASED}
    return marks.keys() - erased, erased


def _sight(row: tuple[str, str, str, bool, bool, int, str]) -> Sight:
    one, other, channel, verified, other_verified, time, event_id = row
    ends = bytes.fromhex(one), bytes.fromhex(other)
    return *ends, channel, verified, other_verified, time, event_id


def _hex(tokens: Iterable[Token]) -> list[str]:
    return [token.hex() for token in tokens]
