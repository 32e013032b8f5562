"""What one event contributes to the metric catalogue: a pure function, in the metrics' scale."""

from collections.abc import Iterator

from touchstream.agents.customer_messages import Event
from touchstream.streams.validation import SCALES

CONTACTS = {
    ("phone", "ended"),
    ("chat", "ended"),
    ("in_person", "ended"),
    ("email", "replied"),
    ("sms", "replied"),
    ("social", "messaged"),
}
"""Finished contacts: a conversation counts once, when it ends; an inbound reply is a contact."""

QUESTIONS = {"csat", "nps", "ces"}
"""Questions with a metric; the answers are converted to their usual scale."""

Measure = tuple[str, int]


def measures(event: Event) -> Iterator[Measure]:
    """Metrics that the event is measured by, each with the value of its variable."""
    if (event.channel, event.action) in CONTACTS:
        yield "contacts", 1
    if event.action == "ended" and event.handle_ms is not None:
        yield "average_handle_time", event.handle_ms
    elif event.channel == "purchase" and event.action == "placed":
        yield "orders", 1
        yield "revenue", event.value_e4 or 0
    elif event.channel == "survey" and event.action == "answered":
        yield from _answer(event)


def member(event: Event) -> str:
    """Channel that the measures belong to: for a survey, the channel it asks about."""
    return event.about_channel or event.channel


def _answer(event: Event) -> Iterator[Measure]:
    question, score = event.question, event.score
    if score is None or question not in QUESTIONS:
        return
    low, high = SCALES[question]
    asked_low = low if event.scale_min is None else event.scale_min
    asked_high = high if event.scale_max is None else event.scale_max
    if question == "nps":
        if (asked_low, asked_high) == (low, high):
            yield "nps", (score >= 9) - (score <= 6)
        return
    converted = low + (score - asked_low) / (asked_high - asked_low) * (high - low)
    yield question, round(1000 * converted)
    if question == "csat":
        top = asked_high if asked_high - asked_low <= 2 else asked_high - 1
        yield "csat_top2", int(score >= top)
