"""Which identity rules hold at a time: rules as operators said them in, the rules of a moment out.

Rules hold `LEAD_MS` after they were said. By then every worker has heard of them; so it does not
matter who processes a touchpoint, or when, or how often: its time alone says its rules.
"""

from touchstream.agents.rules import Rules
from touchstream.agents.rules_file import default_rules

LEAD_MS = 5_000


class RuleBook:
    """All rules that were ever said; may be added to while it is read."""

    def __init__(self) -> None:
        self._latest_first: tuple[tuple[int, Rules], ...] = ()

    def add(self, said_at_ms: int, rules: Rules) -> None:
        """Take rules in the order of the log."""
        self._latest_first = ((said_at_ms + LEAD_MS, rules), *self._latest_first)

    def at(self, timestamp_ms: int) -> Rules:
        """The last rules in the log that hold at a time; at first the default ones."""
        for holds_from, rules in self._latest_first:
            if holds_from <= timestamp_ms:
                return rules
        return default_rules()
