"""Plain recomputation of the journey: stages, visits, and customers by stage."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from touchstream.agents.recount.answers import converted
from touchstream.agents.recount.facts import Change, Fact
from touchstream.schemas import load_journey_text
from touchstream.streams.topics import DAY_MS

LAPSED = "lapsed"
NEW = "new"
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Evidence:
    """A rule that says where a customer is."""

    stage: str
    on: frozenset[str]
    sources: frozenset[str] | None
    """Stages that it leads on from; None for all."""
    times: int
    question: str
    score: float | None
    sentiment: float | None
    rating: float | None

    def may_fit(self, fact: Fact, stage: str) -> bool:
        """Whether its `on` and `from` fit; such touchpoints are counted."""
        return fact.kind in self.on and (self.sources is None or (stage or NEW) in self.sources)

    def fits_values(self, fact: Fact) -> bool:
        """Whether answer, sentiment and rating are enough."""
        if self.question:
            answer = converted(fact) if fact.question == self.question else None
            if answer is None or (self.score is not None and answer < self.score):
                return False
        return _enough(fact.sentiment, self.sentiment) and _enough(fact.rating, self.rating)


@dataclass(frozen=True)
class Journey:
    """Everything that `journey.toml` says."""

    session_gap_ms: int
    repeat_ms: int
    lapsed_ms: int
    churn_gap_days: int
    attribution_ms: int
    ranks: dict[str, int]
    cycles: dict[str, str]
    evidence: tuple[Evidence, ...]


class Visit(NamedTuple):
    """A stage that a customer came into."""

    entered_at: int
    stage: str
    previous: str


def parse_journey(text: str) -> Journey:
    """Journey of a file."""
    file = tomllib.loads(text)
    return Journey(
        file["session_gap_minutes"] * MINUTE_MS,
        file["repeat_contact_days"] * DAY_MS,
        file["lapsed_after_days"] * DAY_MS,
        file["churn_gap_days"],
        file["attribution_days"] * DAY_MS,
        {name: stage["rank"] for name, stage in file["stages"].items()},
        {name: stage["cycle"] for name, stage in file["stages"].items()},
        tuple(_evidence(rule) for rule in file["evidence"]),
    )


@cache
def shipped_journey() -> Journey:
    """The journey that is shipped."""
    return parse_journey(load_journey_text())


def visits_of(facts: Sequence[Fact], journey: Journey) -> tuple[list[Visit], list[str]]:
    """Visits of a customer, and the stage right after each of its touchpoints."""
    visits: list[Visit] = []
    stages: list[str] = []
    stage = ""
    counts: Counter[int] = Counter()
    for index, fact in enumerate(facts):
        fitting: list[str] = []
        before = facts[index - 1].occurred_at if index else fact.occurred_at
        if stage and stage != LAPSED and fact.occurred_at - before > journey.lapsed_ms:
            visits.append(Visit(before + journey.lapsed_ms, LAPSED, stage))
            stage = LAPSED
            counts.clear()
        for number, rule in enumerate(journey.evidence):
            if rule.may_fit(fact, stage):
                counts[number] += 1
                if counts[number] >= rule.times and rule.fits_values(fact):
                    fitting.append(rule.stage)
        if fitting and fitting[0] != stage:
            visits.append(Visit(fact.occurred_at, fitting[0], stage))
            stage = fitting[0]
            counts.clear()
        stages.append(stage)
    return visits, stages


def visit_rows(visits: list[Visit], journey: Journey) -> dict[tuple[int, str], dict[str, Any]]:
    """Rows of `VISITS` by time and stage."""
    rows = {}
    for index, visit in enumerate(visits):
        rank, rank_before = journey.ranks.get(visit.stage), journey.ranks.get(visit.previous)
        backward = rank is not None and rank_before is not None and rank < rank_before
        following = visits[index + 1 :]
        rows[visit.entered_at, visit.stage] = {
            "entered_at": visit.entered_at,
            "stage": visit.stage,
            "cycle": journey.cycles.get(visit.stage, visit.stage),
            "previous": visit.previous,
            "backward": backward,
            "left_at": following[0].entered_at if following else None,
        }
    return rows


def stage_changes(visits: list[Visit], last_at: int, journey: Journey) -> Iterator[Change]:
    """Customers by stage, until the customer falls silent after `last_at`."""
    stays = [(visit.entered_at, visit.stage) for visit in visits]
    if stays and stays[-1][1] != LAPSED:
        stays.append((last_at + journey.lapsed_ms, LAPSED))
    for index, (at, stage) in enumerate(stays):
        yield Change("customers", at // DAY_MS, 1, "stage", stage)
        if index + 1 < len(stays):
            yield Change("customers", stays[index + 1][0] // DAY_MS, -1, "stage", stage)


def _evidence(rule: dict[str, Any]) -> Evidence:
    sources = rule.get("from")
    return Evidence(
        rule["stage"],
        frozenset(rule["on"]),
        None if sources is None else frozenset(sources),
        rule.get("times", 1),
        rule.get("question", ""),
        rule.get("score"),
        rule.get("sentiment"),
        rule.get("rating"),
    )


def _enough(value: float | None, least: float | None) -> bool:
    return least is None or (value is not None and value >= least)
