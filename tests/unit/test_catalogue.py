"""The metric catalogue: mistakes are named by line and key, and what is shipped is measured."""

import random
from pathlib import Path

import pytest
from lives import random_life
from test_lives import Life, net_levels

from touchstream.streams.catalogue import Catalogue, Metric, load_catalogue, parse_catalogue
from touchstream.streams.errors import ConfigurationError

SHIPPED = load_catalogue()
TEXT = """\
[settings]
answer_within_ms = 30000
service_level = "f2"
windows = { 5m = 300, 7d = 604800, 24h = 86400 }
[dimensions]
queue = { finest = "minute", members = 3, help = "Queue" }
[measures]
answered = { on = ["phone.ended"], help = "Calls" }
csat = { scale = 1000, squares = true, help = "Satisfaction" }
wait = { on = ["chat.ended"], value = "wait_ms", histogram = true, help = "Wait" }
buyers = { level = "windows", help = "Buyers" }
late = { level = "now", help = "Late" }
[metrics.service_level_f2]
family = "quality and operations"
help = "Share"
numerator = "answered"
denominator = { answered = 1, late = -1 }
factor = 100
unit = "percent"
direction = "up"
[metrics.wait]
family = "quality and operations"
help = "Median wait"
numerator = "wait"
quantile = 0.5
unit = "seconds"
[metrics.csat]
family = "satisfaction"
help = "Mean"
numerator = "csat"
denominator = "csat.n"
unit = "points"
below = 5
[metrics.share]
family = "retention and churn"
help = "Share"
numerator = "buyers"
denominator = "buyers.all"
unit = "share"
"""


def parsed(text: str = TEXT) -> Catalogue:
    return parse_catalogue(text, "m.toml")


def refused(old: str, new: str) -> str:
    """What is said about the text with something else in it."""
    assert TEXT.count(old) == 1
    with pytest.raises(ConfigurationError) as raised:
        parsed(TEXT.replace(old, new))
    return str(raised.value)


def test_catalogue_says_what_its_file_says() -> None:
    found = parsed()
    assert (found.answer_within_ms, found.short_abandon_ms) == (30_000, 5_000)
    assert found.measures["wait"].on == ("chat.ended",)
    assert found.dimensions["queue"].members == 3
    assert found.metrics["wait"] == Metric(
        "wait",
        "quality and operations",
        "Median wait",
        {"wait": 1},
        {},
        "seconds",
        "none",
        quantile=0.5,
    )
    assert found.metrics["service_level_f2"].denominator == {"answered": 1, "late": -1}


def test_customers_are_counted_in_windows_of_whole_days() -> None:
    assert parsed().day_windows == {"7d": 7, "24h": 1}


@pytest.mark.parametrize(
    ("metric", "squared"), [("csat", True), ("service_level_f2", False), ("wait", False)]
)
def test_interval_follows_from_squares_of_the_one_measure(metric: str, squared: bool) -> None:
    found = parsed()
    assert found.squared(found.metrics[metric]) is squared


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('= "csat"\n', '= "cast"\n', "30: metrics.csat.numerator names 'cast', which is not a"),
        ('"csat.n"', '"csat.m"', "31: metrics.csat.denominator names 'csat.m', which csat does no"),
        ('"csat.n"', '"csat.all"', "31: metrics.csat.denominator names 'csat.all', which csat"),
        ('"buyers.all"', '"buyers.n"', "38: metrics.share.denominator names 'buyers.n', which bu"),
        (", late =", ", late.n =", "17: metrics.service_level_f2.denominator "),
        ("phone.ended", "fax.ended", "8: measures.answered.on holds 'fax.ended', which is not ch"),
        ("phone.ended", "phone", "8: measures.answered.on holds 'phone', which is not channel.ac"),
        ('"windows"', '"weeks"', '11: measures.buyers.level must be one of windows, now, , is "we'),
        ('"wait_ms"', '"score"', "10: measures.wait.value must be one of value_e4, wait_ms, han"),
        ("histogram = true, ", "", "25: metrics.wait.quantile needs a measure with a histogram"),
        ("0.5", "50", "25: metrics.wait.quantile must be a number between 0 and 1, is 50"),
        ("squares", "square", "9: measures.csat.square is unknown: did you mean squares?"),
        ("below", "bellow", "33: metrics.csat.bellow is unknown: did you mean below?"),
        ("answer_within_ms", "answer_in_ms", "2: settings.answer_in_ms is unknown: did you mean"),
        ('queue = { finest = "minute"', 'queue = { finest = "day"', "6: dimensions.queue.finest"),
        ("members = 3, ", "", "6: dimensions.queue.members is missing: a whole number from 1 to"),
        (', help = "Calls"', "", "8: measures.answered.help is missing: a text"),
        ('help = "Mean"', 'help = ""', '29: metrics.csat.help must be a text, is ""'),
        ('numerator = "wait"\n', "", "21: metrics.wait.numerator is missing"),
        ('"percent"', "7", "19: metrics.service_level_f2.unit must be a text, is 7"),
        ('unit = "seconds"\n', "", "21: metrics.wait.unit is missing: a text"),
        ('"satisfaction"', '"joy"', "28: metrics.csat.family must be one of satisfaction, reten"),
        ('"up"', '"left"', "20: metrics.service_level_f2.direction must be one of up, down, no"),
        ('"f2"', '"f5"', "3: settings.service_level must be one of f1, f2, f3, f4, is "),
        ("= 300,", "= 90,", "4: settings.windows.5m must be a number of whole minutes"),
        ("= 604800", "= 604860", "4: settings.windows.7d must be a number of whole hours"),
        ("5m = 300", "all = 300", "4: settings.windows.all must be"),
        ("5m = 300", "now = 300", "4: settings.windows.now must be"),
        ("= 604800", '= "week"', "4: settings.windows.7d must be a whole number from 60 to 31622"),
        (
            "= 300,",
            "= 30,",
            "4: settings.windows.5m must be a whole number from 60 to 31622400, is",
        ),
        ("csat = {", "Csat = {", "9: measures.Csat must be lower case letters, digits and _"),
        ("[dimensions]", "[dimension]", "5: dimension is unknown: did you mean dimensions?"),
        ("csat = {", "csat = 3 # {", "9: measures.csat must be a table, is 3"),
    ],
)
def test_mistake_is_named_by_line_and_key(old: str, new: str, message: str) -> None:
    assert refused(old, new).startswith(f"m.toml:{message}")


