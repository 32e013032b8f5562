"""All identities, links, words and figures there are, in columns: small enough for one machine.

An identity is known by its place, the number of its row. `parts` hands out what hangs together by
any link or word, whatever rules say of it, so each part can be judged by itself under any rules.
"""

import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from typing import Any, NamedTuple

from touchstream.agents.customer_messages import customer_name
from touchstream.agents.history import Said, Sight, links_of
from touchstream.agents.judgement import Sights
from touchstream.agents.resolution import Pair, Token

FIGURES = ("touchpoints", "orders", "revenue_e4", "contacts")
"""What is counted for each identity; revenue in ten-thousandths."""
Columns = Sequence[Sequence[Any]]
Column = Any
"""A list, an array of numbers or a bytearray of flags."""


class Part(NamedTuple):
    """Identities that hang together, with all their links and words."""

    identities: dict[Token, tuple[str, int]]
    links: dict[Pair, Sights]
    words: list[Said]


class Archive:
    """Filled block by block; identities first."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.kinds: list[str] = []
        self.first_seen = array("q")
        self.places: dict[Token, int] = {}
        self.figures = {name: array("q") for name in FIGURES}
        self._customers: list[str] = []
        self._sights: tuple[Column, ...] = (
            *(array("q"), array("q")),
            *([], bytearray(), bytearray()),
            *(array("q"), []),
        )
        """Columns of `Sight`, with places for the two tokens."""
        self._words: list[Said] = []
        self.shared: AbstractSet[Token] = frozenset()
        """Identities of which an operator said that they belong to many."""
        self.erased: AbstractSet[Token] = frozenset()
        self._above = array("q")
        """A tree of places: from each towards one place of its part."""

    def add_identities(self, columns: Columns) -> None:
        """Token (hex), kind, event time of the first touchpoint (ms), and customer."""
        tokens, kinds, first_seen, customers = columns
        start = len(self.tokens)
        self.tokens.extend(map(bytes.fromhex, tokens))
        self.kinds.extend(map(sys.intern, kinds))
        self.first_seen.extend(first_seen)
        self._customers.extend(customers)
        self.places.update(zip(self.tokens[start:], range(start, len(self.tokens)), strict=True))
        self._above.extend(range(start, len(self.tokens)))
        for figure in self.figures.values():
            figure.frombytes(bytes(8 * len(tokens)))

    def add_sights(self, columns: Columns) -> None:
        """Columns of the table of links, tokens in hex; unknown identities are left out."""
        ends = [self._places_of(tokens) for tokens in columns[:2]]
        known = [one >= 0 <= other for one, other in zip(*ends, strict=True)]
        for column, values in zip(self._sights, (*ends, *columns[2:]), strict=True):
            column.extend(compress(values, known))
        for one, other in compress(zip(*ends, strict=True), known):
            self._join(one, other)

    def add_words(self, words: Iterable[Said]) -> None:
        """What operators said; unknown identities are left out."""
        for said in words:
            if said[0] in self.places and said[1] in self.places:
                self._join(self.places[said[0]], self.places[said[1]])
                self._words.append(said)

    def add_figures(self, columns: Columns) -> None:
        """Token (hex), then figures as `FIGURES` names them; unknown identities are left out."""
        places = self._places_of(columns[0])
        for name, numbers in zip(FIGURES, columns[1:], strict=True):
            column = self.figures[name]
            for place, number in zip(places, numbers, strict=True):
                if place >= 0:
                    column[place] = number

    def parts(self) -> Iterator[Part]:
        """Identities that have a link or a word, with all that hangs together."""
        members: defaultdict[int, list[int]] = defaultdict(list)
        sights: defaultdict[int, list[int]] = defaultdict(list)
        words: defaultdict[int, list[Said]] = defaultdict(list)
        for row, place in enumerate(self._sights[0]):
            sights[self._top(place)].append(row)
        for said in self._words:
            words[self._top(self.places[said[0]])].append(said)
        for place in range(len(self.tokens)):
            top = self._top(place)
            if top in sights or top in words:
                members[top].append(place)
        for top, places in members.items():
            identities = {
                self.tokens[place]: (self.kinds[place], self.first_seen[place]) for place in places
            }
            rows = map(self._sight, sights.get(top, ()))
            yield Part(identities, links_of(identities, rows), words.get(top, []))

    def behind(self, customers: "array[int]") -> int:
        """Identities whose customer in ClickHouse is another than these (places of customers)."""
        return sum(
            name != customer_name(self.tokens[place])
            for name, place in zip(self._customers, customers, strict=True)
        )

    def _sight(self, row: int) -> Sight:
        one, other, *how = [column[row] for column in self._sights]
        channel, verified, other_verified, time, event_id = how
        ends = self.tokens[one], self.tokens[other]
        return *ends, channel, verified == 1, other_verified == 1, time, event_id

    def _places_of(self, tokens: Sequence[str]) -> list[int]:
        """Place of each token (hex); -1 of those that are unknown."""
        get = self.places.get
        return [get(token, -1) for token in map(bytes.fromhex, tokens)]

    def _join(self, one: int, other: int) -> None:
        """Make two identities hang together."""
        one, other = self._top(one), self._top(other)
        if one < other:
            self._above[other] = one
        else:
            self._above[one] = other

    def _top(self, place: int) -> int:
        above = self._above
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place
