"""A TOML file read key by key: a mistake is one line with file, line, key, and what is expected."""

import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any, NoReturn

from touchstream.streams.errors import ConfigurationError

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
SHOWN_CHARACTERS = 60
Path = tuple[str | int, ...]
"""Keys, and places in arrays, from the top of the file."""


def read_toml(text: str, name: str) -> "TomlTable":
    """Top table of a file; raises ConfigurationError when it is not TOML."""
    try:
        return TomlTable((text, name), (), tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = place and place[1] or text.count("\n") + 1
        problem = _PLACE.sub("", str(error))
        raise ConfigurationError(f"{name}:{line}: not valid TOML: {problem}") from None


class TomlTable:
    """One table of a file; every reader raises ConfigurationError when the value is wrong."""

    def __init__(self, source: tuple[str, str], path: Path, values: dict[str, Any]) -> None:
        """`source` is the text of the file and its name."""
        self._source = source
        self._path = path
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def only(self, *known: str) -> None:
        """Refuse keys that are not known."""
        for key in self._values:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self.fail(key, f"is unknown: {hint}")

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number; needed without a default."""
        value = self._values.get(key, default)
        if value is None:
            self.fail(key, f"is missing: a whole number from {low} to {high}")
        if type(value) is not int or not low <= value <= high:
            self._refuse(key, f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            self._refuse(key, "true or false")
        return value

    def word(self, key: str, options: Collection[str], default: str) -> str:
        """One of the options."""
        value = self._values.get(key, default)
        if value not in options:
            self._refuse(key, f"one of {', '.join(options)}")
        return str(value)

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            self._refuse(key, "a text")
        return value

    def fraction(self, key: str) -> float | None:
        """A number between 0 and 1; None when it is not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, float) or not 0 < value < 1:
            self._refuse(key, "a number between 0 and 1")
        return value

    def number(self, key: str) -> float | None:
        """A number; None when it is not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(key, "a number")
        return float(value)

    def moment(self, key: str) -> datetime | None:
        """A date or a time; without an offset it is UTC. None when it is not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime):
            self._refuse(key, "a date or a time such as 2026-01-31 or 2026-01-31T12:00:00Z")
        return value.replace(tzinfo=value.tzinfo or UTC)

    def weights(self, key: str) -> dict[str, int]:
        """A name, or whole numbers by name; empty when it is not there."""
        value = self._values.get(key, {})
        if isinstance(value, str):
            return {value: 1}
        if not isinstance(value, dict) or any(type(each) is not int for each in value.values()):
            self._refuse(key, "a name, or whole numbers by name")
        return dict(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def texts(self, key: str, options: Collection[str] | None = None) -> list[str] | None:
        """A list of strings, each one of the options; None when it is not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self._refuse(key, "a list of strings")
        for entry in value:
            if not isinstance(entry, str):
                self.fail(key, f"must hold strings only, holds {_shown(entry)}")
            if options is not None and entry not in options:
                self.fail(key, f"must hold some of {', '.join(options)}, holds {_shown(entry)}")
        return value

    def table(self, key: str) -> "TomlTable | None":
        """A table; None when it is not there."""
        if key not in self._values:
            return None
        value = self._values[key]
        if not isinstance(value, dict):
            self._refuse(key, "a table")
        return TomlTable(self._source, (*self._path, key), value)

    def array(self, key: str) -> "list[TomlTable]":
        """An array of tables; empty when it is not there."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or any(not isinstance(each, dict) for each in value):
            self._refuse(key, "an array of tables")
        return [
            TomlTable(self._source, (*self._path, key, number), each)
            for number, each in enumerate(value)
        ]

    def tables(self) -> Iterator[tuple[str, "TomlTable"]]:
        """All values of this table with their keys; each must be a table."""
        for key in self._values:
            table = self.table(key)
            assert table is not None
            yield key, table

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise ConfigurationError: what is wrong with a key of this table."""
        text, name = self._source
        path = (*self._path, key)
        line = line_of(text, path) or line_of(text, self._path) or 1
        raise ConfigurationError(f"{name}:{line}: {_dotted(path)} {problem}")

    def _refuse(self, key: str, expected: str) -> NoReturn:
        if key not in self._values:
            self.fail(key, f"is missing: {expected}")
        self.fail(key, f"must be {expected}, is {_shown(self._values[key])}")


def line_of(text: str, path: Path) -> int | None:
    """Line of a valid TOML text on which a key first stands; None when it does not.

    tomllib says no lines. But it can say whether the lines up to a place already hold the key.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if not path:
        return None
    last = path[-1]
    for start, line in enumerate(lines, 1):
        if (isinstance(last, int) or last in line) and _holds(_first_valid(lines, start), path):
            return start
    return None


def _first_valid(lines: Sequence[str], start: int) -> Any:
    """The text up to the end of the statement on line `start`, parsed."""
    for end in range(start, len(lines) + 1):
        try:
            return tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
    return {}


def _holds(document: Any, path: Path) -> bool:
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _dotted(path: Path) -> str:
    """`evidence[2].on`, counted from 0."""
    parts = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return "".join(parts).removeprefix(".")


def _shown(value: object) -> str:
    """A value as it stands in TOML, shortened."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list():
            return "a list"
        case str():
            short = value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "..."
            return f'"{short}"'
        case _:
            return str(value)
