"""The metric catalogue: what is measured, and which metrics follow from it, `schemas/metrics.toml`.

A measure has a state that adds up; a metric is a formula over measures. Raises ConfigurationError
naming line and key of a mistake.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from touchstream.schemas import load_metrics_text
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.toml_table import TomlTable, read_toml
from touchstream.streams.topics import CHANNELS

LEVELS = ("windows", "now")
FINEST = ("minute", "hour")
UNITS_OF_VALUE = ("value_e4", "wait_ms", "handle_ms", "rating")
FAMILIES = (
    "satisfaction",
    "retention and churn",
    "advocacy and loyalty",
    "quality and operations",
    "employee engagement",
)
VARIANTS = ("f1", "f2", "f3", "f4")
DIRECTIONS = ("up", "down", "none")
DAY_SECONDS = 86_400
LARGEST_SCALE = 1_000_000
ALL = "all"
"""The window without a beginning, and the dimension of everybody."""
NOW = "now"
"""The window of what is so, whenever it began."""


@dataclass(frozen=True)
class Measure:
    """Something that happens to a customer; see the head of `metrics.toml`."""

    name: str
    help: str
    on: tuple[str, ...] = ()
    """Touchpoints, `channel.action`; none for a measure that agents derive."""
    value: str = ""
    """Field that is measured; empty counts 1."""
    scale: int = 1
    squares: bool = False
    histogram: bool = False
    level: str = ""
    """`windows` or `now` for a number of customers as it stands; else empty."""


@dataclass(frozen=True)
class Metric:
    """A formula over measures: `factor` * numerator / denominator, or a quantile."""

    name: str
    family: str
    help: str
    numerator: Mapping[str, int]
    """Weight by term; a term is a measure, `measure.n`, or `measure.all`: a level of all time."""
    denominator: Mapping[str, int]
    """Empty for a total, which is not divided."""
    unit: str
    direction: str
    factor: int = 1
    quantile: float | None = None
    below: int = 0
    """With fewer measurements than this the value is hidden."""


@dataclass(frozen=True)
class Dimension:
    """A way to tell customers or touchpoints apart."""

    name: str
    help: str
    finest: str
    members: int
    """Members, of one customer partition, that are counted each; further ones are `(other)`."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that `metrics.toml` says."""

    measures: Mapping[str, Measure]
    metrics: Mapping[str, Metric]
    dimensions: Mapping[str, Dimension]
    windows: Mapping[str, int]
    """Length in seconds by name, the shortest first."""
    answer_within_ms: int
    short_abandon_ms: int

    @property
    def day_windows(self) -> dict[str, int]:
        """Length in days of the windows that have whole days; those of customer counts."""
        return {
            name: seconds // DAY_SECONDS
            for name, seconds in self.windows.items()
            if seconds % DAY_SECONDS == 0
        }

    def squared(self, metric: Metric) -> bool:
        """Whether the interval of a metric follows from the squares of its one measure."""
        if len(metric.numerator) != 1 or metric.quantile is not None:
            return False
        (name,) = metric.numerator
        return metric.denominator == {f"{name}.n": 1} and self.measures[name].squares


def parse_catalogue(text: str, name: str) -> Catalogue:
    """Catalogue of a file; `name` is for messages."""
    top = read_toml(text, name)
    top.only("settings", "dimensions", "measures", "metrics")
    settings = _needed(top, "settings")
    settings.only("answer_within_ms", "short_abandon_ms", "service_level", "windows")
    measures = {key: _measure(key, table) for key, table in _tables(top, "measures")}
    metrics = {key: _metric(key, table, measures) for key, table in _tables(top, "metrics")}
    variant = settings.word("service_level", VARIANTS, "f4")
    if f"service_level_{variant}" in metrics:
        chosen = metrics[f"service_level_{variant}"]
        metrics["service_level"] = _renamed(chosen, "service_level")
    windows = _needed(settings, "windows")
    lengths = [(key, _window(key, windows)) for key in windows]
    return Catalogue(
        measures,
        metrics,
        {key: _dimension(key, table) for key, table in _tables(top, "dimensions")},
        dict(sorted(lengths, key=lambda item: item[1])),
        settings.whole("answer_within_ms", 0, 86_400_000, 20_000),
        settings.whole("short_abandon_ms", 0, 86_400_000, 5_000),
    )


