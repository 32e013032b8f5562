"""The single customer view as a row: a pure function of a customer's activities."""

from itertools import permutations
from typing import Any

import msgspec
import pytest
from test_lives import WORLD

from touchstream.agents import activity
from touchstream.agents.activity import Customer, fold
from touchstream.agents.course import run
from touchstream.agents.customer_messages import Activity, Answer, Contact, Event, Purchase
from touchstream.agents.totals import totals_of
from touchstream.agents.view import customer_row
from touchstream.streams.customer_tables import CUSTOMERS
from touchstream.streams.topics import DAY_MS
from touchstream.streams.validation import SCALES

NAME = b"\x0a" * 16


def customer(*events: Event, **fields: Any) -> Customer:
    return Customer({b"\x01": Activity("email", dict(enumerate(events)))}, **fields)


def row_of(found: Customer) -> dict[str, Any]:
    """Row of a customer whose totals and course follow from its activities."""
    found.totals = totals_of([*found.identities.values()])
    found.course, _ = run(found.events(), WORLD, found.base)
    row = customer_row(NAME, found, WORLD.rules)
    return dict(zip(CUSTOMERS.column_names, row, strict=True))


def survey(at: int, question: str, score: float | None) -> Event:
    return Event(at, "survey", "answered", answer=Answer(question, score, *SCALES[question]))


def purchase(at: int, action: str = "placed", value_e4: int = 0) -> Event:
    return Event(at, "purchase", action, purchase=Purchase(value_e4=value_e4))


def contact(at: int, channel: str, topic: str = "", resolved: bool | None = None) -> Event:
    return Event(at, channel, "ended", contact=Contact(topic, resolved=resolved))


def test_customer_is_named_after_its_token() -> None:
    assert row_of(customer())["customer_id"] == "c" + "0a" * 16


def test_customer_without_identities_is_deleted() -> None:
    assert row_of(Customer())["is_deleted"] == 1


def test_customer_with_an_identity_is_not_deleted() -> None:
    assert row_of(customer())["is_deleted"] == 0


def test_customer_without_events_has_no_touches() -> None:
    row = row_of(customer())
    assert (row["first_touch_at"], row["first_touch_channel"]) == (None, "")
    assert (row["last_touch_at"], row["last_touch_campaign"]) == (None, "")
    assert (row["touchpoints"], row["last_order_at"], row["last_csat"]) == (0, None, None)


def test_version_and_time_of_change_are_the_customers() -> None:
    row = row_of(customer(version=3, changed_at=99))
    assert (row["version"], row["changed_at"]) == (3, 99)


def test_identities_and_their_kinds_stand_in_one_order() -> None:
    found = {b"\x03": Activity("email"), b"\x01": Activity("phone"), b"\x02": Activity("crm_id")}
    rows = [row_of(Customer(dict(order))) for order in permutations(found.items())]
    for row in rows:
        assert row["identities"] == ["01", "02", "03"]
        assert row["identity_kinds"] == ["phone", "crm_id", "email"]


@pytest.mark.parametrize("numbers", list(permutations((1, 2, 3))))
def test_first_and_last_touch_are_by_event_time(numbers: tuple[int, ...]) -> None:
    row = row_of(customer(*(Event(n, f"channel{n}", "seen", f"campaign{n}") for n in numbers)))
    assert [row[f"first_touch_{part}"] for part in ("at", "channel", "campaign")] == [
        1,
        "channel1",
        "campaign1",
    ]
    assert [row[f"last_touch_{part}"] for part in ("at", "channel", "campaign")] == [
        3,
        "channel3",
        "campaign3",
    ]


def test_touchpoints_are_counted_by_channel() -> None:
    row = row_of(customer(Event(1, "web", "a"), Event(2, "web", "b"), contact(3, "chat")))
    assert (row["touchpoints"], row["touchpoints_by_channel"]) == (3, {"web": 2, "chat": 1})
    assert (row["contacts"], row["contacts_by_channel"]) == (1, {"chat": 1})


def test_orders_and_returns_sum_up() -> None:
    orders = [purchase(at, value_e4=value) for at, value in ((5, 10), (2, 0))]
    row = row_of(customer(*orders, purchase(9, "returned", 7)))
    assert (row["orders"], row["revenue_e4"]) == (2, 10)
    assert (row["returns"], row["returned_e4"]) == (1, 7)
    assert (row["first_order_at"], row["last_order_at"], row["order_days"]) == (2, 5, 1)


def test_order_at_the_epoch_has_its_time() -> None:
    row = row_of(customer(purchase(0)))
    assert (row["first_order_at"], row["last_order_at"]) == (0, 0)


def test_last_order_before_1970_is_the_latest() -> None:
    row = row_of(customer(purchase(-5), purchase(-9)))
    assert (row["first_order_at"], row["last_order_at"]) == (-9, -5)


def test_customer_is_at_risk_after_its_usual_gap() -> None:
    days = (0, 10, 20, 30)
    row = row_of(customer(*(purchase(day * DAY_MS + 7) for day in days)))
    assert (row["usual_gap_days"], row["at_risk_from"]) == (10, 41 * DAY_MS)


def test_customer_without_orders_is_never_at_risk() -> None:
    row = row_of(customer(Event(1, "web", "seen")))
    assert (row["at_risk_from"], row["first_order_at"], row["order_days"]) == (None, None, 0)


