"""What raises an alert, once for each cause, and what does not."""

import pytest
from pipeline import profile
from scenarios import Published, answer, at, call, chat, order, scale, touch
from test_lives import touch_of

from touchstream.agents.customer_messages import (
    Activity,
    Arrive,
    CustomerMessage,
    Move,
    Touched,
    customer_name,
    encode,
)
from touchstream.agents.facts import event_key, event_of
from touchstream.agents.resolution import Token
from touchstream.streams.alerts import Alert, decode_alert
from touchstream.streams.positions import frame, input_position
from touchstream.streams.records import Record
from touchstream.streams.stage import run_chunk
from touchstream.streams.topics import ALERTS, CUSTOMER

ME, OTHER = bytes(15) + b"a", bytes(15) + b"b"
"""Customers."""
ANN, BOB = b"n" * 16, b"o" * 16
"""Identities."""
STAGE = profile()


def said(published: Published, identity: Token = ANN) -> Touched:
    channel, touchpoint = published
    event = event_of(touch_of(channel, {"properties": {}, **touchpoint}))
    key = event_key(channel, touchpoint["event_id"])
    return Touched(identity, "email", key, event)


def alerts(*messages: CustomerMessage, customer: Token = ME) -> list[Alert]:
    """All alerts of one customer that was told the messages, one by one."""
    records = [
        Record(CUSTOMER, 0, n, 1_000 + n, customer, frame(input_position(1, 0, n), 0, body))
        for n, body in enumerate(map(encode, messages))
    ]
    outcome = run_chunk(STAGE, records, {}, source=9, partitions=1)
    return [decode_alert(m.value) for m in outcome.messages if m.topic == ALERTS]


def kinds(*published: Published) -> list[str]:
    return [alert.kind for alert in alerts(*map(said, published))]


@pytest.mark.parametrize("score", [0, 6, 6.5, 7, 10])
def test_detractor_answers_0_to_6(score: float) -> None:
    assert kinds(answer(0, "nps", score)) == (["detractor"] if score <= 6 else [])


@pytest.mark.parametrize(
    ("score", "asked", "low"),
    [
        (1, {}, True),
        (2, {}, True),
        (2.5, {}, False),
        (3, {}, False),
        (3, scale(1, 10), True),  # 1.89 of 5
        (4, scale(1, 10), False),  # 2.33 of 5
        (2, scale(0, 10), True),
        (25, scale(0, 100), True),
        (26, scale(0, 100), False),
        (0, scale(0, 1), True),
        (1, scale(0, 1), False),
    ],
)
def test_satisfaction_is_low_up_to_2_of_5(score: float, asked: dict[str, float], low: bool) -> None:
    assert kinds(answer(0, "csat", score, **asked)) == (["low_csat"] if low else [])


@pytest.mark.parametrize(
    "published",
    [
        answer(0, "ces", 1),
        answer(0, "trust", 1),
        answer(0, "taste", 1),
        touch("survey.answered", at(0), question="nps"),
        touch("survey.answered", at(0), question="csat"),
        touch("survey.invited", at(0), question="csat", score=1.0),
        touch("employee.answered", at(0), question="nps", score=1.0),
        touch("employee.answered", at(0), question="csat", score=1.0),
        touch("web.page_viewed", at(0)),
    ],
)
def test_other_touchpoints_raise_no_alert(published: Published) -> None:
    assert kinds(published) == []


def test_alert_of_an_answer_says_who_answered_what() -> None:
    published = answer(0, "csat", 3.0, about_channel="phone", **scale(1, 10))
    (alert,) = alerts(said(published))
    assert (alert.customer_id, alert.raised_at) == (customer_name(ME), 1_000)
    assert alert.reason == "answered 3 of 10 to the satisfaction question"
    assert alert.evidence == {
        "event_key": f"{event_key('survey', published[1]['event_id']):016x}",
        "occurred_at": str(at(0, 12)),
        "question": "csat",
        "score": "3",
        "about_channel": "phone",
    }


