"""Sums over a customer's touchpoints, in any order and in any grouping."""

from collections.abc import Callable

from touchstream.agents.customer_messages import Activity, Event, Totals
from touchstream.agents.facts import SERVICE
from touchstream.agents.measures import ANSWERS, thousandths

MOST_PURPOSES = 64
"""Purposes of consent of a customer: the first ones by name."""
Chooser = Callable[[int, int], int]
ADVOCACY = {
    ("web", "referred"): "referrals",
    ("social", "shared"): "shares",
    ("social", "reviewed"): "reviews",
    ("in_person", "event_attended"): "events",
}
"""What a customer does for us, by touchpoint."""


def add_to(totals: Totals, key: int, event: Event) -> None:
    """Count one touchpoint."""
    channel, action, at = event.channel, event.action, event.occurred_at
    touch = (at, channel, key, event.campaign or "")
    _count(totals.touchpoints, channel)
    if totals.first is None or touch < totals.first:
        totals.first = touch
    if totals.last is None or touch > totals.last:
        totals.last = touch
    if (channel, action) in SERVICE:
        _count(totals.contacts, channel)
    if event.purchase is not None:
        _purchase(totals, event)
    if event.answer is not None and (channel, action) == ("survey", "answered"):
        question = event.answer.question
        score = thousandths(event.answer) if question in ANSWERS else None
        if score is not None:
            _answer(totals, question, (at, score, 1, score))
    if event.sentiment is not None:
        totals.texts_scored += 1
        totals.sentiment_e4 += round(10_000 * event.sentiment)
    if (channel, action) in ADVOCACY:
        _count(totals.advocacy, ADVOCACY[channel, action])
    for purpose, given in (event.consent or {}).items():
        _consent(totals, purpose, (at, given))
    if event.account_id:
        totals.account = max(totals.account or (at, ""), (at, event.account_id))
    if event.segment:
        totals.segment = max(totals.segment or (at, ""), (at, event.segment))


def totals_of(activities: list[Activity]) -> Totals:
    """Sums over identities, recent and folded touchpoints together."""
    totals = Totals()
    for activity in activities:
        for key, event in activity.events.items():
            add_to(totals, key, event)
    for activity in activities:
        if activity.folded is not None:
            join_to(totals, activity.folded)
    return totals


def join_to(totals: Totals, other: Totals) -> None:
    """Add the sums of other touchpoints."""
    for channel, number in other.touchpoints.items():
        _count(totals.touchpoints, channel, number)
    for channel, number in other.contacts.items():
        _count(totals.contacts, channel, number)
    totals.orders += other.orders
    totals.revenue_e4 += other.revenue_e4
    totals.returns += other.returns
    totals.returned_e4 += other.returned_e4
    totals.first_order_at = _chosen(min, totals.first_order_at, other.first_order_at)
    totals.last_order_at = _chosen(max, totals.last_order_at, other.last_order_at)
    totals.first = min((e for e in (totals.first, other.first) if e), default=None)
    totals.last = max((e for e in (totals.last, other.last) if e), default=None)
    for question, answer in other.answers.items():
        _answer(totals, question, answer)
    totals.texts_scored += other.texts_scored
    totals.sentiment_e4 += other.sentiment_e4
    for act, number in other.advocacy.items():
        _count(totals.advocacy, act, number)
    for purpose, word in other.consent.items():
        _consent(totals, purpose, word)
    totals.account = max((a for a in (totals.account, other.account) if a), default=None)
    totals.segment = max((s for s in (totals.segment, other.segment) if s), default=None)


def _purchase(totals: Totals, event: Event) -> None:
    assert event.purchase is not None
    if event.action == "placed":
        totals.orders += 1
        totals.revenue_e4 += event.purchase.value_e4
        totals.first_order_at = _chosen(min, totals.first_order_at, event.occurred_at)
        totals.last_order_at = _chosen(max, totals.last_order_at, event.occurred_at)
    elif event.action == "returned":
        totals.returns += 1
        totals.returned_e4 += event.purchase.value_e4


def _count(numbers: dict[str, int], name: str, number: int = 1) -> None:
    numbers[name] = numbers.get(name, 0) + number


def _answer(totals: Totals, question: str, answer: tuple[int, int, int, int]) -> None:
    known = totals.answers.get(question, (answer[0], answer[1], 0, 0))
    latest = max(known[:2], answer[:2])
    totals.answers[question] = (*latest, known[2] + answer[2], known[3] + answer[3])


def _consent(totals: Totals, purpose: str, word: tuple[int, bool]) -> None:
    totals.consent[purpose] = max(word, totals.consent.get(purpose, word))
    if len(totals.consent) > MOST_PURPOSES:
        del totals.consent[max(totals.consent)]


def _chosen(choose: Chooser, one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return choose(one, other)