@cache
def load_catalogue(path: Path | None = None) -> Catalogue:
    """Catalogue of a file, the shipped one by default."""
    if path is None:
        return parse_catalogue(load_metrics_text(), "metrics.toml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"metrics file {path}: {error}") from None
    return parse_catalogue(text, str(path))


def _renamed(metric: Metric, name: str) -> Metric:
    fields = {**vars(metric), "name": name}
    return Metric(**fields)


def _window(name: str, windows: TomlTable) -> int:
    """Length in seconds; windows are put together from whole minutes, longer ones from hours."""
    seconds = windows.whole(name, 60, 366 * DAY_SECONDS)
    step = 60 if seconds < DAY_SECONDS else 3600
    if not name.isalnum() or name in (ALL, NOW):
        windows.fail(name, f"must be letters and digits, and not {ALL} or {NOW}")
    if seconds % step:
        windows.fail(name, f"must be a number of whole {'minutes' if step == 60 else 'hours'}")
    return seconds


def _needed(owner: TomlTable, key: str) -> TomlTable:
    table = owner.table(key)
    if table is None:
        owner.fail(key, "is missing")
    return table


def _tables(top: TomlTable, key: str) -> Iterator[tuple[str, TomlTable]]:
    owner = _needed(top, key)
    for name, table in owner.tables():
        if not name.replace("_", "").isalnum() or not name.islower():
            owner.fail(name, "must be lower case letters, digits and _")
        yield name, table


def _measure(name: str, table: TomlTable) -> Measure:
    table.only("help", "on", "value", "scale", "squares", "histogram", "level")
    on = tuple(table.texts("on") or ())
    for each in on:
        if each.partition(".")[0] not in CHANNELS or not each.partition(".")[2]:
            table.fail("on", f"holds '{each}', which is not channel.action")
    return Measure(
        name,
        table.text("help"),
        on,
        table.word("value", (*UNITS_OF_VALUE, ""), ""),
        table.whole("scale", 1, LARGEST_SCALE, 1),
        table.flag("squares", False),
        table.flag("histogram", False),
        table.word("level", (*LEVELS, ""), ""),
    )


def _metric(name: str, table: TomlTable, measures: Mapping[str, Measure]) -> Metric:
    table.only(
        "family",
        "help",
        "numerator",
        "denominator",
        "factor",
        "quantile",
        "below",
        "unit",
        "direction",
    )
    quantile = table.fraction("quantile")
    numerator = _terms(table, "numerator", measures)
    if not numerator:
        table.fail("numerator", "is missing")
    if quantile is not None and any(not measures[_name(term)].histogram for term in numerator):
        table.fail("quantile", "needs a measure with a histogram as its numerator")
    return Metric(
        name,
        table.word("family", FAMILIES, ""),
        table.text("help"),
        numerator,
        _terms(table, "denominator", measures),
        table.text("unit"),
        table.word("direction", DIRECTIONS, "none"),
        table.whole("factor", 1, LARGEST_SCALE, 1),
        quantile,
        table.whole("below", 0, LARGEST_SCALE, 0),
    )


def _terms(table: TomlTable, key: str, measures: Mapping[str, Measure]) -> dict[str, int]:
    terms = table.weights(key)
    for term in terms:
        name, _, part = term.partition(".")
        measure = measures.get(name)
        if measure is None:
            table.fail(key, f"names '{name}', which is not a measure")
        parts = ("", ALL) if measure.level == "windows" else ("",) if measure.level else ("", "n")
        if part not in parts:
            table.fail(key, f"names '{term}', which {name} does not have")
    return terms


def _name(term: str) -> str:
    return term.partition(".")[0]


def _dimension(name: str, table: TomlTable) -> Dimension:
    table.only("help", "finest", "members")
    finest = table.word("finest", FINEST, "hour")
    return Dimension(name, table.text("help"), finest, table.whole("members", 1, 100_000))
