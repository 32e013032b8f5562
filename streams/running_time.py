"""Time that stands still while nothing runs, and the pulse of an event loop.

A process that was frozen (SIGSTOP, a suspended machine) or an event loop that is blocked does
nothing wrong by not going on meanwhile. So what is measured against a limit is measured in time
that something ran: a silence between two ticks counts as a few seconds, however long it was.
"""

import asyncio
import time
from collections.abc import Callable

LONGEST_TICK_SECONDS = 2.0

Clock = Callable[[], float]


class RunningTime:
    """A clock that goes on for as long as it is ticked; one thread ticks, any reads."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._at = (0.0, clock())

    def __call__(self) -> float:
        """Seconds that it ran."""
        seconds, ticked_at = self._at
        return seconds + min(self._clock() - ticked_at, LONGEST_TICK_SECONDS)

    def tick(self) -> None:
        """It runs; to be called more often than every `LONGEST_TICK_SECONDS`."""
        self._at = (self(), self._clock())


class Pulse:
    """Whether an event loop of another thread answers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        answered: Callable[[], object] = lambda: None,
    ) -> None:
        """`answered` is called in the loop, at each answer."""
        self._loop = loop
        self._clock = clock
        self._answered = answered
        self._answered_at = clock()
        self._is_asked = False

    @property
    def silent_seconds(self) -> float:
        """Time since the last answer."""
        return self._clock() - self._answered_at

    def ask(self) -> None:
        """Ask for an answer; a loop that has not answered yet is not asked again."""
        if not self._is_asked and not self._loop.is_closed():
            self._is_asked = True
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered_at = self._clock()
        self._is_asked = False
        self._answered()
