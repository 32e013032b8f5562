"""The single customer view as a row: a pure function of a customer's activities."""

from itertools import permutations
from typing import Any

import msgspec
import pytest

from touchstream.agents import activity
from touchstream.agents.activity import Customer, fold, totals_of
from touchstream.agents.customer_messages import Activity, Event
from touchstream.agents.view import customer_row
from touchstream.streams.tables import CUSTOMERS

NAME = b"\x0a" * 16


def customer(*events: Event, **fields: Any) -> Customer:
    return Customer({b"\x01": Activity("email", dict(enumerate(events)))}, **fields)


def row_of(found: Customer) -> dict[str, Any]:
    found.totals = totals_of(found)
    return dict(zip(CUSTOMERS.column_names, customer_row(NAME, found), strict=True))


def survey(at: int, question: str, score: float | None) -> Event:
    return Event(at, "survey", "answered", question=question, score=score)


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
    row = row_of(customer(Event(1, "web", "a"), Event(2, "web", "b"), Event(3, "chat", "ended")))
    assert (row["touchpoints"], row["touchpoints_by_channel"]) == (3, {"web": 2, "chat": 1})
    assert row["contacts"] == 1


def test_orders_sum_up() -> None:
    orders = [Event(at, "purchase", "placed", value_e4=value) for at, value in ((5, 10), (2, None))]
    row = row_of(customer(*orders, Event(9, "purchase", "returned", value_e4=10)))
    assert (row["orders"], row["revenue_e4"], row["last_order_at"]) == (2, 10, 5)


def test_order_at_the_epoch_has_its_time() -> None:
    assert row_of(customer(Event(0, "purchase", "placed")))["last_order_at"] == 0


def test_last_order_before_1970_is_the_latest() -> None:
    orders = [Event(at, "purchase", "placed") for at in (-5, -9)]
    assert row_of(customer(*orders))["last_order_at"] == -5


@pytest.mark.parametrize("question", ["csat", "nps", "ces"])
def test_last_answer_is_by_event_time(question: str) -> None:
    answers = [survey(at, question, score) for at, score in ((2, 4.0), (3, 2.0), (1, 5.0))]
    assert row_of(customer(*answers))[f"last_{question}"] == 2.0


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
            b"\x02": Activity("phone", {1: Event(2, "phone", "ended")}),
        }
    )
    row = row_of(found)
    assert (row["touchpoints"], row["first_touch_at"], row["last_touch_at"]) == (2, 1, 2)


HISTORY = (
    Event(1, "web", "seen", "spring", "acme"),
    Event(2, "purchase", "placed", value_e4=70),
    survey(3, "csat", 4.0),
    Event(4, "phone", "ended"),
    survey(5, "csat", 2.0),
    Event(6, "purchase", "placed", value_e4=30),
    Event(7, "chat", "ended", "autumn"),
)


def test_view_does_not_show_that_events_were_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 1)
    folded = customer(*HISTORY)
    fold(folded.identities[b"\x01"])
    assert len(folded.identities[b"\x01"].events) < len(HISTORY)
    assert row_of(folded) == row_of(customer(*HISTORY))


def test_looking_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 3)
    found = customer(*HISTORY)
    fold(found.identities[b"\x01"])
    before = msgspec.msgpack.encode(found)
    customer_row(NAME, found)
    assert msgspec.msgpack.encode(found) == before
