"""What a touchpoint must be: types of its fields before sending, rules on its values always.

Enters a mapping of field names to values. `validate_touchpoint` (publishing) raises
InvalidTouchpoint naming the field; `check_values` (after decoding) raises PoisonError. Both apply
the same value rules; whatever passes them fits the pipeline's integers. Publishing is stricter in
one point: every identifier needs a value, while of those received one with a value is enough.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError, TouchstreamError
from touchstream.streams.fields import Shape, shape_of, type_problem
from touchstream.streams.moments import epoch_ms
from touchstream.streams.topics import CHANNELS, DAY_MS

Touchpoint = Mapping[str, Any]

SCALES = {"csat": (1, 5), "trust": (1, 5), "ces": (1, 7), "nps": (0, 10), "enps": (0, 10)}
"""Scale of a question whose touchpoint does not state its own."""
FIXED_SCALES = frozenset({"nps", "enps"})
"""Questions that are another question on another scale."""
LARGEST = 1e12
"""Bound of all fractional numbers: money in ten-thousandths and sums of it stay within 64 bits."""
LONGEST_EVENT_ID = 256
LONGEST_KIND = 64
"""Characters of an event id and of a kind of identifier: both are kept with every link."""
LONGEST_MS = 36_525 * DAY_MS
FARTHEST_MS = 3_652 * DAY_MS
"""Of a promised or real delivery from its touchpoint."""


class InvalidTouchpoint(TouchstreamError, ValueError):
    """A touchpoint that must not be sent: which field, and what is wrong with it."""

    def __init__(self, channel: str, field: str, problem: str) -> None:
        super().__init__(f"{channel} touchpoint: {field} {problem}")
        self.channel = channel
        self.field = field
        self.problem = problem


class Problem(NamedTuple):
    """A broken value rule."""

    reason: Reason
    field: str
    text: str


def validate_touchpoint(channel: str, touchpoint: Touchpoint) -> None:
    """Raise InvalidTouchpoint unless the touchpoint can be sent and will be accepted."""
    if channel not in CHANNELS:
        raise InvalidTouchpoint(channel, "channel", f"must be one of {', '.join(CHANNELS)}")
    shape = shape_of(channel)
    plain = shape.plain
    for name, value in touchpoint.items():
        types = plain.get(name)
        if types is None:
            raise InvalidTouchpoint(channel, str(name), "is not a field of this channel")
        if type(value) not in types:
            text = type_problem(shape.fields[name], value)
            if text:
                raise InvalidTouchpoint(channel, name, text)
    for name in shape.required:
        if name not in touchpoint:
            raise InvalidTouchpoint(channel, name, "is missing")
    problem = _value_problem(channel, shape, touchpoint)
    if problem:
        raise InvalidTouchpoint(channel, problem.field, problem.text)


def check_values(channel: str, touchpoint: dict[str, Any]) -> None:
    """Raise PoisonError when a decoded touchpoint breaks a value rule."""
    problem = _value_problem(channel, shape_of(channel), touchpoint)
    if problem:
        raise PoisonError(problem.reason, f"{problem.field} {problem.text}")


def _value_problem(channel: str, shape: Shape, touchpoint: Touchpoint) -> Problem | None:
    if not touchpoint["event_id"] or not touchpoint["action"]:
        empty = "action" if touchpoint["event_id"] else "event_id"
        return Problem(Reason.INVALID_VALUE, empty, "is empty")
    if len(touchpoint["event_id"]) > LONGEST_EVENT_ID:
        text = f"is longer than {LONGEST_EVENT_ID} characters"
        return Problem(Reason.INVALID_VALUE, "event_id", text)
    for identifier in touchpoint["identifiers"]:
        if len(identifier["kind"]) > LONGEST_KIND:
            text = f"has a kind of more than {LONGEST_KIND} characters"
            return Problem(Reason.INVALID_VALUE, "identifiers", text)
    for identifier in touchpoint["identifiers"]:
        if identifier["value"].strip() and identifier["kind"]:
            break
    else:
        return Problem(Reason.MISSING_IDENTIFIER, "identifiers", "has no entry with kind and value")
    for name in shape.doubles:
        number = touchpoint.get(name)
        if number is not None and not -LARGEST <= number <= LARGEST:
            return Problem(Reason.INVALID_VALUE, name, f"is not a number within {LARGEST:g}")
    for name in shape.durations:
        number = touchpoint.get(name)
        if number is not None and not 0 <= number <= LONGEST_MS:
            return Problem(Reason.INVALID_VALUE, name, "is not between 0 and 100 years")
    rule = _RULES.get(channel)
    return rule(touchpoint) if rule else None


def _score_problem(touchpoint: Touchpoint) -> Problem | None:
    question, score = touchpoint.get("question"), touchpoint.get("score")
    low, high = touchpoint.get("scale_min"), touchpoint.get("scale_max")
    usual = SCALES.get(question) if question else None
    if usual:
        low = usual[0] if low is None else low
        high = usual[1] if high is None else high
        if question in FIXED_SCALES and (low, high) != usual:
            text = f"and scale_max must be 0 and 10 for {question}, are {low:g} and {high:g}"
            return Problem(Reason.INVALID_VALUE, "scale_min", text)
    if low is not None and high is not None and high <= low:
        text = f"is {high:g}, not above the lowest answer, {low:g}"
        return Problem(Reason.INVALID_VALUE, "scale_max", text)
    below = score is not None and low is not None and score < low
    above = score is not None and high is not None and score > high
    if below or above:
        text = f"is {score:g}, outside its scale, {_bound(low)} to {_bound(high)}"
        return Problem(Reason.INVALID_VALUE, "score", text)
    return None


def _bound(number: float | None) -> str:
    return "any" if number is None else f"{number:g}"


def _sentiment_problem(touchpoint: Touchpoint) -> Problem | None:
    sentiment = touchpoint.get("sentiment")
    if sentiment is not None and not -1 <= sentiment <= 1:
        return Problem(Reason.INVALID_VALUE, "sentiment", "is not between -1 and 1")
    return None


def _purchase_problem(touchpoint: Touchpoint) -> Problem | None:
    for name in ("promised_at", "delivered_at"):
        moment = touchpoint.get(name)
        if moment is not None and abs(_ms(moment) - _ms(touchpoint["occurred_at"])) > FARTHEST_MS:
            text = "is more than ten years from occurred_at"
            return Problem(Reason.INVALID_VALUE, name, text)
    return _items_problem(touchpoint)


def _ms(moment: int | datetime) -> int:
    return epoch_ms(moment) if isinstance(moment, datetime) else moment


def _items_problem(touchpoint: Touchpoint) -> Problem | None:
    for item in touchpoint.get("items") or ():
        if not -LARGEST <= item["price"] <= LARGEST:
            text = f"has a price that is not a number within {LARGEST:g}"
            return Problem(Reason.INVALID_VALUE, "items", text)
    return None


_RULES = {
    "social": _sentiment_problem,
    "survey": _score_problem,
    "employee": _score_problem,
    "purchase": _purchase_problem,
}
