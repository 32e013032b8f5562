"""Targets of metrics: a TOML file in, rows of `target_states` out; mistakes are named.

The file is the full set: applying it writes what is new or different, and marks what is gone.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.resources import files
from math import isfinite
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from touchstream.streams.catalogue import ALL, Catalogue, Metric
from touchstream.streams.definitions import NOW, dimensions_of, has_window, windows_of
from touchstream.streams.moments import epoch_ms
from touchstream.streams.table import MAYBE_MOMENT, MOMENT, TEXT, WORD, Row, Table
from touchstream.streams.toml_table import TomlTable, read_toml

TARGETS = Table(
    "target_states",
    (
        ("target_id", TEXT),
        ("metric", WORD),
        ("window", WORD),
        ("dimension", WORD),
        ("member", TEXT),
        ("target", "Float64"),
        ("direction", WORD),
        ("tolerance", "Float64"),
        ("minimum_n", "UInt64"),
        ("weight", "Float64"),
        ("valid_from", MOMENT),
        ("valid_to", MAYBE_MOMENT),
        ("version", "UInt64"),
        ("is_deleted", "UInt8"),
    ),
)
"""Where metrics should be; the highest `version` is the truth, `is_deleted` marks a target that is
gone."""

KEYS = (
    "metric",
    "window",
    "dimension",
    "member",
    "target",
    "direction",
    "tolerance",
    "minimum_n",
    "weight",
    "valid_from",
    "valid_to",
)
FEW = 20
"""More names than this are not listed in a message."""
MINIMUM_N = 30
"""Measurements that say something of a mean or a share, unless the file says otherwise."""
_STORED = """SELECT target_id, metric, window, dimension, member, target, direction, tolerance,
    minimum_n, weight, toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to),
    version
FROM target_states FINAL WHERE is_deleted = 0"""


@dataclass(frozen=True)
class Target:
    """One target; the columns of `target_states` up to its version, times in ms."""

    target_id: str
    metric: str
    window: str
    dimension: str
    member: str
    target: float
    direction: str
    tolerance: float
    minimum_n: int
    weight: float
    valid_from: int
    valid_to: int | None


class Changes(NamedTuple):
    """What a file changes, by the names of targets."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]


def load_targets_text() -> str:
    """Return the shipped example, as TOML."""
    return files("touchstream.schemas").joinpath("targets.toml").read_text(encoding="utf-8")


def parse_targets(text: str, name: str, catalogue: Catalogue) -> list[Target]:
    """Targets of a file; raises ConfigurationError with its name and the line of the mistake."""
    top = read_toml(text, name)
    top.only("targets")
    owner = top.table("targets")
    return [] if owner is None else [_target(id, each, catalogue) for id, each in owner.tables()]


def stored_targets(client: Client) -> dict[str, tuple[Target, int]]:
    """Targets in ClickHouse by name, with their versions."""
    rows = client.query(_STORED).result_rows
    return {str(row[0]): (Target(*row[:-1]), int(row[-1])) for row in rows}


def apply_targets(client: Client, wanted: Collection[Target], at_ms: int) -> Changes:
    """Make ClickHouse hold exactly these targets; `at_ms` is the time of the change."""
    stored = stored_targets(client)
    latest = int(client.query("SELECT max(version) FROM target_states").result_rows[0][0])
    version = max(latest + 1, at_ms)
    changes = compare(wanted, {name: each for name, (each, _) in stored.items()})
    differ = {*changes.added, *changes.changed}
    rows: list[Row] = [(*astuple(each), version, 0) for each in wanted if each.target_id in differ]
    rows += [(*astuple(stored[name][0]), version, 1) for name in changes.removed]
    if rows:
        insert_rows(client, TARGETS, rows)
    return changes


def compare(wanted: Iterable[Target], stored: Mapping[str, Target]) -> Changes:
    """What differs."""
    found = {each.target_id: each for each in wanted}
    return Changes(
        [name for name in found if name not in stored],
        [name for name, each in found.items() if stored.get(name, each) != each],
        sorted(stored.keys() - found.keys()),
        [name for name, each in found.items() if stored.get(name) == each],
    )


def insert_rows(client: Client, table: Table, rows: Iterable[Row]) -> None:
    """Insert rows of a table; moments are in ms."""
    client.insert(
        table.name,
        list(zip(*rows, strict=True)),
        column_names=table.column_names,
        column_type_names=table.column_types,
        column_oriented=True,
    )


def _target(name: str, table: TomlTable, catalogue: Catalogue) -> Target:
    table.only(*KEYS)
    metric = catalogue.metrics[_one_of(table, "metric", catalogue.metrics)]
    dimension, member = _place(table, metric, catalogue)
    window = _window(table, metric, dimension, catalogue)
    starts, ends = table.moment("valid_from"), table.moment("valid_to")
    if starts and ends and ends <= starts:
        table.fail("valid_to", "must be later than valid_from")
    minimum_n = MINIMUM_N if metric.denominator or metric.quantile is not None else 0
    target = table.number("target")
    if target is None or not isfinite(target):
        table.fail("target", f"must be a number of {metric.unit}")
    return Target(
        name,
        metric.name,
        window,
        dimension,
        member,
        target,
        _direction(table, metric),
        _positive(table, "tolerance", 0.0),
        table.whole("minimum_n", 0, 10**9, minimum_n),
        _positive(table, "weight", 1.0),
        _ms(starts) or 0,
        _ms(ends),
    )


def _place(table: TomlTable, metric: Metric, catalogue: Catalogue) -> tuple[str, str]:
    """Dimension and member."""
    known = dimensions_of(catalogue, metric)
    dimension = _one_of(table, "dimension", known, ALL)
    if dimension == ALL:
        if "member" in table:
            table.fail("member", "needs a dimension")
        return ALL, ""
    return dimension, table.text("member")


def _window(table: TomlTable, metric: Metric, dimension: str, catalogue: Catalogue) -> str:
    known = [
        each
        for each in windows_of(catalogue, metric)
        if each == NOW or has_window(catalogue, each, dimension)
    ]
    return _one_of(table, "window", known, NOW if known == [NOW] else None)


def _direction(table: TomlTable, metric: Metric) -> str:
    if metric.direction == "none" and "direction" not in table:
        table.fail("direction", f"is missing: {metric.name} has no better side, say up or down")
    return table.word("direction", ("up", "down"), metric.direction)


def _positive(table: TomlTable, key: str, default: float) -> float:
    value = table.number(key)
    if value is not None and not (isfinite(value) and value >= 0):
        table.fail(key, f"must be 0 or more, is {value:g}")
    return default if value is None else value


def _one_of(table: TomlTable, key: str, known: Collection[str], default: str | None = None) -> str:
    """A name that is known; else says which may have been meant."""
    if default is not None and key not in table:
        return default
    value = table.text(key)
    if value not in known:
        near = get_close_matches(value, known, 1)
        few = f"known are {', '.join(known)}" if len(known) <= FEW else "docs/metrics.md lists all"
        table.fail(key, f'"{value}" is unknown: ' + (f"did you mean {near[0]}?" if near else few))
    return value


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else epoch_ms(moment.astimezone(UTC))


def described(row: Mapping[str, Any]) -> str:
    """Metric, window and member of a target or of a row of `experience_gap`."""
    who = "everybody" if row["dimension"] == ALL else f"{row['dimension']} {row['member']}"
    return f"{row['metric']} of {who} ({row['window']})"
