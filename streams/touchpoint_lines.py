"""Text to values: a line of a file and its outcome, times as people write them, cells of a table.

Pure. ValueError says which field is wrong and why.
"""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SECONDS_OR_DATES = range(10**7, 10**10)
"""As milliseconds these lie in early 1970: they are seconds, or a date as yyyymmdd."""


class Line(NamedTuple):
    """A line of a file, by its number from 1: a touchpoint, or the reason why it is none."""

    number: int
    text: str
    touchpoint: dict[str, Any] | None
    reason: str = ""


def parse_time(name: str, value: str | int) -> int | datetime:
    """Read ISO-8601 with an offset or Z, a date alone (midnight UTC), or epoch milliseconds."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        return _parse_iso(name, value)
    if int(value) in _SECONDS_OR_DATES:
        raise ValueError(f"{name} looks like seconds or a date, not like milliseconds: {value}")
    return int(value)


def _parse_iso(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        wanted = "ISO-8601 or epoch milliseconds"
        raise ValueError(f"{name} must be {wanted}, is {text[:40]!r}") from None
    if moment.tzinfo is not None:
        return moment
    if len(text) > len("2026-01-31"):
        raise ValueError(f"{name} has no time zone: add an offset or Z to {text[:40]!r}")
    return moment.replace(tzinfo=UTC)


def parse_cell(kind: str, name: str, cell: str) -> Any:
    """Read a cell of a table as a value of a kind of `fields.Field`; lists are JSON."""
    if any("\udc80" <= character <= "\udcff" for character in cell):
        raise ValueError(f"{name} is not valid UTF-8")
    if kind == "string":
        return cell
    if kind == "time":
        return parse_time(name, cell)
    if kind == "boolean":
        return _parse_boolean(name, cell)
    if kind in ("int", "long", "double"):
        return _parse_number(kind, name, cell)
    try:
        return msgspec.json.decode(cell)
    except (ValueError, RecursionError):
        raise ValueError(f"{name} must be a list in JSON, is {cell[:40]!r}") from None


def _parse_boolean(name: str, cell: str) -> bool:
    if cell.lower() not in _WORDS:
        raise ValueError(f"{name} must be true or false, is {cell[:40]!r}")
    return _WORDS[cell.lower()]


def _parse_number(kind: str, name: str, cell: str) -> int | float:
    if kind == "double" and _DECIMAL.fullmatch(cell):
        return float(cell)
    if kind != "double" and _WHOLE.fullmatch(cell):
        return int(cell)
    wanted = "a number" if kind == "double" else "a whole number"
    raise ValueError(f"{name} must be {wanted}, is {cell[:40]!r}")
