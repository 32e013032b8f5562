"""What ClickHouse has of customers that are to be erased: found, counted and deleted.

Deleting rewrites the parts that hold the rows, and returns when that is done; what was deleted is
not hidden but gone. Rows are counted as they are stored, so nothing is left when the count is 0.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from touchstream.streams.erasure.tables import (
    LEFT_BY_IDENTITIES,
    LIVES,
    NAMED_IN_OTHERS,
    superseded,
)
from touchstream.streams.migrations import rendered
from touchstream.streams.settings import Settings
from touchstream.streams.table import Table
from touchstream.streams.tables import DEAD_LETTERS, FACTS, IDENTITIES, LINKS, OVERRIDES

AS_BYTES: dict[str, str | dict[str, str]] = {"key": "bytes", "value": "bytes"}
WAIT = "SETTINGS mutations_sync = 2"
Place = tuple[str, int, int, int]
"""Topic, number of the topic, partition and offset of a dead letter."""
_FORMER = """SELECT customer_id FROM identity_states WHERE identity IN %(tokens)s
UNION DISTINCT SELECT former_customer_id FROM identity_change_records WHERE identity IN %(tokens)s
UNION DISTINCT SELECT customer_id FROM identity_change_records WHERE identity IN %(tokens)s
UNION DISTINCT SELECT customer_id FROM touchpoint_facts WHERE identity IN %(tokens)s"""
_NEIGHBOURS = """SELECT DISTINCT if(identity IN %(tokens)s, other, identity) AS neighbour
FROM identity_link_sights
WHERE (identity IN %(tokens)s OR other IN %(tokens)s) AND neighbour NOT IN %(tokens)s"""
_VERSIONS = """SELECT identity, max(version) FROM identity_states WHERE identity IN %(tokens)s
GROUP BY identity"""
_SEEN = f"""SELECT identity FROM {FACTS.name} WHERE identity IN %(tokens)s
UNION DISTINCT SELECT identity FROM {LINKS.name} WHERE identity IN %(tokens)s
UNION DISTINCT SELECT other FROM {LINKS.name} WHERE other IN %(tokens)s"""
_RENAMED = f"""SELECT identity, customer_id FROM {IDENTITIES.name} FINAL
WHERE identity IN (SELECT identity FROM {FACTS.name} WHERE {NAMED_IN_OTHERS})"""


class DeadLetter(NamedTuple):
    """A rejected record."""

    place: Place
    key: bytes
    value: bytes
    detail: str


@dataclass(frozen=True)
class Subject:
    """Whom an erasure is about: identities of one customer, and what else leads to them."""

    tokens: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Customers with other names that they were part of before."""
    neighbours: tuple[str, ...] = ()
    """Identities that were seen with them."""
    number: int = 0
    """Place of the erasure in the log of operations."""

    def erased_by(self, number: int) -> "Subject":
        """The same, when the erasure has a place in the log."""
        return replace(self, number=number)

    @property
    def customers(self) -> tuple[str, ...]:
        """Ids of customers named after the identities."""
        return tuple(f"c{token}" for token in self.tokens)

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the conditions."""
        return {
            "tokens": self.tokens,
            "list": list(self.tokens),
            "customers": self.customers,
            "others": self.others,
            "number": self.number,
        }


class ErasureStore:
    """Reads and deletes through one client."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client

    def subject(self, tokens: Collection[str]) -> Subject:
        """All that leads to these identities; to be asked before anything is deleted."""
        names = {"tokens": tuple(sorted(tokens))}
        own = {f"c{token}" for token in tokens}
        former = {row[0] for row in self._rows(_FORMER, names)} - own
        neighbours = [row[0] for row in self._rows(_NEIGHBOURS, names)]
        return Subject(names["tokens"], tuple(sorted(former)), tuple(sorted(neighbours)))

    def count(self, subject: Subject) -> dict[str, int]:
        """Stored rows that the customer has left, by table."""
        found = {
            table.name: sum(self._count(table, where, subject) for where in conditions)
            for table, conditions in _conditions(subject).items()
        }
        found[FACTS.name] += self._count(FACTS, NAMED_IN_OTHERS, subject)
        return found

    def delete(self, subject: Subject) -> None:
        """Delete all of them; ids of the customer in facts of others become their own."""
        self._rename(subject)
        for table, conditions in _conditions(subject).items():
            for where in conditions:
                if self._count(table, where, subject):
                    self._delete(table, where, subject.parameters)

    def versions(self, subject: Subject) -> dict[str, int]:
        """Latest versions of the identities that were seen with the customer."""
        near = {"tokens": subject.neighbours}
        return dict(self._rows(_VERSIONS, near)) if subject.neighbours else {}

    def delete_orphans(self, versions: dict[str, int]) -> None:
        """Delete those of these identities that are known from nothing any more.

        Only up to these versions: one that has been seen anew since has another.
        """
        near = {"tokens": tuple(versions)}
        seen = {row[0] for row in self._rows(_SEEN, near)} if versions else set()
        orphans = {each: version for each, version in versions.items() if each not in seen}
        if orphans:
            latest = "transform(identity, %(names)s, %(versions)s, toUInt64(0))"
            names = {"names": list(orphans), "versions": list(orphans.values())}
            where = f"identity IN %(names)s AND version <= {latest}"
            for table in (IDENTITIES, OVERRIDES):
                self._delete(table, where, names)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Every dead letter."""
        columns = "topic, source, partition, offset, key, value, detail"
        sql = f"SELECT {columns} FROM {DEAD_LETTERS.name}"
        with self._client.query_rows_stream(sql, column_formats=AS_BYTES) as rows:
            for topic, source, partition, offset, key, value, detail in rows:
                yield DeadLetter((topic, source, partition, offset), key, value, detail)

    def delete_dead_letters(self, places: Collection[Place]) -> None:
        """Delete those at these places."""
        if places:
            where = "(topic, source, partition, offset) IN %(places)s"
            self._delete(DEAD_LETTERS, where, {"places": tuple(places)})

    def _rename(self, subject: Subject) -> None:
        rows = self._rows(_RENAMED, subject.parameters)
        if rows:
            names = {"from": [row[0] for row in rows], "to": [row[1] for row in rows]}
            change = (
                "customer_id = if(customer_id IN %(customers)s,"
                " transform(identity, %(from)s, %(to)s, ''), customer_id),"
                " customer_id_then = if(customer_id_then IN %(customers)s, '', customer_id_then)"
            )
            self._change(
                f"ALTER TABLE {FACTS.name} UPDATE {change} WHERE {NAMED_IN_OTHERS} {WAIT}",
                {**subject.parameters, **names},
            )

    def _count(self, table: Table, where: str, subject: Subject) -> int:
        sql = f"SELECT count() FROM {table.name} WHERE {where}"
        return int(self._rows(sql, subject.parameters)[0][0])

    def _delete(self, table: Table, where: str, parameters: dict[str, Any]) -> None:
        self._change(f"ALTER TABLE {table.name} DELETE WHERE {where} {WAIT}", parameters)

    def _change(self, statement: str, parameters: dict[str, Any]) -> None:
        """Run a statement on every server that has such rows."""
        for each in rendered([statement], self._settings):
            self._client.command(each, parameters=parameters)

    def _rows(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        return [*self._client.query(sql, parameters=parameters).result_rows]


def _conditions(subject: Subject) -> dict[Table, list[str]]:
    """What finds the rows of each table."""
    found = {table: [where] for table, where in LEFT_BY_IDENTITIES.items()}
    if subject.others:
        for table in LIVES:
            found[table].append(superseded(table))
    return found
