"""The customer journey: consider, evaluate, purchase, then enjoy, advocate, bond; or lapsed.

A state machine over a customer's touchpoints in the order they happened. Source of the stages: D.
Edelman, "Branding in the Digital Age", Harvard Business Review, December 2010.
"""

import msgspec

from touchstream.agents.customer_messages import Event
from touchstream.agents.journey_rules import LAPSED, NEW, JourneyRules
from touchstream.agents.ledger import Ledger
from touchstream.streams.customer_tables import VISITS
from touchstream.streams.topics import DAY_MS

COUNTED = "customers"
"""Level of the customers in a stage."""


class Journey(msgspec.Struct, array_like=True):
    """Where a customer is, and since when; times in ms."""

    stage: str = ""
    since: int = 0
    previous: str = ""
    seen_at: int = 0
    """Time of the latest touchpoint."""
    tally: dict[int, int] = {}
    """By rule with `times`: how many touchpoints fitted since the stage began."""

    def see(self, event: Event, rules: JourneyRules, ledger: Ledger) -> None:
        """Take the next touchpoint."""
        at = event.occurred_at
        if self.stage and self.stage != LAPSED:
            self._wait(at, rules, ledger)
        stage = self._stage_of(event, rules)
        if stage and stage != self.stage:
            self._enter(stage, at, rules, ledger)
        self.seen_at = at

    def lapses_at(self, rules: JourneyRules) -> int | None:
        """When it lapses unless something happens; None without a stage and when it has lapsed."""
        if not self.stage or self.stage == LAPSED:
            return None
        return self.seen_at + rules.lapsed_after

    def _wait(self, at: int, rules: JourneyRules, ledger: Ledger) -> None:
        """Let time pass until the next touchpoint."""
        lapse = self.seen_at + rules.lapsed_after
        if at > lapse:
            self._enter(LAPSED, lapse, rules, ledger, expected=True)
        elif at // DAY_MS > self.seen_at // DAY_MS:
            self._expect_lapse(-1, self.seen_at, rules, ledger)
            self._expect_lapse(1, at, rules, ledger)

    def _stage_of(self, event: Event, rules: JourneyRules) -> str | None:
        here = self.stage or NEW
        for rule in rules.evidence.get((event.channel, event.action), ()):
            if rule.origins is not None and here not in rule.origins:
                continue
            if not rule.fits(event):
                continue
            if rule.times > 1:
                self.tally = {**self.tally, rule.number: self.tally.get(rule.number, 0) + 1}
                if self.tally[rule.number] < rule.times:
                    continue
            return rule.stage
        return None

    def _enter(
        self, stage: str, at: int, rules: JourneyRules, ledger: Ledger, expected: bool = False
    ) -> None:
        """Begin a visit; an `expected` one was counted when the silence began."""
        former, day = self.stage, at // DAY_MS
        if former:
            self._write(at, rules, ledger)
            if not expected:
                if former != LAPSED:
                    self._expect_lapse(-1, at, rules, ledger)
                ledger.shift(COUNTED, day, -1, ("stage", former))
        if not expected:
            ledger.shift(COUNTED, day, 1, ("stage", stage))
        self.previous, self.stage, self.since, self.tally = former, stage, at, {}
        if not expected:
            self._expect_lapse(1, at, rules, ledger)
        self._write(None, rules, ledger)

    def _expect_lapse(self, sign: int, at: int, rules: JourneyRules, ledger: Ledger) -> None:
        """Count the customer as lapsed once it has been silent since `at` for too long."""
        day = (at + rules.lapsed_after) // DAY_MS
        ledger.shift(COUNTED, day, -sign, ("stage", self.stage))
        ledger.shift(COUNTED, day, sign, ("stage", LAPSED))

    def show(self, rules: JourneyRules, ledger: Ledger) -> None:
        """Write the visit that has not ended."""
        if self.stage:
            self._write(None, rules, ledger)

    def _write(self, left_at: int | None, rules: JourneyRules, ledger: Ledger) -> None:
        rank, before = rules.rank(self.stage), rules.rank(self.previous)
        row = (
            self.since,
            self.stage,
            rules.cycle(self.stage),
            self.previous,
            rank is not None and before is not None and rank < before,
            left_at,
        )
        ledger.write(VISITS, self.since, self.stage, row)
