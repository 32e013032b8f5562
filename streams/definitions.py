"""The catalogue as rows of ClickHouse, written at the end of every migrate.

What follows from a metric's formula is worked out here once: its windows, its dimensions and its
span. A metric of ordinary measures rolls. One with a number of customers "in the window" is given
for whole UTC days, its ordinary measures too, so that both speak of the same days. One of levels
as they stand now has no window.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from touchstream.streams.catalogue import ALL, DAY_SECONDS, Catalogue, Metric

ROLLING, DAYS, NOW = "rolling", "days", "now"
STEPS = {"minute": 60, "hour": 3600}
BUYER_DIMENSIONS = ("segment", "account")
LEVEL_DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "customers": ("stage",),
    "buyers": BUYER_DIMENSIONS,
    "repeat_buyers": BUYER_DIMENSIONS,
    "repeat_day_buyers": BUYER_DIMENSIONS,
    "earlier_buyers": BUYER_DIMENSIONS,
    "retained_buyers": BUYER_DIMENSIONS,
}
"""Dimensions that agents count a level by, besides everybody."""


@dataclass(frozen=True)
class Definitions:
    """Rows of one table."""

    table: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    """In the order of their names."""


def definitions(catalogue: Catalogue) -> tuple[Definitions, ...]:
    """Read the catalogue as rows; metrics last, as they refer to the others."""
    return (
        window_definitions(catalogue),
        dimension_definitions(catalogue),
        measure_definitions(catalogue),
        metric_definitions(catalogue),
    )


def metric_definitions(catalogue: Catalogue) -> Definitions:
    """Rows of `metric_definitions`."""
    columns = (
        *("name", "family", "help", "numerator", "denominator", "factor", "quantile", "below"),
        *("squared", "unit", "direction", "span", "windows", "dimensions"),
    )
    rows = []
    for _, each in sorted(catalogue.metrics.items()):
        formula = (dict(each.numerator), dict(each.denominator), each.factor, each.quantile)
        shown = (each.below, catalogue.squared(each), each.unit, each.direction)
        given = (windows_of(catalogue, each), dimensions_of(catalogue, each))
        name = (each.name, each.family, each.help)
        rows.append((*name, *formula, *shown, span_of(catalogue, each), *given))
    return Definitions("metric_definitions", columns, rows)


def measure_definitions(catalogue: Catalogue) -> Definitions:
    """Rows of `measure_definitions`."""
    columns = ("name", "help", "scale", "squares", "histogram", "level")
    rows = [
        (name, each.help, each.scale, each.squares, each.histogram, each.level)
        for name, each in sorted(catalogue.measures.items())
    ]
    return Definitions("measure_definitions", columns, rows)


def window_definitions(catalogue: Catalogue) -> Definitions:
    """Rows of `metric_windows`."""
    return Definitions(
        "metric_windows", ("name", "seconds"), sorted({**catalogue.windows, ALL: 0}.items())
    )


def dimension_definitions(catalogue: Catalogue) -> Definitions:
    """Rows of `metric_dimensions`."""
    rows = [
        (name, each.help, STEPS[each.finest]) for name, each in sorted(catalogue.dimensions.items())
    ]
    return Definitions("metric_dimensions", ("name", "help", "step"), rows)


def span_of(catalogue: Catalogue, metric: Metric) -> str:
    """`rolling`, `days` (whole UTC days) or `now` (no window)."""
    levels = [
        ALL if part == ALL else catalogue.measures[name].level for name, part in _terms(metric)
    ]
    if not any(levels):
        return ROLLING
    return NOW if set(levels) <= {ALL, NOW} else DAYS


def windows_of(catalogue: Catalogue, metric: Metric) -> list[str]:
    """Windows that a metric is given for, the shortest first."""
    match span_of(catalogue, metric):
        case "rolling":
            return [*catalogue.windows, ALL]
        case "days":
            return [*catalogue.day_windows, ALL]
        case _:
            return [NOW]


def dimensions_of(catalogue: Catalogue, metric: Metric) -> list[str]:
    """Dimensions that all measures of a metric are counted by."""
    given = [ALL, *catalogue.dimensions]
    for name, _ in _terms(metric):
        if catalogue.measures[name].level:
            known = (ALL, *LEVEL_DIMENSIONS.get(name, ()))
            given = [each for each in given if each in known]
    return given


def has_window(catalogue: Catalogue, window: str, dimension: str) -> bool:
    """Whether rolling metrics have a window in a dimension."""
    seconds = catalogue.windows.get(window, DAY_SECONDS)
    found = catalogue.dimensions.get(dimension)
    return seconds >= DAY_SECONDS or found is None or found.finest == "minute"


def write_definitions(client: Client, catalogue: Catalogue) -> None:
    """Write the tables that differ; they are never empty meanwhile."""
    for each in definitions(catalogue):
        if client.command(f"EXISTS TABLE {each.table}"):
            _write(client, each)


def _write(client: Client, wanted: Definitions) -> None:
    columns = ", ".join(wanted.columns)
    stored = client.query(f"SELECT {columns} FROM {wanted.table} FINAL ORDER BY name").result_rows
    if [tuple(row) for row in stored] == wanted.rows:
        return
    # Before deleting what is gone, so that readers never see an empty catalogue.
    # A replicated table would take a catalogue that was there before for a repeated insert.
    again = {"insert_deduplicate": 0}
    client.insert(wanted.table, wanted.rows, column_names=wanted.columns, settings=again)
    names = [row[0] for row in wanted.rows]
    client.command(f"DELETE FROM {wanted.table} WHERE name NOT IN %s", parameters=[names])


def _terms(metric: Metric) -> list[tuple[str, str]]:
    """Measure and part of every term."""
    terms = [*metric.numerator, *metric.denominator]
    return [(name, part) for name, _, part in (term.partition(".") for term in terms)]
