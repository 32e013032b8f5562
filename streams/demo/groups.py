"""Which identifiers are one customer, worked out plainly: union-find over what was seen together.

Written apart from the agents on purpose, spelling rules included, so that the two can disagree.
"""

from collections.abc import Iterable, Iterator

from touchstream.streams.demo.diary import Identifier

Known = tuple[str, str]
"""An identifier in its one spelling: kind and value."""


def one_spelling(channel_platform: str | None, identifier: Identifier) -> Known:
    """Kind and value that are the same for every spelling; handles belong to their platform."""
    kind, value = identifier["kind"], identifier["value"].strip()
    if kind == "email":
        return kind, value.lower()
    if kind == "phone":
        return kind, "1" + "".join(filter(str.isdigit, value))[-10:]
    if kind == "handle":
        return f"{channel_platform} {kind}", value.lstrip("@").lower()
    return kind, value


class Groups:
    """Disjoint sets of identifiers."""

    def __init__(self) -> None:
        self._parent: dict[Known, Known] = {}

    def join(self, together: Iterable[Known]) -> Known:
        """Put identifiers that were seen together into one group; returns one of them."""
        first, *others = (self.find(known) for known in together)
        for other in others:
            self._parent[self.find(other)] = self.find(first)
        return first

    def find(self, known: Known) -> Known:
        """The identifier that stands for the group."""
        parent = self._parent.setdefault(known, known)
        while parent != (above := self._parent[parent]):
            self._parent[known] = parent = above
        return parent

    def __iter__(self) -> Iterator[Known]:
        return iter([*self._parent])

    @property
    def identifiers(self) -> int:
        """How many identifiers there are: customers, if nothing were stitched."""
        return len(self._parent)

    @property
    def count(self) -> int:
        """How many groups there are: customers after stitching."""
        return sum(known == parent for known, parent in self._parent.items())
