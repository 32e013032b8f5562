"""What an event contributes to each metric, against published worked examples."""

import math
import tomllib
from importlib.resources import files
from typing import Any

import pytest

from touchstream.agents.customer_messages import Event
from touchstream.agents.measures import CONTACTS, measures, member
from touchstream.agents.panes import Pane
from touchstream.streams.topics import CHANNELS

CATALOGUE = tomllib.loads(
    files("touchstream.schemas").joinpath("metrics.toml").read_text(encoding="utf-8")
)


def measured(channel: str, action: str, **fields: Any) -> dict[str, int]:
    found = list(measures(Event(0, channel, action, **fields)))
    assert len(dict(found)) == len(found)
    return dict(found)


def answered(question: str, score: float, *scale: float) -> dict[str, int]:
    low, high = scale or (None, None)
    fields = {"question": question, "score": score, "scale_min": low, "scale_max": high}
    return measured("survey", "answered", **fields)


@pytest.mark.parametrize(
    ("scale", "scores"),
    [
        ((), {1: 1000, 2: 2000, 3: 3000, 4: 4000, 5: 5000}),
        ((1, 5), {1: 1000, 3: 3000, 5: 5000}),
        ((1, 7), {1: 1000, 2: 1667, 4: 3000, 6: 4333, 7: 5000}),
        ((0, 10), {0: 1000, 5: 3000, 9: 4600, 10: 5000}),
        ((1, 3), {1: 1000, 2: 3000, 3: 5000}),
        ((0, 1), {0: 1000, 1: 5000}),
    ],
)
def test_satisfaction_is_converted_to_five_points(
    scale: tuple[float, ...], scores: dict[float, int]
) -> None:
    assert {score: answered("csat", score, *scale)["csat"] for score in scores} == scores


@pytest.mark.parametrize(
    ("scale", "satisfied"),
    [
        ((), {4, 5}),
        ((1, 5), {4, 5}),
        ((1, 7), {6, 7}),
        ((1, 10), {9, 10}),
        ((0, 10), {9, 10}),
        ((1, 3), {3}),
        ((0, 1), {1}),
        ((1, 2), {2}),
    ],
)
def test_satisfied_are_the_top_two_points_or_one_of_three(
    scale: tuple[int, ...], satisfied: set[int]
) -> None:
    low, high = scale or (1, 5)
    found = {n: answered("csat", n, *scale)["csat_top2"] for n in range(low, high + 1)}
    assert {n for n, top in found.items() if top == 1} == satisfied
    assert set(found.values()) == {0, 1}


@pytest.mark.parametrize(("scores", "expected"), [(range(7), -1), ((7, 8), 0), ((9, 10), 1)])
def test_nps_classes(scores: tuple[int, ...], expected: int) -> None:
    assert [answered("nps", score) for score in scores] == [{"nps": expected}] * len(scores)


def test_nps_states_its_own_scale() -> None:
    assert answered("nps", 9, 0, 10) == {"nps": 1}


@pytest.mark.parametrize("scale", [(1, 10), (0, 5)])
def test_nps_on_another_scale_is_not_nps(scale: tuple[int, int]) -> None:
    assert answered("nps", 5, *scale) == {}


@pytest.mark.parametrize(
    ("scale", "scores"),
    [((), {1: 1000, 4: 4000, 7: 7000}), ((1, 5), {1: 1000, 3: 4000, 4: 5500, 5: 7000})],
)
def test_effort_is_converted_to_seven_points(
    scale: tuple[float, ...], scores: dict[float, int]
) -> None:
    assert {score: answered("ces", score, *scale) for score in scores} == {
        score: {"ces": value} for score, value in scores.items()
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "csat"},
        {"question": "trust", "score": 4.0},
        {"question": None, "score": 4.0},
        {},
    ],
)
def test_answer_without_score_or_known_question_measures_nothing(fields: dict[str, Any]) -> None:
    assert measured("survey", "answered", **fields) == {}


@pytest.mark.parametrize("action", ["invited", "expired"])
def test_survey_that_was_not_answered_measures_nothing(action: str) -> None:
    assert measured("survey", action, question="csat", score=4.0) == {}


