"""What one touchpoint measures by itself: a pure function, in the measures' scale."""

from collections.abc import Callable, Iterator

from touchstream.agents.customer_messages import Answer, Contact, Event
from touchstream.streams.catalogue import Catalogue
from touchstream.streams.validation import SCALES

ANSWERS = {"csat", "ces", "trust", "nps"}
"""Questions to customers that are measured."""
POSITIVE = 0.05
"""Sentiment from which a text is positive; negative below its opposite (VADER)."""
GOOD_RATING = 4

Measured = tuple[str, int]
"""A measure and its value."""
Reader = Callable[[Event], int]


def thousandths(answer: Answer) -> int | None:
    """Score on the usual scale of its question, in thousandths; None without a score."""
    if answer.score is None:
        return None
    low, high = SCALES[answer.question]
    converted = low + (answer.score - answer.low) / (answer.high - answer.low) * (high - low)
    return round(1000 * converted)


def member(event: Event) -> str:
    """Channel that the measures belong to: for a survey, the channel it asks about."""
    answer = event.answer
    return event.channel if answer is None else answer.about_channel or event.channel


class Measures:
    """The measures of a catalogue that a single touchpoint gives."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._answer_within_ms = catalogue.answer_within_ms
        self._short_abandon_ms = catalogue.short_abandon_ms
        self._on: dict[tuple[str, str], list[tuple[str, Reader]]] = {}
        for name, measure in catalogue.measures.items():
            for each in measure.on:
                channel, _, action = each.partition(".")
                entry = (name, _READERS[measure.value])
                self._on.setdefault((channel, action), []).append(entry)

    def of(self, event: Event) -> list[Measured]:
        """All that the touchpoint measures."""
        at = (event.channel, event.action)
        found = [(name, read(event)) for name, read in self._on.get(at, ())]
        if event.answer is not None and event.action == "answered":
            found += _answered(event.channel, event.answer)
        if event.contact is not None and event.action == "ended":
            found += self._contact(event.channel, event.contact)
        if event.sentiment is not None:
            found += _sentiment(event.sentiment)
        if at == ("social", "mentioned"):
            found.append(("mention", int(not event.mark)))
        elif at == ("social", "reviewed") and (event.rating or 0) >= GOOD_RATING:
            found.append(("good_review", 1))
        return found

    def _contact(self, channel: str, contact: Contact) -> Iterator[Measured]:
        wait = contact.wait_ms
        if contact.handle_ms is not None and channel in ("phone", "chat"):
            yield "handle_time", contact.handle_ms
        if channel == "phone":
            if contact.abandoned:
                yield from self._abandoned(wait)
                return
            yield "answered", 1
            if wait is not None:
                yield "answer_time", wait
                if wait <= self._answer_within_ms:
                    yield "answered_in_time", 1
        elif channel == "chat" and wait is not None:
            yield "first_response", wait
        if channel in ("phone", "chat"):
            yield "transferred", int((contact.transfers or 0) >= 1)

    def _abandoned(self, wait: int | None) -> Iterator[Measured]:
        yield "abandoned", 1
        if wait is not None and wait <= self._answer_within_ms:
            yield "abandoned_in_time", 1
        if wait is not None and wait <= self._short_abandon_ms:
            yield "abandoned_soon", 1


def _answered(channel: str, answer: Answer) -> Iterator[Measured]:
    score = answer.score
    if score is None:
        return
    if channel == "employee":
        if answer.question == "enps":
            yield "enps", (score >= 9) - (score <= 6)
        if answer.item:
            yield "engagement", _is_top(answer, score)
    elif channel == "survey" and answer.question in ANSWERS:
        if answer.question == "nps":
            yield from _recommended(score)
        else:
            yield from _rated(answer, score)


def _recommended(score: float) -> Iterator[Measured]:
    yield "nps", (score >= 9) - (score <= 6)
    yield "promoter", int(score >= 9)
    yield "passive", int(6 < score < 9)
    yield "detractor", int(score <= 6)


def _rated(answer: Answer, score: float) -> Iterator[Measured]:
    value = thousandths(answer)
    assert value is not None
    yield answer.question, value
    if answer.question == "ces":
        yield "ces_index", (value >= 5500) - (value < 3500)
        yield "ces_easy", int(value >= 4500)
    else:
        yield f"{answer.question}_top2", _is_top(answer, score)


def _is_top(answer: Answer, score: float) -> int:
    """Whether an answer is in the top two points; the top one on scales of three or fewer."""
    few = answer.high - answer.low <= 2
    return int(score >= (answer.high if few else answer.high - 1))


def _sentiment(sentiment: float) -> Iterator[Measured]:
    yield "sentiment", round(10_000 * sentiment)
    yield "net_sentiment", (sentiment >= POSITIVE) - (sentiment <= -POSITIVE)


_READERS: dict[str, Reader] = {
    "": lambda event: 1,
    "value_e4": lambda event: event.purchase.value_e4 if event.purchase else 0,
    "wait_ms": lambda event: event.contact.wait_ms or 0 if event.contact else 0,
    "handle_ms": lambda event: event.contact.handle_ms or 0 if event.contact else 0,
    "rating": lambda event: round(event.rating or 0),
}
