"""Which rows of ClickHouse a customer leaves, table by table: conditions that find all of them.

Conditions are over all rows that are stored, also those that newer versions hide. Their parameters:
`tokens` and `customers`, tuples of the tokens (hex) of the identities and of the ids of customers
named after them; `list` is the tokens as an array; `number` is the place of the latest erasure in
the log of operations.
"""

from touchstream.streams.customer_tables import (
    ALERTS,
    CUSTOMERS,
    ISSUES,
    PANES,
    PATHS,
    SESSIONS,
    VISITS,
)
from touchstream.streams.table import Table
from touchstream.streams.tables import (
    CHANGES,
    DEAD_LETTERS,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    OVERRIDES,
    REFUSED,
    RULES,
    WORDS,
)

_IDENTITY = "identity IN %(tokens)s"
_EITHER = "(identity IN %(tokens)s OR other IN %(tokens)s)"
_CUSTOMER = "customer_id IN %(customers)s"

LEFT_BY_IDENTITIES: dict[Table, str] = {
    FACTS: _IDENTITY,
    OVERRIDES: f"({_IDENTITY} OR {_CUSTOMER})",
    IDENTITIES: f"({_IDENTITY} OR {_CUSTOMER})",
    LINKS: _EITHER,
    REFUSED: f"({_EITHER} OR multiSearchAny(detail, %(list)s))",
    CHANGES: f"({_IDENTITY} OR {_CUSTOMER} OR former_customer_id IN %(customers)s)",
    WORDS: _EITHER,
    MARKS: f"({_IDENTITY} AND number < %(number)s)",
    CUSTOMERS: f"({_CUSTOMER} OR hasAny(identities, %(list)s))",
    SESSIONS: _CUSTOMER,
    VISITS: _CUSTOMER,
    ISSUES: _CUSTOMER,
    PATHS: _CUSTOMER,
    ALERTS: f"({_CUSTOMER} OR evidence['identity'] IN %(tokens)s)",
}
"""Rows that go. Of marks the erasure itself stays: it is what keeps the past away."""

NAMED_IN_OTHERS = (
    f"(({_CUSTOMER} OR customer_id_then IN %(customers)s) AND identity NOT IN %(tokens)s)"
)
"""Facts of other identities that were once part of the customer: its id is replaced, they stay."""

LIVES: dict[Table, tuple[str, ...]] = {
    CUSTOMERS: (),
    SESSIONS: ("started_at",),
    VISITS: ("entered_at", "stage"),
    ISSUES: ("opened_at", "topic"),
    PATHS: ("order_key",),
}
"""Tables of customers' lives, with what is their key beside the customer. Customers that the
identities were part of before keep older versions of such rows until they are merged; these go."""

WITHOUT_CUSTOMERS = (DEAD_LETTERS, RULES, PANES)
"""Dead letters are looked through one by one; the others hold nothing of a single customer."""


def superseded(table: Table) -> str:
    """Condition of rows of some customers that newer versions hide, or that are no more.

    The parameter `others` is a tuple of their ids.
    """
    key = ", ".join(("customer_id", *LIVES[table]))
    theirs = "customer_id IN %(others)s"
    latest = f"SELECT {key}, max(version) FROM {table.name} WHERE {theirs} GROUP BY {key}"
    return f"({theirs} AND (is_deleted OR ({key}, version) NOT IN ({latest})))"