def test_employee_answer_is_no_customers() -> None:
    assert measured("employee", "answered", question="nps", score=9.0) == {}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("action", ["ended", "replied", "messaged", "started", "sent"])
def test_finished_contacts_count_once(channel: str, action: str) -> None:
    contact = (channel, action) in {
        ("phone", "ended"),
        ("chat", "ended"),
        ("in_person", "ended"),
        ("email", "replied"),
        ("sms", "replied"),
        ("social", "messaged"),
    }
    assert measured(channel, action) == ({"contacts": 1} if contact else {})


@pytest.mark.parametrize("channel", ["phone", "chat"])
@pytest.mark.parametrize("handle_ms", [0, 90_000])
def test_handle_time_of_a_finished_contact(channel: str, handle_ms: int) -> None:
    expected = {"contacts": 1, "average_handle_time": handle_ms}
    assert measured(channel, "ended", handle_ms=handle_ms) == expected


def test_handle_time_of_an_unfinished_contact_is_not_measured() -> None:
    assert measured("phone", "transferred", handle_ms=90_000) == {}


@pytest.mark.parametrize("value_e4", [0, 119_900])
def test_order_and_its_value(value_e4: int) -> None:
    assert measured("purchase", "placed", value_e4=value_e4) == {"orders": 1, "revenue": value_e4}


def test_order_without_a_value_counts() -> None:
    assert measured("purchase", "placed") == {"orders": 1, "revenue": 0}


@pytest.mark.parametrize("action", ["paid", "delivered", "returned", "cancelled"])
def test_order_counts_when_it_is_placed_only(action: str) -> None:
    assert measured("purchase", action, value_e4=119_900) == {}


def test_value_seen_on_the_web_is_no_revenue() -> None:
    assert measured("web", "placed", value_e4=119_900) == {}


@pytest.mark.parametrize(("about", "expected"), [("phone", "phone"), (None, "survey")])
def test_answer_belongs_to_the_channel_it_is_about(about: str | None, expected: str) -> None:
    assert member(Event(0, "survey", "answered", about_channel=about)) == expected


def everything_measured() -> set[str]:
    found: set[str] = set()
    for channel, action in CONTACTS:
        found |= set(measured(channel, action, handle_ms=1))
    for question in ("csat", "nps", "ces"):
        found |= set(answered(question, 3))
    return found | set(measured("purchase", "placed"))


def test_catalogue_has_exactly_what_is_measured() -> None:
    assert everything_measured() == set(CATALOGUE)


def sums(question: str, counts: dict[float, int]) -> tuple[int, int, int]:
    """n, total and squares of answers by score."""
    pane = Pane()
    for score, count in counts.items():
        for _ in range(count):
            for measure in measures(Event(0, "survey", "answered", question=question, score=score)):
                pane.add(measure, 1)
    return pane.metrics[question]


def test_published_effort_counts_have_their_mean() -> None:
    counts = dict(enumerate((80.0, 210, 140, 110, 160, 180, 120), 1))
    n, total, _ = sums("ces", {score: int(count) for score, count in counts.items()})
    assert total / CATALOGUE["ces"]["scale"] / n == pytest.approx(4.08)


@pytest.fixture
def nps() -> tuple[int, int, int]:
    """324 answers: 1/2 promoters, 1/3 passive, 1/6 detractors."""
    return sums("nps", {10: 100, 9: 62, 8: 60, 7: 48, 6: 30, 0: 24})


def test_published_nps_shares_have_their_score(nps: tuple[int, int, int]) -> None:
    n, total, _ = nps
    assert 100 * total / n == pytest.approx(33.33, abs=0.005)


def test_published_nps_shares_have_their_variance_and_margin(nps: tuple[int, int, int]) -> None:
    n, total, squares = nps
    variance = squares / n - (total / n) ** 2
    error = 100 * math.sqrt(variance / n)
    assert variance == pytest.approx(5 / 9)
    assert error == pytest.approx(4.1409, abs=5e-5)
    assert 1.959964 * error == pytest.approx(8.1159, abs=2e-3)
