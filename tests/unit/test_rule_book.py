"""Which rules hold at a time."""

import msgspec
import pytest

from touchstream.agents.rule_book import LEAD_MS, RuleBook
from touchstream.agents.rules import Rules
from touchstream.agents.rules_file import default_rules

ONE, TWO = (msgspec.structs.replace(default_rules(), max_identities=n) for n in (1, 2))


def book(*said: tuple[int, Rules]) -> RuleBook:
    made = RuleBook()
    for at_ms, rules in said:
        made.add(at_ms, rules)
    return made


@pytest.mark.parametrize(
    ("after_first_ms", "expected"),
    [
        (LEAD_MS - 1, default_rules()),
        (LEAD_MS, ONE),
        (LEAD_MS + 999, ONE),
        (LEAD_MS + 1000, TWO),
        (10**12, TWO),
    ],
)
def test_rules_hold_a_while_after_they_were_said(after_first_ms: int, expected: Rules) -> None:
    assert book((1000, ONE), (2000, TWO)).at(1000 + after_first_ms) is expected


def test_default_rules_hold_as_long_as_nothing_was_said() -> None:
    assert RuleBook().at(10**15) is default_rules()


def test_order_of_the_log_decides_between_rules_of_one_time() -> None:
    assert book((1000, ONE), (1000, TWO)).at(1000 + LEAD_MS) is TWO


def test_rules_said_later_but_dated_earlier_hold_from_their_own_time() -> None:
    made = book((2000, ONE), (1000, TWO))
    assert [made.at(at_ms + LEAD_MS) for at_ms in (999, 1000, 2000)] == [default_rules(), TWO, TWO]


@pytest.mark.parametrize("before_ms", [1, LEAD_MS - 1])
def test_worker_that_has_not_heard_of_the_latest_rules_decides_like_one_that_has(
    before_ms: int,
) -> None:
    at_ms = 100_000
    heard = book((0, ONE), (at_ms - before_ms, TWO))
    assert heard.at(at_ms) is book((0, ONE)).at(at_ms)
