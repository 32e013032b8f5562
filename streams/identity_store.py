"""Identities as ClickHouse has them: evidence, words, rules and figures, as plain rows.

Tokens are in hex and times in milliseconds. Links are read without FINAL: a row that is there twice
is harmless to whoever keeps the earliest sight.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from touchstream.streams.errors import ConfigurationError

BATCH_TOKENS = 1_000
"""Tokens of one query; they stand in its text, which may have 256 KiB."""
TokenOf = Callable[[str, str], str]
"""Makes the token of a kind and a value."""
Columns = Sequence[Sequence[Any]]

IdentityRow = tuple[str, str, int, str]
"""Token, kind, event time of the first touchpoint, customer."""
SightRow = tuple[str, str, str, bool, bool, int, str]
"""Token, other token, channel, verified, other verified, time and id of the touchpoint."""
SortRow = tuple[str, str, str, list[tuple[str, bool, bool]], int]
"""Token, kind, kind of others, how they were seen with them (channel, verified, other verified),
and how many others were seen just so."""
WordRow = tuple[str, str, int, bool, str, str, int]
"""The two tokens, number, allow, operator, note, time."""
MarkRow = tuple[str, str]
"""Token, and shared or erased."""

_IDENTITIES = """SELECT identity, kind, toUnixTimestamp64Milli(first_seen_at), customer_id
FROM identity_states FINAL"""
_SIGHTS = """SELECT identity, other, channel, verified, other_verified,
    toUnixTimestamp64Milli(seen_at), event_id
FROM identity_link_sights"""
_SORTS = """SELECT one, any(one_kind), two_kind, how, count() FROM
(
    SELECT one, two, any(one_kind) AS one_kind, any(two_kind) AS two_kind,
        arraySort(groupUniqArray((toString(channel), here, there))) AS how
    FROM
    (
        SELECT identity AS one, kind AS one_kind, other AS two, other_kind AS two_kind, channel,
            verified AS here, other_verified AS there
        FROM identity_link_sights WHERE identity IN %(tokens)s
        UNION ALL
        SELECT other AS one, other_kind AS one_kind, identity AS two, kind AS two_kind, channel,
            other_verified AS here, verified AS there
        FROM identity_link_sights WHERE other IN %(tokens)s
    )
    WHERE one != two
    GROUP BY one, two
)
GROUP BY one, two_kind, how"""
_WORDS = """SELECT identity, other, number, allow, operator, note, toUnixTimestamp64Milli(said_at)
FROM operator_word_states FINAL"""
_MARKS = """SELECT identity, toString(argMax(mark, number)) AS latest FROM identity_mark_records"""
_FIGURES = """SELECT identity, toInt64(count()),
    toInt64(countIf(channel = 'purchase' AND action = 'placed')),
    toInt64(sumIf(ifNull(value_e4, 0), channel = 'purchase' AND action = 'placed')),
    toInt64(countIf((channel, action) IN %(contacts)s))