@pytest.mark.parametrize(
    "table", ["settings", "settings.windows", "dimensions", "measures", "metrics"]
)
def test_what_is_missing_altogether_is_named(table: str) -> None:
    tables = ("settings", "settings.windows", "dimensions", "measures", "metrics")
    text = "".join(f"[{name}]\n" for name in tables if not name.startswith(table))
    with pytest.raises(ConfigurationError, match=f"^m.toml:1: {table} is missing"):
        parsed(text)


def test_service_level_is_the_chosen_variant() -> None:
    metrics = parsed().metrics
    assert metrics["service_level"].name == "service_level"
    assert metrics["service_level"].denominator == metrics["service_level_f2"].denominator


def test_service_level_is_the_fourth_variant_unless_said_otherwise() -> None:
    text = TEXT.replace('service_level = "f2"\n', "").replace(
        "service_level_f2", "service_level_f4"
    )
    assert "service_level" in parsed(text).metrics
    assert "service_level" not in parsed(TEXT.replace('"f2"', '"f3"')).metrics


@pytest.mark.parametrize("variant", ["f1", "f2", "f3", "f4"])
def test_shipped_catalogue_has_every_variant_of_the_service_level(variant: str) -> None:
    assert SHIPPED.metrics[f"service_level_{variant}"].factor == 100


def test_catalogue_of_a_file_is_read_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(ConfigurationError, match="metrics file .*mine.toml: "):
        load_catalogue(path)
    path.write_text(TEXT, encoding="utf-8")
    assert load_catalogue(path) == parsed()


def test_every_shipped_measure_is_used_by_a_metric() -> None:
    terms = [
        term
        for metric in SHIPPED.metrics.values()
        for term in (*metric.numerator, *metric.denominator)
    ]
    assert {term.partition(".")[0] for term in terms} == set(SHIPPED.measures)


@pytest.fixture(scope="module")
def emitted() -> dict[tuple[str, bool], set[str]]:
    """Windows by measure that random lives come to, and by whether it is a level."""
    found: dict[tuple[str, bool], set[str]] = {}
    for seed in range(60):
        life = Life()
        for each in random_life(random.Random(seed), 40):
            life.see(b"i", each)
        names = {(entry[0], False) for entry in life.measured if not entry[-1]}
        names |= {(level, True) for level, *_ in net_levels(life.measured)}
        for name, is_level in names:
            measure, _, window = name.partition("@")
            found.setdefault((measure, is_level), set()).add(window)
    return found


INVITATIONS = {("event_invited", False), ("event_registered", False)}
"""To events: random lives have none; measured by their touchpoint alone."""


def test_agents_measure_exactly_what_the_catalogue_has(
    emitted: dict[tuple[str, bool], set[str]],
) -> None:
    expected = {(name, bool(each.level)) for name, each in SHIPPED.measures.items()}
    assert set(emitted) | INVITATIONS == expected


def test_levels_have_the_windows_of_whole_days_and_all_time(
    emitted: dict[tuple[str, bool], set[str]],
) -> None:
    """Where they can: a day has one order day, and nothing is before all time."""
    days = {"24h", "7d", "30d", "90d"}
    missing = {"earlier_buyers": "all", "retained_buyers": "all", "repeat_day_buyers": "24h"}
    for name, each in SHIPPED.measures.items():
        if each.level == "windows":
            assert emitted[name, True] == {*days, "all"} - {missing.get(name)}, name
        elif each.level == "now":
            assert emitted[name, True] == {""}, name


def test_every_window_of_all_time_that_a_metric_uses_is_measured(
    emitted: dict[tuple[str, bool], set[str]],
) -> None:
    for metric in SHIPPED.metrics.values():
        for term in (*metric.numerator, *metric.denominator):
            measure, _, part = term.partition(".")
            assert part != "all" or "all" in emitted[measure, True], metric.name
