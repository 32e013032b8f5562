"""What an event contributes to each metric, against published worked examples."""

import math
from typing import Any

import pytest

from touchstream.agents.customer_messages import Answer, Contact, Event, Purchase
from touchstream.agents.facts import SERVICE
from touchstream.agents.measures import Measures, member
from touchstream.agents.panes import Panes
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.state import State
from touchstream.streams.topics import CHANNELS
from touchstream.streams.validation import SCALES

CATALOGUE = load_catalogue()
MEASURES = Measures(CATALOGUE)


def measured(channel: str, action: str, **fields: Any) -> dict[str, int]:
    found = MEASURES.of(Event(0, channel, action, **fields))
    assert len(dict(found)) == len(found)
    return dict(found)


def answer(question: str, score: float | None, *scale: float, item: str | None = None) -> Answer:
    low, high = scale or SCALES.get(question, (1, 5))
    return Answer(question, score, low, high, item=item)


def answered(question: str, score: float | None, *scale: float) -> dict[str, int]:
    return measured("survey", "answered", answer=answer(question, score, *scale))


def ended(channel: str, **fields: Any) -> dict[str, int]:
    found = measured(channel, "ended", contact=Contact(**fields))
    assert found.pop("contact") == 1
    return found


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


@pytest.mark.parametrize(
    ("scores", "expected"),
    [(range(7), (-1, 0, 0, 1)), ((7, 8), (0, 0, 1, 0)), ((9, 10), (1, 1, 0, 0))],
)
def test_nps_classes(scores: tuple[int, ...], expected: tuple[int, ...]) -> None:
    classes = dict(zip(("nps", "promoter", "passive", "detractor"), expected, strict=True))
    assert [answered("nps", score) for score in scores] == [classes] * len(scores)


def test_nps_between_whole_numbers_is_passive_above_6() -> None:
    assert [answered("nps", score)["nps"] for score in (6.0, 6.5, 8.9, 9.0)] == [-1, 0, 0, 1]


@pytest.mark.parametrize(
    ("scale", "scores"),
    [((), {1: 1000, 4: 4000, 7: 7000}), ((1, 5), {1: 1000, 3: 4000, 4: 5500, 5: 7000})],
)
def test_effort_is_converted_to_seven_points(
    scale: tuple[float, ...], scores: dict[float, int]
) -> None:
    assert {score: answered("ces", score, *scale)["ces"] for score in scores} == scores


@pytest.mark.parametrize(
    ("scale", "classes"),
    [
        ((1, 7), [-1, -1, -1, 0, 0, 1, 1]),
        ((1, 5), [-1, -1, 0, 1, 1]),
    ],
)
def test_effort_index_is_judged_on_seven_points(scale: tuple[int, int], classes: list[int]) -> None:
    scores = range(scale[0], scale[1] + 1)
    assert [answered("ces", score, *scale)["ces_index"] for score in scores] == classes


def test_effort_is_easy_from_5_of_seven_points() -> None:
    assert [answered("ces", score)["ces_easy"] for score in range(1, 8)] == [0, 0, 0, 0, 1, 1, 1]


def test_trust_is_measured_as_satisfaction_is() -> None:
    assert answered("trust", 9, 1, 10) == {"trust": 4556, "trust_top2": 1}


@pytest.mark.parametrize(
    ("question", "score"),
    [("csat", None), ("nps", None), ("colour", 4.0), ("enps", 9.0), ("", 4.0)],
)
def test_answer_without_score_or_known_question_measures_nothing(
    question: str, score: float | None
) -> None:
    assert answered(question, score) == {}


@pytest.mark.parametrize("action", ["invited", "expired"])
def test_survey_that_was_not_answered_measures_nothing(action: str) -> None:
    assert measured("survey", action, answer=answer("csat", 4.0)) == {}


@pytest.mark.parametrize("question", ["nps", "csat", "ces", "trust"])
def test_employee_answer_is_no_customers(question: str) -> None:
    assert measured("employee", "answered", answer=answer(question, 5.0)) == {}


def test_employee_recommends() -> None:
    scores = (0, 6, 7, 8, 9, 10)
    found = [measured("employee", "answered", answer=answer("enps", score)) for score in scores]
    assert found == [{"enps": value} for value in (-1, -1, 0, 0, 1, 1)]


@pytest.mark.parametrize(("question", "scale"), [("", ()), ("trust", ()), ("", (1, 7))])
def test_employee_is_engaged_from_the_top_two_points(question: str, scale: tuple[int, ...]) -> None:
    highest = (scale or (1, 5))[1]
    found = [
        measured("employee", "answered", answer=answer(question, score, *scale, item="pride"))
        for score in (highest - 2, highest - 1, highest)
    ]
    assert found == [{"engagement": value} for value in (0, 1, 1)]


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("action", ["ended", "replied", "messaged", "started", "sent"])
def test_finished_contacts_count_once(channel: str, action: str) -> None:
    found = measured(channel, action)
    assert found == ({"contact": 1} if (channel, action) in SERVICE else {})


