"""The closed loop: what somebody should look at as soon as a customer says or does it."""

from touchstream.agents.activity import Change
from touchstream.agents.customer_messages import (
    Answer,
    CustomerMessage,
    Event,
    Touched,
    customer_name,
)
from touchstream.agents.ledger import Ledger
from touchstream.agents.measures import thousandths
from touchstream.agents.resolution import Token
from touchstream.streams.effects import Effects

LOW_CSAT = 2000
"""Satisfaction on the scale 1 to 5, in thousandths, that is low."""


def raise_alerts(
    name: Token, message: CustomerMessage, change: Change, ledger: Ledger, effects: Effects
) -> None:
    """Raise the alerts that a message gives cause for; the same cause again has the same id."""
    for key, at in ledger.reopened.items():
        effects.alert(
            "issue_reopened",
            "a contact came on an issue that had been solved",
            cause=(f"{key:016x}",),
            customer=customer_name(name),
            evidence={"solved_by": f"{key:016x}", "solved_at": at},
        )
    if isinstance(message, Touched) and change.added and message.event.answer is not None:
        _judge(message.event, message.event.answer, f"{message.event_key:016x}", name, effects)


def _judge(event: Event, answer: Answer, key: str, name: Token, effects: Effects) -> None:
    """Raise an alert when a customer's answer is bad."""
    if answer.score is None or (event.channel, event.action) != ("survey", "answered"):
        return
    if answer.question == "nps" and answer.score <= 6:
        kind, asked = "detractor", "the recommendation question"
    elif answer.question == "csat" and (thousandths(answer) or 0) <= LOW_CSAT:
        kind, asked = "low_csat", "the satisfaction question"
    else:
        return
    effects.alert(
        kind,
        f"answered {answer.score:g} of {answer.high:g} to {asked}",
        cause=(event.channel, key),
        customer=customer_name(name),
        evidence={
            "event_key": key,
            "occurred_at": event.occurred_at,
            "question": answer.question,
            "score": answer.score,
            "about_channel": answer.about_channel,
        },
    )
