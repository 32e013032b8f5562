"""What the metrics should say, by their definitions alone: one touchpoint in, measurements out.

Written apart from the agents on purpose. Sums are whole numbers of the catalogue's scale: money in
ten-thousandths, handling in milliseconds, answers in thousandths of a point of their usual scale.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from touchstream.streams.demo.diary import END_MS, Occurrence

ENDINGS = ("phone ended", "chat ended", "in_person ended", "email replied", "social messaged")
USUAL_SCALE = {"csat": (1, 5), "ces": (1, 7)}
MONTH_MS = 30 * 86_400_000

SCALE = {"csat": 1000, "ces": 1000, "average_handle_time": 1000, "revenue": 10_000}
"""Parts of one that a metric's sum counts; 1 where a metric is not listed."""

MEASURES = {"contacts": "contact", "average_handle_time": "handle_time", "orders": "order"}
"""The measure that a metric sums up; the one of the same name where a metric is not listed."""
METRICS = (
    "contacts",
    "average_handle_time",
    "orders",
    "revenue",
    "nps",
    "csat",
    "csat_top2",
    "ces",
)

Cell = tuple[str, str]
"""A metric and the channel it is about."""


def measured(occurrence: Occurrence) -> Iterator[tuple[str, int]]:
    """Metrics that a touchpoint is measured by, and its share in their sums."""
    get = occurrence.touchpoint.get
    event = f"{occurrence.channel} {get('action')}"
    if event in ENDINGS:
        yield "contacts", 1
    if event == "chat ended" and get("handle_ms") is not None:
        yield "average_handle_time", get("handle_ms", 0)
    elif event == "phone ended" and not get("abandoned"):
        parts = (get("talk_ms", 0), get("hold_ms", 0), get("wrap_up_ms", 0))
        yield "average_handle_time", sum(parts)
    elif event == "purchase placed":
        yield "orders", 1
        yield "revenue", round(get("value", 0.0) * 10_000)
    elif event == "survey answered":
        yield from _answered(get("question", ""), occurrence)


def _answered(question: str, occurrence: Occurrence) -> Iterator[tuple[str, int]]:
    touchpoint = occurrence.touchpoint
    score, low, high = (int(touchpoint[name]) for name in ("score", "scale_min", "scale_max"))
    if question == "nps":
        yield "nps", 1 if score >= 9 else -1 if score <= 6 else 0
        return
    bottom, top = USUAL_SCALE[question]
    yield question, round(1000 * (bottom + Fraction(score - low, high - low) * (top - bottom)))
    if question == "csat":
        yield "csat_top2", int(score >= high - 1)


class Sums:
    """Counts and sums by metric and channel."""

    def __init__(self) -> None:
        self.counts: Counter[Cell] = Counter()
        self.sums: Counter[Cell] = Counter()

    def add(self, occurrence: Occurrence) -> None:
        """Take a touchpoint into account."""
        about = occurrence.touchpoint.get("about_channel") or occurrence.channel
        for metric, share in measured(occurrence):
            self.counts[metric, about] += 1
            self.sums[metric, about] += share


def is_recent(occurrence: Occurrence) -> bool:
    """Whether it lies in the 30 days before the end."""
    return END_MS - MONTH_MS <= occurrence.occurred_at < END_MS
