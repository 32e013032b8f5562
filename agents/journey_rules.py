"""Rules of the customer journey, as `schemas/journey.toml` says them; mistakes are named."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from touchstream.agents.customer_messages import Event
from touchstream.schemas import load_journey_text
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.toml_table import TomlTable, read_toml
from touchstream.streams.topics import CHANNELS, DAY_MS

NEW = "new"
"""In rules: a customer without a stage."""
LAPSED = "lapsed"
CYCLES = ("buy", "own", "advocate")
LONGEST_DAYS = 3_660


@dataclass(frozen=True)
class Stage:
    """A stage of the journey."""

    rank: int
    cycle: str


@dataclass(frozen=True)
class Evidence:
    """A rule: touchpoints that show a customer to be in a stage."""

    number: int
    stage: str
    origins: frozenset[str] | None
    """Stages that it leads on from; None for all."""
    times: int
    question: str | None
    score: float
    sentiment: float | None
    rating: float | None

    def fits(self, event: Event) -> bool:
        """Whether the touchpoint says enough."""
        return (
            (self.question is None or self._is_answered(event))
            and (self.sentiment is None or _reaches(event.sentiment, self.sentiment))
            and (self.rating is None or _reaches(event.rating, self.rating))
        )

    def _is_answered(self, event: Event) -> bool:
        answer = event.answer
        return (
            answer is not None
            and answer.question == self.question
            and _reaches(answer.score, self.score)
        )


@dataclass(frozen=True)
class JourneyRules:
    """Everything that `journey.toml` says; times in ms."""

    session_gap: int
    repeat_contact: int
    lapsed_after: int
    attribution: int
    churn_gap_days: int
    stages: dict[str, Stage]
    evidence: dict[tuple[str, str], tuple[Evidence, ...]]
    """By channel and action, in the order of the file."""

    def rank(self, stage: str) -> int | None:
        """Place of a stage in the journey; None for lapsed and new customers."""
        known = self.stages.get(stage)
        return known.rank if known else None

    def cycle(self, stage: str) -> str:
        """Part of the cycle buy, own, advocate."""
        known = self.stages.get(stage)
        return known.cycle if known else stage


def parse_journey(text: str, name: str) -> JourneyRules:
    """Rules of a file; raises ConfigurationError with its name and the line of the mistake."""
    top = read_toml(text, name)
    top.only(
        "session_gap_minutes",
        "repeat_contact_days",
        "lapsed_after_days",
        "churn_gap_days",
        "attribution_days",
        "stages",
        "evidence",
    )
    stages = _stages(top)
    return JourneyRules(
        top.whole("session_gap_minutes", 1, 10_000, 30) * 60_000,
        top.whole("repeat_contact_days", 1, LONGEST_DAYS, 7) * DAY_MS,
        top.whole("lapsed_after_days", 1, LONGEST_DAYS, 180) * DAY_MS,
        top.whole("attribution_days", 1, LONGEST_DAYS, 30) * DAY_MS,
        top.whole("churn_gap_days", 1, LONGEST_DAYS, 90),
        stages,
        _evidence(top, stages),
    )


@cache
def load_journey(path: Path | None = None) -> JourneyRules:
    """Rules of a file, the shipped ones by default."""
    if path is None:
        return parse_journey(load_journey_text(), "journey.toml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"journey file {path}: {error}") from None
    return parse_journey(text, str(path))


def _reaches(value: float | None, least: float) -> bool:
    return value is not None and value >= least


def _stages(top: TomlTable) -> dict[str, Stage]:
    owner = top.table("stages")
    if owner is None:
        top.fail("stages", "is missing")
    stages = {}
    for name, table in owner.tables():
        if name in (NEW, LAPSED) or not name:
            owner.fail(name, "is a stage that has its own meaning")
        table.only("rank", "cycle")
        stages[name] = Stage(table.whole("rank", 0, 100), table.word("cycle", CYCLES, ""))
    return stages


def _evidence(
    top: TomlTable, stages: dict[str, Stage]
) -> dict[tuple[str, str], tuple[Evidence, ...]]:
    found: dict[tuple[str, str], tuple[Evidence, ...]] = {}
    for number, table in enumerate(top.array("evidence")):
        table.only("stage", "on", "from", "times", "question", "score", "sentiment", "rating")
        origins = table.texts("from", [NEW, LAPSED, *stages])
        rule = Evidence(
            number,
            table.word("stage", stages, ""),
            None if origins is None else frozenset(origins),
            table.whole("times", 1, 1_000, 1),
            table.text("question") if "question" in table else None,
            table.number("score") or 0,
            table.number("sentiment"),
            table.number("rating"),
        )
        for each in table.texts("on") or ():
            channel, _, action = each.partition(".")
            if channel not in CHANNELS or not action:
                table.fail("on", f"holds '{each}', which is not channel.action")
            found[channel, action] = (*found.get((channel, action), ()), rule)
    return found
