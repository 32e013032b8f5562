"""What the commands of `touchstream identity` ask of the agents.

Commands stand in `streams` and reach these functions by name; store and settings are given to them.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from touchstream.agents.archive import Archive, Columns
from touchstream.agents.dry_run import Report, dry_run
from touchstream.agents.explanation import WHY, Explanation, explain
from touchstream.agents.facts import SERVICE
from touchstream.agents.identifiers import identity_token
from touchstream.agents.neighbourhood import Store, gather, marked, marks_of, said_of
from touchstream.agents.operations import SetMark, SetRules, SetWord, encode_operation
from touchstream.agents.rules import Kind, Rules
from touchstream.agents.rules_file import default_rules, parse_rules
from touchstream.schemas import load_identity_rules_text
from touchstream.streams.settings import Settings
from touchstream.streams.topics import DAY_MS

REASONS = {str(reason): why for reason, why in WHY.items()}
"""Why links are refused: the word and its meaning."""


class Applied(Protocol):
    """Rules that were applied."""

    @property
    def number(self) -> int:
        """Place in the log of operations."""

    @property
    def text(self) -> str:
        """Their file."""


class WholeStore(Store, Protocol):
    """A store that can read everything."""

    def rules(self) -> Applied | None:
        """Rules in force."""

    def all_identities(self) -> Iterable[Columns]:
        """Columns as `Archive.add_identities` takes them."""

    def all_sights(self) -> Iterable[Columns]:
        """Columns as `Archive.add_sights` takes them."""

    def all_words(self) -> Iterable[tuple[Any, ...]]:
        """Rows of words."""

    def all_marks(self) -> Iterable[tuple[str, str]]:
        """Rows of marks."""

    def all_figures(self, contacts: Collection[tuple[str, str]]) -> Iterable[Columns]:
        """Columns as `Archive.add_figures` takes them."""


class Line(NamedTuple):
    """A kind of identifier and its rules, for people."""

    kind: str
    priority: int
    normaliser: str
    unique: bool
    limit: str
    verified_only: bool
    channels: str
    max_links: int
    junk: int


def token_of(store: WholeStore, settings: Settings) -> Callable[[str, str], str]:
    """Makes tokens of kinds and values as ingest does under the rules in force."""
    rules = rules_in_force(store)
    return lambda kind, value: identity_token(kind.strip().casefold(), value, settings, rules)


def word_operation(one: str, other: str, *, allow: bool, operator: str, note: str) -> bytes:
    """Record that says whether two identities are one customer."""
    return encode_operation(SetWord(one, other, allow, operator, note))


def mark_operation(identity: str, *, shared: bool, operator: str, note: str) -> bytes:
    """Record that says whether an identity belongs to many."""
    return encode_operation(SetMark(identity, shared, operator, note))


def rules_operation(text: str, name: str, *, operator: str, note: str) -> bytes:
    """Record that sets the rules of a file; ConfigurationError when they are wrong."""
    return encode_operation(SetRules(parse_rules(text, name), text, operator, note))


def rules_text(store: WholeStore) -> str:
    """File of the rules in force."""
    applied = store.rules()
    return applied.text if applied else load_identity_rules_text()


def rules_in_force(store: WholeStore) -> Rules:
    """Rules in force, or the default ones."""
    applied = store.rules()
    return parse_rules(applied.text, f"rules {applied.number}") if applied else default_rules()


def rules_lines(text: str, name: str) -> list[Line]:
    """What a file says of each kind, the strongest first; ConfigurationError when it is wrong."""
    rules = parse_rules(text, name)
    kinds = sorted(
        {**rules.kinds, "other": rules.other}.items(), key=lambda item: -item[1].priority
    )
    return [_line(name, kind) for name, kind in kinds]


def explain_two(store: WholeStore, one: str, other: str) -> Explanation:
    """Explain two known identities."""
    rules = rules_in_force(store)
    ends = bytes.fromhex(one), bytes.fromhex(other)
    return explain(gather(store, ends, rules), *ends, rules)


def dry_run_of(store: WholeStore, text: str, name: str) -> Report:
    """What the rules of a file would make of everything there is."""
    then, now = parse_rules(text, name), rules_in_force(store)
    archive = Archive()
    for columns in store.all_identities():
        archive.add_identities(columns)
    for columns in store.all_sights():
        archive.add_sights(columns)
    archive.add_words(map(said_of, store.all_words()))
    archive.shared, archive.erased = marked(marks_of(store.all_marks()))
    for columns in store.all_figures(SERVICE):
        archive.add_figures(columns)
    return dry_run(archive, now, then)


def report_json(report: Report) -> str:
    """The report for machines."""
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def _line(name: str, kind: Kind) -> Line:
    limit = "" if kind.limit is None else str(kind.limit.count)
    if kind.limit and kind.limit.window_ms is not None:
        limit += f" in {kind.limit.window_ms // DAY_MS} days"
    channels = "all" if kind.channels is None else ", ".join(sorted(kind.channels))
    junk = len(kind.junk_texts) + len(kind.junk_patterns)
    flags = kind.unique, limit, kind.verified_only
    return Line(name, kind.priority, kind.normaliser, *flags, channels, kind.max_links, junk)
