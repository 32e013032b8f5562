"""Identity rules as their file says them, `schemas/identity.toml` for one; mistakes are named."""

from functools import cache
from typing import cast, get_args

from touchstream.agents.junk import pattern_problem
from touchstream.agents.rules import Kind, Limit, Normaliser, Rules
from touchstream.schemas import load_identity_rules_text
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.toml_table import TomlTable, read_toml
from touchstream.streams.topics import CHANNELS, DAY_MS

OTHER = "other"
"""Table of every kind that has none of its own."""
KIND_KEYS = (
    "priority",
    "normaliser",
    "unique",
    "limit",
    "verified_only",
    "channels",
    "max_links",
    "junk",
)
LONGEST_CHARACTERS = 200_000
_DEFAULT = Kind(priority=0)


def parse_rules(text: str, name: str) -> Rules:
    """Rules of a file; raises ConfigurationError with its name and the line of the mistake."""
    if len(text) > LONGEST_CHARACTERS:
        raise ConfigurationError(f"{name}: is longer than {LONGEST_CHARACTERS} characters")
    top = read_toml(text, name)
    top.only("max_identities", "max_component", "max_identifiers", "junk", "kinds")
    texts, patterns = _junk(top)
    kinds = _kinds(top)
    return Rules(
        {kind: rules for kind, rules in kinds.items() if kind != OTHER},
        kinds[OTHER],
        max_identities=top.whole("max_identities", 1, 10_000),
        max_component=top.whole("max_component", 2, 100_000),
        max_identifiers=top.whole("max_identifiers", 1, 1_000),
        junk_texts=texts,
        junk_patterns=patterns,
    )


@cache
def default_rules() -> Rules:
    """Rules that hold until others are set."""
    return parse_rules(load_identity_rules_text(), "identity.toml")


def _kinds(top: TomlTable) -> dict[str, Kind]:
    tables = top.table("kinds")
    if tables is None:
        top.fail("kinds", f"is missing: one table a kind, and kinds.{OTHER} for the rest")
    kinds = {}
    for name, table in tables.tables():
        if not name or name != name.strip().casefold():
            tables.fail(name, "must be a kind in lower case, without spaces around it")
        kinds[name] = _kind(table)
    if OTHER not in kinds:
        tables.fail(OTHER, "is missing: the table of every kind that has none of its own")
    return kinds


def _kind(table: TomlTable) -> Kind:
    table.only(*KIND_KEYS)
    texts, patterns = _junk(table)
    channels = table.texts("channels", CHANNELS)
    normaliser = table.word("normaliser", get_args(Normaliser), _DEFAULT.normaliser)
    return Kind(
        table.whole("priority", -1_000, 1_000),
        cast(Normaliser, normaliser),
        unique=table.flag("unique", _DEFAULT.unique),
        limit=_limit(table.table("limit")),
        verified_only=table.flag("verified_only", _DEFAULT.verified_only),
        channels=None if channels is None else frozenset(channels),
        max_links=table.whole("max_links", 1, 1_000_000, _DEFAULT.max_links),
        junk_texts=texts,
        junk_patterns=patterns,
    )


def _limit(table: TomlTable | None) -> Limit | None:
    if table is None:
        return None
    table.only("count", "days")
    count = table.whole("count", 1, 10_000)
    return Limit(count, table.whole("days", 1, 36_525) * DAY_MS if "days" in table else None)


def _junk(owner: TomlTable) -> tuple[frozenset[str], tuple[str, ...]]:
    """Texts and patterns of the table `junk`."""
    table = owner.table("junk")
    if table is None:
        return frozenset(), ()
    table.only("texts", "patterns")
    patterns = table.texts("patterns") or []
    for pattern in patterns:
        problem = pattern_problem(pattern)
        if problem:
            table.fail("patterns", f"holds '{pattern}', which {problem}")
    return frozenset(table.texts("texts") or ()), tuple(patterns)
