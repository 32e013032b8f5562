"""The single customer view: a pure function of what is kept of a customer."""

from touchstream.agents.activity import Customer
from touchstream.agents.customer_messages import customer_name
from touchstream.agents.journey_rules import JourneyRules
from touchstream.agents.resolution import Token
from touchstream.streams.table import Row
from touchstream.streams.topics import DAY_MS


def customer_row(name: Token, customer: Customer, rules: JourneyRules) -> Row:
    """Row of `tables.CUSTOMERS`; a customer without identities was merged away."""
    totals, course = customer.totals, customer.course
    identities = sorted((i.hex(), activity.kind) for i, activity in customer.identities.items())
    latest = {question: score / 1000 for question, (_, score, _, _) in totals.answers.items()}
    risk_day = course.silence.risk_day(rules.churn_gap_days)
    return (
        customer_name(name),
        [identity for identity, _ in identities],
        [kind for _, kind in identities],
        course.account or (totals.account[1] if totals.account else ""),
        *_touch(totals.first),
        *_touch(totals.last),
        sum(totals.touchpoints.values()),
        totals.touchpoints,
        sum(totals.contacts.values()),
        totals.orders,
        totals.revenue_e4,
        totals.last_order_at,
        latest.get("csat"),
        latest.get("nps"),
        latest.get("ces"),
        course.segment or (totals.segment[1] if totals.segment else ""),
        totals.contacts,
        course.session.number,
        course.issues.open,
        course.issues.solved,
        totals.returns,
        totals.returned_e4,
        totals.first_order_at,
        course.silence.order_days,
        course.silence.usual_gap(rules.churn_gap_days),
        None if risk_day is None else risk_day * DAY_MS,
        latest.get("trust"),
        {question: number for question, (_, _, number, _) in totals.answers.items()},
        {question: total / 1000 for question, (_, _, _, total) in totals.answers.items()},
        totals.texts_scored,
        totals.sentiment_e4 / 10_000,
        totals.advocacy,
        {purpose: given for purpose, (_, given) in totals.consent.items()},
        course.journey.stage,
        course.journey.since if course.journey.stage else None,
        course.journey.lapses_at(rules),
        customer.changed_at,
        customer.version,
        int(not customer.identities),
    )


def _touch(touch: tuple[int, str, int, str] | None) -> tuple[int | None, str, str]:
    """Time, channel and campaign of a first or last touch."""
    if touch is None:
        return None, "", ""
    at, channel, _, campaign = touch
    return at, channel, campaign