FROM touchpoint_facts FINAL GROUP BY identity"""


class Found(NamedTuple):
    """An identity that somebody asked for."""

    identity: str
    kind: str
    customer_id: str
    by_customer: bool
    """The question was for the customer; this is its oldest identity."""


class AppliedRules(NamedTuple):
    """Rules in force, as their file said them."""

    number: int
    operator: str
    said_at: Any
    text: str


class IdentityStore:
    """Reads through one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def find(self, who: str, token_of: TokenOf) -> Found:
        """The identity that `kind:value`, its token, or the id of its customer names."""
        kind, colon, value = who.partition(":")
        identity = token_of(kind, value) if colon else who
        columns = "SELECT identity, kind, customer_id FROM identities"
        rows = self._rows(f"{columns} WHERE identity = %(who)s", who=identity)
        by_customer = not rows
        oldest = "WHERE customer_id = %(who)s ORDER BY first_seen_at, identity LIMIT 1"
        if by_customer and not colon:
            rows = self._rows(f"{columns} {oldest}", who=who)
        if not rows:
            raise ConfigurationError(
                f"no identity {who}: not seen yet, or written another way; say kind:value, a token"
                " or a customer id"
            )
        identity, kind, customer_id = rows[0]
        return Found(identity, kind, customer_id, by_customer)

    def customer_of(self, token: str) -> str | None:
        """Customer of an identity; None when it is not known."""
        rows = self._rows(f"{_IDENTITIES} WHERE identity = %(token)s", token=token)
        return str(rows[0][3]) if rows else None

    def members(self, customer_id: str) -> list[tuple[str, str]]:
        """Kind and token of every identity of a customer."""
        sql = "SELECT kind, identity FROM identities WHERE customer_id = %(who)s ORDER BY ALL"
        return self._rows(sql, who=customer_id)

    def identities(self, tokens: Collection[str]) -> Iterator[IdentityRow]:
        """Those of the identities that are known."""
        return self._by_token(f"{_IDENTITIES} WHERE identity IN %(tokens)s", tokens)

    def sights(self, tokens: Collection[str]) -> Iterator[SightRow]:
        """Every sight of a link with an end among the tokens."""
        ends = f"{_SIGHTS} WHERE identity IN %(tokens)s UNION ALL {_SIGHTS}"
        return self._by_token(f"{ends} WHERE other IN %(tokens)s", tokens)

    def sorts_of_links(self, tokens: Collection[str]) -> Iterator[SortRow]:
        """How many links each identity has, by what rules look at."""
        return self._by_token(_SORTS, tokens)

    def words(self, tokens: Collection[str]) -> Iterator[WordRow]:
        """The latest words on the identities."""
        either = "identity IN %(tokens)s OR other IN %(tokens)s"
        return self._by_token(f"{_WORDS} WHERE {either}", tokens)

    def marks(self, tokens: Collection[str]) -> Iterator[MarkRow]:
        """Those of the identities that an operator has marked."""
        some = "WHERE identity IN %(tokens)s GROUP BY identity HAVING latest != ''"
        return self._by_token(f"{_MARKS} {some}", tokens)

    def marked_at(self, token: str) -> int:
        """Number of the latest mark of an identity; 0 when there is none."""
        sql = "SELECT max(number) FROM identity_mark_records WHERE identity = %(token)s"
        return int(self._rows(sql, token=token)[0][0])

    def rules(self) -> AppliedRules | None:
        """Rules in force; None when none were ever applied."""
        columns = "number, operator, said_at, text"
        rows = self._rows(f"SELECT {columns} FROM identity_rules WHERE in_force")
        return AppliedRules(*rows[0]) if rows else None

    def all_identities(self) -> Iterator[Columns]:
        """Columns of `IdentityRow`, block by block."""
        return self._blocks(_IDENTITIES)

    def all_sights(self) -> Iterator[Columns]:
        """Columns of `SightRow`, block by block."""
        return self._blocks(_SIGHTS)

    def all_words(self) -> list[WordRow]:
        """Every latest word."""
        return self._rows(_WORDS)

    def all_marks(self) -> list[MarkRow]:
        """Every identity that an operator has marked."""
        return self._rows(f"{_MARKS} GROUP BY identity HAVING latest != ''")

    def all_figures(self, contacts: Collection[tuple[str, str]]) -> Iterator[Columns]:
        """Columns of token, touchpoints, orders, revenue in ten-thousandths, and contacts.

        `contacts` are the channels and actions that count as one.
        """
        return self._blocks(_FIGURES, contacts=tuple(sorted(contacts)))

    def _by_token(self, sql: str, tokens: Collection[str]) -> Iterator[Any]:
        ordered = sorted(tokens)
        for start in range(0, len(ordered), BATCH_TOKENS):
            yield from self._rows(sql, tokens=tuple(ordered[start : start + BATCH_TOKENS]))

    def _rows(self, sql: str, **parameters: Any) -> list[Any]:
        return [tuple(row) for row in self._client.query(sql, parameters=parameters).result_rows]

    def _blocks(self, sql: str, **parameters: Any) -> Iterator[Columns]:
        with self._client.query_column_block_stream(sql, parameters=parameters) as blocks:
            yield from blocks
