"""The single customer view: a pure function of what is kept of a customer."""

from touchstream.agents.activity import Customer
from touchstream.agents.customer_messages import Event, customer_name
from touchstream.agents.resolution import Token
from touchstream.streams.tables import Row


def customer_row(name: Token, customer: Customer) -> Row:
    """Row of `tables.CUSTOMERS`; a customer without identities was merged away."""
    totals = customer.totals
    identities = sorted((i.hex(), activity.kind) for i, activity in customer.identities.items())
    answers = {question: score for question, (_, score) in totals.answers.items()}
    return (
        customer_name(name),
        [identity for identity, _ in identities],
        [kind for _, kind in identities],
        totals.account[1] if totals.account else "",
        *_touch(totals.first),
        *_touch(totals.last),
        sum(totals.touchpoints.values()),
        totals.touchpoints,
        totals.contacts,
        totals.orders,
        totals.revenue_e4,
        totals.last_order_at,
        answers.get("csat"),
        answers.get("nps"),
        answers.get("ces"),
        customer.changed_at,
        customer.version,
        int(not customer.identities),
    )


def _touch(event: Event | None) -> tuple[int | None, str, str]:
    """Time, channel and campaign of a first or last touch."""
    if event is None:
        return None, "", ""
    return event.occurred_at, event.channel, event.campaign or ""
