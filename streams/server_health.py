"""What the calls to a server say about it: how long it has kept us waiting, and how often.

Waiting for a server that is away is no fault of the worker: it must wait for as long as it takes.
But only what a server explains is excused: a call that was refused, or one that is slow. A call
that takes longer than its own time limit allows is no longer the server's doing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from touchstream.streams.running_time import Clock

SLOW_SECONDS = 5.0
"""A call that takes this long explains why its caller waits."""
NEVER = float("-inf")


class Server:
    """Calls of one kind to one server; called in any thread."""

    def __init__(
        self, name: str, *, patience_seconds: float = 120.0, clock: Clock = time.monotonic
    ) -> None:
        """`patience_seconds`: more than a call and the pause before its repetition may take."""
        self.name = name
        self.failures = 0
        """Calls that failed, since the start."""
        self.answered_at = clock()
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._numbers = count()
        self._calls: dict[int, float] = {}
        """When each call that is under way began."""
        self._failing_since: float | None = None
        self._failed_at = NEVER
        self._slow_at = NEVER

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call is under way."""
        number, began = next(self._numbers), self._clock()
        self._calls[number] = began
        try:
            yield
        finally:
            del self._calls[number]
            if self._clock() - began >= SLOW_SECONDS:
                self._slow_at = self._clock()

    def answered(self) -> None:
        """It does what it is there for."""
        self.answered_at = self._clock()
        self._failing_since = None

    def failed(self) -> None:
        """A call has failed and will be repeated."""
        self.failures += 1
        self._failed_at = self._clock()
        if self._failing_since is None:
            self._failing_since = self._failed_at

    @property
    def retried_seconds(self) -> float:
        """Since when every call has failed; 0 if the last one did not."""
        now, since = self._clock(), self._failing_since
        is_failing = since is not None and now - self._failed_at < self._patience_seconds
        return now - since if since is not None and is_failing else 0.0

    @property
    def silent_seconds(self) -> float:
        """Age of the oldest call under way; 0 without any."""
        began = list(self._calls.values())
        return self._clock() - min(began) if began else 0.0

    @property
    def waiting_seconds(self) -> float:
        """How long it has kept its callers waiting."""
        return max(self.retried_seconds, self.silent_seconds)

    @property
    def last_trouble(self) -> float:
        """When it last explained why somebody waits; now, while it does."""
        now = self._clock()
        calls = list(self._calls.values())
        is_slow = any(SLOW_SECONDS <= now - began < self._patience_seconds for began in calls)
        return now if is_slow or self.retried_seconds else max(self._failed_at, self._slow_at)
