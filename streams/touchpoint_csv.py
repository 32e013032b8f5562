"""CSV with a header: lines in, touchpoints or the reasons against them out.

Columns are the schema's field names, `identifier.<kind>`, `identifier.<kind>.verified`,
`consent.<purpose>` and `properties.<name>`. An empty cell is null. A row is rejected alone; a
header that cannot be understood is a ConfigurationError.
"""

import csv
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.fields import Field, shape_of
from touchstream.streams.touchpoint_lines import BYTE_ORDER_MARK, Line, parse_cell

REQUIRED = ("event_id", "occurred_at", "action")


def read_csv(channel: str, lines: Iterable[bytes]) -> Iterator[Line]:
    """Read one touchpoint a row; a quoted cell may hold line breaks."""
    source = _Rows(lines)
    rows = csv.reader(source, strict=True)
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise ConfigurationError(f"the CSV header cannot be read: {error}") from None
    columns = _columns(channel, [name.strip() for name in header])
    while True:
        number = source.start_row()
        try:
            cells = next(rows, None)
            if cells is None:
                return
            if cells:
                yield Line(number, source.row(), _from_cells(columns, cells))
        except (csv.Error, ValueError) as error:
            yield Line(number, source.row(), None, str(error))


class _Rows:
    """Lines as text for the csv module; remembers what the current row is made of."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._count = 0
        self._row: list[str] = []

    def start_row(self) -> int:
        """Forget the row before; returns the number of the next line."""
        self._row = []
        return self._count + 1

    def row(self) -> str:
        """The current row as it stands in the file."""
        whole = "".join(self._row).rstrip("\r\n")
        return whole.encode(errors="surrogateescape").decode(errors="backslashreplace")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._count += 1
        if self._count == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        text = line.decode(errors="surrogateescape")
        self._row.append(text)
        return text


class _Column(NamedTuple):
    """Where a cell goes: a field, or an entry of one of the collections."""

    name: str
    kind: str
    field: str
    entry: str = ""


def _columns(channel: str, header: list[str]) -> list[_Column]:
    fields = shape_of(channel).fields
    columns = [_column(channel, fields, name) for name in header]
    problem = _header_problem(header, {column.field for column in columns})
    if problem:
        raise ConfigurationError(f"the CSV header {problem}")
    return columns


def _header_problem(header: list[str], fields: set[str]) -> str | None:
    for name in header:
        if header.count(name) > 1:
            return f"has the column {name} twice"
        if name.startswith("identifier.") and name.removesuffix(".verified") not in header:
            return f"has the column {name}, but not {name.removesuffix('.verified')}"
    for name in REQUIRED:
        if name not in header:
            return f"has no column {name}, which is required"
    return None if "identifiers" in fields else "has no column identifier.<kind>: one is required"


def _column(channel: str, fields: dict[str, Field], name: str) -> _Column:
    group, _, entry = name.partition(".")
    if group == "identifier" and entry:
        kind = "boolean" if entry.endswith(".verified") else "string"
        return _Column(name, kind, "identifiers", entry)
    if group in ("consent", "properties") and entry:
        return _Column(name, "boolean" if group == "consent" else "string", group, entry)
    if name in fields and fields[name].kind not in ("booleans", "texts", "Identifier"):
        return _Column(name, fields[name].kind, name)
    raise ConfigurationError(
        f"the CSV header has the column {name!r}: columns are the fields of {channel}, "
        "identifier.<kind>, consent.<purpose> and properties.<name>"
    )


def _from_cells(columns: list[_Column], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise ValueError(f"the row has {len(cells)} cells, the header {len(columns)}")
    touchpoint: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if cell:
            value = parse_cell(column.kind, column.name, cell)
            if column.entry:
                touchpoint.setdefault(column.field, {})[column.entry] = value
            else:
                touchpoint[column.field] = value
    touchpoint["identifiers"] = _identifiers(touchpoint.get("identifiers", {}))
    return touchpoint


def _identifiers(entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "value": value, "verified": entries.get(f"{kind}.verified", False)}
        for kind, value in entries.items()
        if not kind.endswith(".verified")
    ]
