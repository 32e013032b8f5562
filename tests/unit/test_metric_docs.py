"""The page of metrics, and what the catalogue says follows from a formula."""

from pathlib import Path

import pytest

from touchstream.streams.catalogue import Metric, load_catalogue
from touchstream.streams.definitions import (
    LEVEL_DIMENSIONS,
    definitions,
    dimensions_of,
    has_window,
    span_of,
    windows_of,
)
from touchstream.streams.metric_docs import SOURCES, render_catalogue

CATALOGUE = load_catalogue()
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
DAY_WINDOWS = ["24h", "7d", "30d", "90d", "all"]


def section(metric: str) -> str:
    text = render_catalogue(CATALOGUE).partition(f"\n### {metric}\n")[2]
    return text.partition("\n##")[0]


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text() == render_catalogue(CATALOGUE), "run `make docs`"


def test_every_metric_and_every_measure_is_on_the_page() -> None:
    page = render_catalogue(CATALOGUE)
    for metric in CATALOGUE.metrics.values():
        assert f"\n### {metric.name}\n\n{metric.help}.\n" in page
    for measure in CATALOGUE.measures.values():
        assert f"\n| `{measure.name}` | {measure.help} |" in page


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("nps", "- Formula: `100 * {nps} / {nps.n}`"),
        ("nps", "- Example: {nps.n} = 324, {nps} = 108: 33.33 points"),
        ("nps", "- Interval: normal"),
        ("orders", "- Formula: `{order}`"),
        ("orders", "- Interval: none"),
        ("churn", "- Formula: `100 * ({earlier_buyers} - {retained_buyers}) / {earlier_buyers}`"),
        ("churn", "- Windows: whole UTC days"),
        ("churn", "- Dimensions: all, segment, account"),
        ("retention", "- Interval: Wilson"),
        ("customers", "- Windows: `now`"),
        ("handle_time_p90", "- Formula: 0.9 quantile of `handle_time`"),
        ("handle_time_p90", "- Example: of 1, 2, ..., 10 seconds: 9"),
        ("enps", "- Hidden: with fewer than 5 measurements"),
        ("passives", "- Better: neither"),
        ("service_level_f2", "- Source: Call Centre Helper"),
    ],
)
def test_a_metric_has_its_formula_and_an_example(metric: str, line: str) -> None:
    assert line in section(metric)


def test_every_source_is_of_a_metric() -> None:
    assert [s for s in SOURCES if not any(name.startswith(s) for name in CATALOGUE.metrics)] == []


@pytest.mark.parametrize(
    ("metric", "span", "windows"),
    [
        ("csat", "rolling", ["5m", "1h", *DAY_WINDOWS]),
        ("purchase_frequency", "days", DAY_WINDOWS),
        ("retention", "days", DAY_WINDOWS),
        ("customers", "now", ["now"]),
        ("churn_risk_share", "now", ["now"]),
    ],
)
def test_windows_follow_from_the_measures(metric: str, span: str, windows: list[str]) -> None:
    found = CATALOGUE.metrics[metric]
    assert (span_of(CATALOGUE, found), windows_of(CATALOGUE, found)) == (span, windows)


def test_an_ordinary_measure_by_a_number_of_all_time_is_of_whole_days() -> None:
    metric = Metric("x", "", "", {"order": 1}, {"buyers.all": 1}, "", "none")
    assert span_of(CATALOGUE, metric) == "days"


@pytest.mark.parametrize(
    ("metric", "dimensions"),
    [
        ("csat", ["all", *CATALOGUE.dimensions]),
        ("buyers", ["all", "segment", "account"]),
        ("purchase_frequency", ["all", "segment", "account"]),
        ("churn_risk_share", ["all"]),
        ("customers", ["all", "stage"]),
    ],
)
def test_a_metric_is_given_by_what_all_its_measures_are_counted_by(
    metric: str, dimensions: list[str]
) -> None:
    assert dimensions_of(CATALOGUE, CATALOGUE.metrics[metric]) == dimensions


def test_dimensions_of_levels_are_those_of_the_catalogue() -> None:
    levels = {name for name, each in CATALOGUE.measures.items() if each.level}
    assert set(LEVEL_DIMENSIONS) <= levels
    assert {each for few in LEVEL_DIMENSIONS.values() for each in few} <= set(CATALOGUE.dimensions)


def test_short_windows_need_panes_of_a_minute() -> None:
    given = {
        (window, dimension)
        for window in ("5m", "24h", "all", "now")
        for dimension in ("all", "queue", "account")
        if has_window(CATALOGUE, window, dimension)
    }
    assert ("5m", "account") not in given
    assert len(given) == 11


def test_rows_of_a_table_are_in_the_order_of_their_names() -> None:
    for each in definitions(CATALOGUE):
        names = [row[0] for row in each.rows]
        assert names == sorted(set(names))
        assert all(len(row) == len(each.columns) for row in each.rows)
