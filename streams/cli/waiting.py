"""Waiting until workers have done something: asks again and again, and gives up after a time."""

import time
from collections.abc import Callable

INTERVAL_SECONDS = 0.1


class Deadline:
    """So many seconds from now."""

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + seconds

    def reached(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition comes true before the time is over; asked at least once."""
        while not condition():
            left = self._end - self._clock()
            if left <= 0:
                return False
            self._sleep(min(INTERVAL_SECONDS, left))
        return True
