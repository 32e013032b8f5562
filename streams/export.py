"""All that is kept of a customer, as one JSON document, written view by view as it is read.

Identifiers are not in it: only keyed hashes of them are kept.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from clickhouse_connect.driver.client import Client

from touchstream.streams.erasure.store import DeadLetter

_CUSTOMER = "customer_id = %(customer)s"
_IDENTITY = "identity IN %(tokens)s"
_EITHER = f"{_IDENTITY} OR other IN %(tokens)s"
PARTS: dict[str, tuple[str, str]] = {
    "customers": (_CUSTOMER, "customer_id"),
    "identities": (_CUSTOMER, "first_seen_at, identity"),
    "touchpoints": (_IDENTITY, "occurred_at, channel, event_id"),
    "sessions": (_CUSTOMER, "started_at"),
    "journeys": (_CUSTOMER, "entered_at"),
    "issues": (_CUSTOMER, "opened_at"),
    "paths": (_CUSTOMER, "ordered_at"),
    "identity_links": (_EITHER, "seen_at, identity, other"),
    "refused_links": (_EITHER, "since, identity, other"),
    "identity_changes": (_IDENTITY, "changed_at, identity"),
    "operator_words": (_EITHER, "number"),
    "identity_marks": (_IDENTITY, "number"),
    "alerts": (f"{_CUSTOMER} OR {_IDENTITY}", "raised_at"),
}
"""Views, what finds their rows, and in which order these come."""
FORMAT = {
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 0,
    "date_time_output_format": "iso",
}
Rows = Callable[[str, dict[str, Any]], Iterator[str]]


def export(
    rows: Rows, customer: str, tokens: Collection[str], dead_letters: Iterable[DeadLetter]
) -> Iterator[str]:
    """Pieces of the document; `rows` gives the JSON of each row of a query."""
    names = {"customer": customer, "tokens": tuple(tokens)}
    opening = "{"
    for view, (where, order) in PARTS.items():
        found = rows(f"SELECT * FROM {view} WHERE {where} ORDER BY {order}", names)
        yield from _part(opening, view, found)
        opening = ","
    yield from _part(opening, "dead_letters", map(_dead_letter, dead_letters))
    yield "\n}\n"


def _part(opening: str, name: str, rows: Iterable[str]) -> Iterator[str]:
    yield f'{opening}\n"{name}": ['
    comma = ""
    for row in rows:
        yield f"{comma}\n{row}"
        comma = ","
    yield "\n]"


def _dead_letter(letter: DeadLetter) -> str:
    """A rejected record; its bytes in base64, as they may be anything."""
    topic, _, partition, offset = letter.place
    key, value = (b64encode(data).decode() for data in (letter.key, letter.value))
    names = {"topic": topic, "partition": partition, "offset": offset, "detail": letter.detail}
    return json.dumps({**names, "key_base64": key, "value_base64": value}, ensure_ascii=False)


def rows_of(client: Client) -> Rows:
    """Rows through a client, a line each, as they come."""

    def rows(sql: str, parameters: dict[str, Any]) -> Iterator[str]:
        stream = client.raw_stream(sql, parameters=parameters, fmt="JSONEachRow", settings=FORMAT)
        rest = ""
        for block in stream:
            *lines, rest = (rest + block.decode()).split("\n")
            yield from lines

    return rows