def test_duplicate_raises_no_alert() -> None:
    message = said(answer(0, "nps", 3))
    assert len(alerts(message, message)) == 1


def test_every_answer_raises_an_alert_of_its_own() -> None:
    found = alerts(said(answer(0, "nps", 3)), said(answer(1, "nps", 3)))
    assert len({alert.alert_id for alert in found}) == 2


def test_late_answer_raises_its_alert() -> None:
    assert kinds(answer(5, "nps", 10), answer(0, "nps", 3)) == ["detractor"]


def test_alert_of_an_answer_is_the_same_at_whichever_customer() -> None:
    """A crash between two customers may let both of them raise it."""
    message = said(answer(0, "nps", 3))
    (one,), (other,) = alerts(message), alerts(message, customer=OTHER)
    assert one.alert_id == other.alert_id


def test_answers_that_arrive_with_their_identity_raise_no_alert_again() -> None:
    message = said(answer(0, "nps", 3))
    arrival = Arrive(ANN, Activity("email", {message.event_key: message.event}))
    assert alerts(arrival) == []


SOLVED = call(0, topic="bill", resolved=True)


def test_contact_on_a_solved_issue_raises_an_alert() -> None:
    (alert,) = alerts(said(SOLVED), said(chat(3, topic="bill")))
    assert (alert.kind, alert.customer_id) == ("issue_reopened", customer_name(ME))
    key = f"{event_key(SOLVED[0], SOLVED[1]['event_id']):016x}"
    assert alert.evidence == {"solved_by": key, "solved_at": str(at(0, 12))}


@pytest.mark.parametrize(
    "published",
    [
        (call(0, topic="bill"), chat(3, topic="bill")),
        (SOLVED, chat(3, topic="line")),
        (SOLVED, chat(8, topic="bill")),
        (SOLVED, call(3, topic="bill", abandoned=True)),
        (SOLVED, order(3)),
    ],
    ids=["not solved", "another topic", "too late", "abandoned", "no contact"],
)
def test_issue_that_is_not_reopened_raises_no_alert(published: tuple[Published, ...]) -> None:
    assert kinds(*published) == []


def test_issue_that_is_reopened_twice_raises_two_alerts() -> None:
    again = [call(day, topic="bill", resolved=True) for day in (2, 4)]
    found = alerts(*map(said, (SOLVED, *again)))
    assert [alert.evidence["solved_at"] for alert in found] == [str(at(0, 12)), str(at(2, 12))]
    assert len({alert.alert_id for alert in found}) == 2


def test_late_solution_of_an_issue_that_came_back_raises_an_alert() -> None:
    assert kinds(chat(3, topic="bill"), SOLVED) == ["issue_reopened"]


def test_contact_of_another_identity_reopens_the_issue_when_both_become_one() -> None:
    message = said(chat(3, topic="bill"), BOB)
    arrival = Arrive(BOB, Activity("email", {message.event_key: message.event}))
    (alert,) = alerts(said(SOLVED), arrival)
    assert (alert.kind, alert.evidence["solved_at"]) == ("issue_reopened", str(at(0, 12)))


def test_identity_that_goes_reopens_nothing() -> None:
    stays = said(SOLVED)
    goes = said(chat(3, topic="bill"), BOB)
    found = alerts(stays, Arrive(BOB, Activity("email")), goes, Move(BOB, OTHER))
    assert [alert.kind for alert in found] == ["issue_reopened"]


def test_touchpoint_after_the_alert_does_not_raise_it_again() -> None:
    assert len(kinds(SOLVED, chat(3, topic="bill"), chat(4, topic="bill"))) == 1


def test_late_contact_does_not_raise_alerts_of_other_issues_again() -> None:
    late = call(-3, topic="line", resolved=True)
    assert kinds(SOLVED, chat(3, topic="bill"), late) == ["issue_reopened"]
