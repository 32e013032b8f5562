"""Values that identify no one: texts and patterns in, a verdict on a normalised value out.

Patterns come from a file and values from outside, so both are bounded: a value is compared with
patterns up to a length, and a pattern must not have too many ways to match one.
"""

import re
from collections.abc import Collection, Iterable
from math import log2
from re import _parser  # type: ignore[attr-defined]  # private, but nothing else counts the ways
from typing import Any

from touchstream.agents.rules import Rules

PATTERN_CHARACTERS = 200
VALUE_CHARACTERS = 256
"""Longest value that is compared with patterns; a longer one is not junk by pattern."""
MOST_BITS = 17.0
"""Two to this power: most ways in which a pattern may match; below a millisecond."""
_FLAGS = re.IGNORECASE | re.DOTALL


class Junk:
    """Texts and patterns of one kind."""

    def __init__(self, texts: Iterable[str], patterns: Iterable[str]) -> None:
        """Raises re.error for a pattern that is none."""
        self._texts = frozenset(text.casefold() for text in texts)
        self._matches = [re.compile(pattern, _FLAGS).fullmatch for pattern in patterns]

    def holds(self, value: str) -> bool:
        """Whether a normalised value identifies no one."""
        if value.casefold() in self._texts:
            return True
        if len(value) <= VALUE_CHARACTERS:
            for matches in self._matches:  # a loop: `any` of a generator takes twice the time
                if matches(value):
                    return True
        return False


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be used; None when it can."""
    if not 1 <= len(pattern) <= PATTERN_CHARACTERS:
        return f"must have 1 to {PATTERN_CHARACTERS} characters, has {len(pattern)}"
    try:
        re.compile(pattern, _FLAGS)
        bits = _bits(_parser.parse(pattern, _FLAGS))
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression: {error}"
    if bits > MOST_BITS:
        return "could take very long: repeat less (* + ? {}), nothing that itself repeats"
    return None


def rules_problem(rules: Rules) -> str | None:
    """Why rules that did not come from a file cannot be used; None when they can."""
    patterns = {name: kind.junk_patterns for name, kind in rules.kinds.items()}
    patterns |= {"other": rules.other.junk_patterns, "every kind": rules.junk_patterns}
    for name, of_kind in patterns.items():
        for pattern in of_kind:
            problem = pattern_problem(pattern)
            if problem:
                return f"a junk pattern of {name} {problem}"
    return None


def _bits(items: Collection[Any]) -> float:
    """Binary logarithm of the number of ways in which a parsed pattern can match a value."""
    return sum(_bits_of(str(operation), argument) for operation, argument in items)


def _bits_of(operation: str, argument: Any) -> float:
    match operation, argument:
        case (("MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT"), (low, high, items)):
            most = min(int(high), VALUE_CHARACTERS)
            return log2(max(most - int(low), 0) + 1) + most * _bits(items)
        case "BRANCH", (_, branches):
            return log2(len(branches)) + max(_bits(branch) for branch in branches)
        case "GROUPREF_EXISTS", (_, yes, no):
            return max(_bits(yes), _bits(no or ()))
        case (("SUBPATTERN" | "ASSERT" | "ASSERT_NOT"), (*_, items)):
            return _bits(items)
        case "ATOMIC_GROUP", items:
            return _bits(items)
    return 0.0
