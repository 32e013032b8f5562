"""What operators have said that everybody must know: rules that hold, identities that were erased.

Filled from the log of operations, before anything else is read and from then on.
"""

import logging

from touchstream.agents.junk import rules_problem
from touchstream.agents.operations import SetErased, SetRules, decode_operation
from touchstream.agents.rule_book import RuleBook
from touchstream.agents.rules import Rules
from touchstream.agents.suppressions import Suppressions
from touchstream.streams.errors import PoisonError
from touchstream.streams.follower import Follower
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.topics import OPERATIONS

log = logging.getLogger(__name__)


class Heard:
    """Everything said so far; may be added to while it is read."""

    def __init__(self) -> None:
        self.rules = RuleBook()
        self.suppressions = Suppressions()

    def take(self, record: Record) -> None:
        """Take an operation in the order of the log; what cannot be used is left out."""
        try:
            operation = decode_operation(record.value)
        except PoisonError as error:
            log.warning("operation skipped: offset=%d problem=%s", record.offset, error)
            return
        match operation:
            case SetRules(rules):
                self._take_rules(rules, record)
            case SetErased():
                self._take_erasure(operation, record)

    def _take_erasure(self, operation: SetErased, record: Record) -> None:
        try:
            self.suppressions.add(record.offset + 1, record.timestamp_ms, operation)
        except ValueError as error:
            log.warning("erasure skipped: offset=%d problem=%s", record.offset, error)

    def _take_rules(self, rules: Rules, record: Record) -> None:
        problem = rules_problem(rules)
        if problem:
            log.warning("rules skipped: offset=%d problem=%s", record.offset, problem)
        else:
            self.rules.add(record.timestamp_ms, rules)


def follow(settings: Settings, heard: Heard) -> Follower:
    """Hear what was said and what is being said; `start` returns when all that was is known."""
    return Follower(settings, (OPERATIONS, 0), heard.take)