@pytest.mark.parametrize("channel", ["phone", "chat"])
@pytest.mark.parametrize("handle_ms", [0, 90_000])
def test_handle_time_of_a_finished_contact(channel: str, handle_ms: int) -> None:
    assert ended(channel, handle_ms=handle_ms)["handle_time"] == handle_ms


def test_visit_has_no_handle_time_and_is_not_transferred() -> None:
    assert ended("in_person", handle_ms=90_000, transfers=1, wait_ms=1) == {}


@pytest.mark.parametrize("action", ["transferred", "started"])
def test_call_that_has_not_ended_measures_nothing(action: str) -> None:
    assert measured("phone", action, contact=Contact(handle_ms=90_000, wait_ms=1)) == {}


@pytest.mark.parametrize(
    ("wait_ms", "expected"),
    [
        (None, {}),
        (0, {"answer_time": 0, "answered_in_time": 1}),
        (20_000, {"answer_time": 20_000, "answered_in_time": 1}),
        (20_001, {"answer_time": 20_001}),
    ],
)
def test_call_is_answered_in_time_at_20_seconds(
    wait_ms: int | None, expected: dict[str, int]
) -> None:
    assert ended("phone", wait_ms=wait_ms) == {"answered": 1, "transferred": 0, **expected}


@pytest.mark.parametrize(
    ("wait_ms", "expected"),
    [
        (None, {}),
        (5_000, {"abandoned_in_time": 1, "abandoned_soon": 1}),
        (5_001, {"abandoned_in_time": 1}),
        (20_000, {"abandoned_in_time": 1}),
        (20_001, {}),
    ],
)
def test_call_is_abandoned_soon_at_5_and_in_time_at_20_seconds(
    wait_ms: int | None, expected: dict[str, int]
) -> None:
    assert ended("phone", wait_ms=wait_ms, abandoned=True) == {"abandoned": 1, **expected}


def test_chat_has_a_first_response_and_no_speed_of_answer() -> None:
    assert ended("chat", wait_ms=700) == {"first_response": 700, "transferred": 0}


@pytest.mark.parametrize("channel", ["phone", "chat"])
@pytest.mark.parametrize(("transfers", "expected"), [(None, 0), (0, 0), (1, 1), (3, 1)])
def test_contact_was_transferred_or_not(channel: str, transfers: int | None, expected: int) -> None:
    assert ended(channel, transfers=transfers)["transferred"] == expected


@pytest.mark.parametrize("value_e4", [0, 119_900])
def test_order_and_its_value(value_e4: int) -> None:
    order = Purchase(value_e4=value_e4)
    assert measured("purchase", "placed", purchase=order) == {"order": 1, "revenue": value_e4}


@pytest.mark.parametrize("action", ["paid", "delivered", "returned", "cancelled"])
def test_order_counts_when_it_is_placed_only(action: str) -> None:
    assert measured("purchase", action, purchase=Purchase(value_e4=119_900)) == {}


def test_order_is_one_on_its_own_channel_only() -> None:
    assert measured("web", "placed") == {}


@pytest.mark.parametrize(
    ("sentiment", "sign"), [(-1.0, -1), (-0.05, -1), (-0.0499, 0), (0.0, 0), (0.05, 1), (1.0, 1)]
)
def test_sentiment_is_positive_or_negative_from_5_hundredths(sentiment: float, sign: int) -> None:
    expected = {"sentiment": round(10_000 * sentiment), "net_sentiment": sign}
    assert measured("chat", "message", sentiment=sentiment) == expected


@pytest.mark.parametrize(("brand", "ours"), [(None, 1), ("initech", 0)])
def test_mention_is_ours_without_another_brand(brand: str | None, ours: int) -> None:
    assert measured("social", "mentioned", mark=brand) == {"mention": ours}


@pytest.mark.parametrize(
    ("rating", "good"), [(None, False), (3.9, False), (4.0, True), (5.0, True)]
)
def test_review_is_good_from_4(rating: float | None, good: bool) -> None:
    expected = {"review": 1, "good_review": 1} if good else {"review": 1}
    assert measured("social", "reviewed", rating=rating) == expected


@pytest.mark.parametrize(("about", "expected"), [("phone", "phone"), (None, "survey")])
def test_answer_belongs_to_the_channel_it_is_about(about: str | None, expected: str) -> None:
    asked = Answer("csat", 4.0, 1, 5, about)
    assert member(Event(0, "survey", "answered", answer=asked)) == expected


def sums(question: str, counts: dict[float, int]) -> tuple[int, int, int]:
    """n, total and squares of answers by score."""
    state, panes = State({}), Panes(CATALOGUE)
    for score, count in counts.items():
        value = answered(question, score)[question]
        measurement = (question, 0, value, (("channel", "survey"),), False)
        panes.add([(measurement, count)], state)
    (_, _, _, _, _, _, n, total, squares, *_), *_ = panes.flush(0, state)
    return n, total, squares


def test_published_effort_counts_have_their_mean() -> None:
    counts = dict(enumerate((80.0, 210, 140, 110, 160, 180, 120), 1))
    n, total, _ = sums("ces", {score: int(count) for score, count in counts.items()})
    assert total / CATALOGUE.measures["ces"].scale / n == pytest.approx(4.08)


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
