"""Identity rules as the agents use them: what each kind of identifier may link, and how far.

Plain data that travels through the log. `rules_file.py` reads it from TOML, `judgement.py` and
`resolution.py` apply it.
"""

from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Normaliser = Literal["text", "email", "phone", "handle"]
UNIDENTIFIED = "unidentified"
"""Kind of the identity that stands in for a touchpoint without a usable identifier."""


class Limit(msgspec.Struct, array_like=True, frozen=True):
    """At most `count` identities of a kind for one customer, first seen within `window_ms`."""

    count: Positive
    window_ms: Positive | None = None
    """None: ever."""


class Kind(msgspec.Struct, array_like=True, frozen=True):
    """Rules for the identifiers of one kind."""

    priority: int
    """Higher is stronger: links are taken by the weaker, then the stronger end."""
    normaliser: Normaliser = "text"
    unique: bool = False
    """A customer has at most one."""
    limit: Limit | None = None
    verified_only: bool = False
    """Only sights in which this identifier was verified may link."""
    channels: frozenset[str] | None = None
    """Channels whose sights may link; None: all."""
    max_links: Positive = 50
    """An identity linked to more than this is shared by many and links no one."""
    junk_texts: frozenset[str] = frozenset()
    """Normalised values that identify no one."""
    junk_patterns: tuple[str, ...] = ()
    """Regular expressions; a normalised value that one matches in full identifies no one."""


class Rules(msgspec.Struct, array_like=True, frozen=True):
    """All rules; `kinds` holds the kinds that are named, `other` is for the rest."""

    kinds: dict[str, Kind]
    other: Kind
    max_identities: Positive
    """Identities of one customer, at most."""
    max_component: Positive
    """Identities that are decided together, at most; further links to them are refused."""
    max_identifiers: Positive
    """Identifiers of one touchpoint that are used, the strongest."""
    junk_texts: frozenset[str] = frozenset()
    """Like those of a kind, for every kind; compared without regard to case."""
    junk_patterns: tuple[str, ...] = ()

    def kind(self, name: str) -> Kind:
        """Rules of a kind; `<platform>_handle` falls back to `handle`."""
        found = self.kinds.get(name)
        if found is None and name.endswith("_handle"):
            found = self.kinds.get("handle")
        return found or self.other