@pytest.mark.parametrize("question", ["csat", "nps", "ces", "trust"])
def test_last_answer_is_by_event_time(question: str) -> None:
    answers = [survey(at, question, score) for at, score in ((2, 4.0), (3, 2.0), (1, 5.0))]
    row = row_of(customer(*answers))
    assert row[f"last_{question}"] == 2.0
    assert (row["answers"], row["answer_sums"]) == ({question: 3}, {question: 11.0})


def test_answer_without_a_score_is_no_answer() -> None:
    assert row_of(customer(survey(1, "nps", 0.0), survey(2, "nps", None)))["last_nps"] == 0.0


@pytest.mark.parametrize(
    "order", list(permutations(((1, "early"), (3, "late"), (2, None), (4, None))))
)
def test_account_is_the_latest_that_was_named(order: tuple[tuple[int, str | None], ...]) -> None:
    events = [Event(at, "web", "seen", account_id=account) for at, account in order]
    assert row_of(customer(*events))["account_id"] == "late"


def test_customer_without_an_account_has_none() -> None:
    assert row_of(customer(Event(1, "web", "seen")))["account_id"] == ""


def test_events_of_all_identities_count_together() -> None:
    found = Customer(
        {
            b"\x01": Activity("email", {1: Event(1, "web", "seen")}),
            b"\x02": Activity("phone", {1: contact(2, "phone")}),
        }
    )
    row = row_of(found)
    assert (row["touchpoints"], row["first_touch_at"], row["last_touch_at"]) == (2, 1, 2)


def test_segment_is_the_latest_that_was_named() -> None:
    segments = ((3, "late"), (1, "early"), (4, None))
    events = [Event(at, "web", "seen", segment=segment) for at, segment in segments]
    assert row_of(customer(*events))["segment"] == "late"


def test_latest_word_on_a_consent_holds() -> None:
    words = ((2, {"marketing": True, "analytics": True}), (3, {"marketing": False}))
    events = [Event(at, "web", "seen", consent=word) for at, word in words]
    assert row_of(customer(*events))["consent"] == {"marketing": False, "analytics": True}


def test_texts_and_advocacy_are_counted() -> None:
    events = [
        Event(1, "social", "posted", sentiment=-0.5),
        Event(2, "social", "shared", sentiment=0.2),
        Event(3, "web", "referred"),
    ]
    row = row_of(customer(*events))
    assert (row["texts_scored"], row["sentiment_sum"]) == (2, -0.3)
    assert row["advocacy"] == {"shares": 1, "referrals": 1}


def test_issues_and_sessions_are_counted() -> None:
    events = [contact(1, "chat", "bill", True), contact(2, "chat", "line"), contact(3, "phone", "")]
    row = row_of(customer(*events))
    assert (row["open_issues"], row["solved_issues"], row["sessions"]) == (2, 1, 1)


def test_customer_has_a_stage_since_and_until_it_lapses() -> None:
    row = row_of(customer(Event(5, "web", "page_viewed"), Event(7, "email", "sent")))
    assert (row["stage"], row["stage_since"]) == ("consider", 5)
    assert row["lapses_at"] == 7 + WORLD.rules.lapsed_after


def test_customer_that_has_lapsed_does_not_lapse_again() -> None:
    late = 6 + WORLD.rules.lapsed_after
    row = row_of(customer(Event(5, "web", "page_viewed"), Event(late, "email", "sent")))
    assert (row["stage"], row["stage_since"], row["lapses_at"]) == ("lapsed", late - 1, None)


def test_customer_without_a_stage_has_none_and_does_not_lapse() -> None:
    row = row_of(customer(Event(5, "email", "sent")))
    assert (row["stage"], row["stage_since"], row["lapses_at"]) == ("", None, None)


HISTORY = (
    Event(1, "web", "page_viewed", "spring", "acme", "vip"),
    purchase(2, value_e4=70),
    survey(3, "csat", 4.0),
    contact(4, "phone", resolved=True),
    survey(5, "csat", 2.0),
    purchase(6, value_e4=30),
    Event(7, "chat", "started", "autumn", consent={"marketing": True}),
)


@pytest.mark.parametrize("recent", range(1, 7))
def test_view_does_not_show_that_events_were_folded(
    recent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", recent)
    folded = customer(*HISTORY)
    fold(folded, b"\x01", WORLD)
    assert len(folded.events()) < len(HISTORY)
    assert row_of(folded) == row_of(customer(*HISTORY))


def test_looking_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 3)
    found = customer(*HISTORY)
    fold(found, b"\x01", WORLD)
    before = msgspec.msgpack.encode(found)
    customer_row(NAME, found, WORLD.rules)
    assert msgspec.msgpack.encode(found) == before


def test_account_and_segment_of_folded_events_come_along_with_their_identity() -> None:
    """The course of the new customer does not know them."""
    folded = totals_of([customer(*HISTORY).identities[b"\x01"]])
    row = row_of(Customer({b"\x01": Activity("email", folded=folded)}))
    assert (row["account_id"], row["segment"]) == ("acme", "vip")
    assert (row["touchpoints"], row["orders"], row["last_csat"]) == (7, 2, 2.0)
