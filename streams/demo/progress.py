"""How far ClickHouse has got: polled until it is where it should be, or until nothing moves."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from touchstream.streams.errors import TransientError

POLL_SECONDS = 0.5
STALL_SECONDS = 60.0
QUIET_SECONDS = 30.0
"""Without a move for so long, what has arrived is final; a killed worker is back sooner."""

PROGRESS = """
SELECT
    (SELECT count() FROM touchpoints),
    touched.1,
    (SELECT count() FROM identities),
    touched.2,
    touched.3
FROM (
    SELECT (sum(touchpoints), count(), sum(toUnixTimestamp64Milli(changed_at))) AS touched
    FROM customers
)
"""


class Progress(NamedTuple):
    """What can be queried."""

    touchpoints: int
    at_customers: int
    """Touchpoints that have reached their customer."""
    identities: int
    customers: int

    @property
    def complete(self) -> tuple[int, int]:
        """The part that grows with every touchpoint."""
        return self.touchpoints, self.at_customers


@dataclass(frozen=True)
class Patience:
    """How to wait; `pause` waits for some seconds and raises when a server has failed."""

    pause: Callable[[float], None]
    clock: Callable[[], float] = time.monotonic
    stall_seconds: float = STALL_SECONDS
    quiet_seconds: float = QUIET_SECONDS


def read_progress(client: Any) -> tuple[Progress, int]:
    """Progress, and a number that changes whenever a customer does."""
    *counts, marks = client.query(PROGRESS).result_rows[0]
    return Progress(*map(int, counts)), int(marks)


def wait_for(client: Any, target: Progress, patience: Patience) -> float:
    """Time (of the clock) at which the target was reached.

    Raises TransientError when touchpoints are missing and nothing moves. When only customers or
    identities differ and nothing moves, it returns, too: the checks say what is wrong.
    """
    last: tuple[Progress, int] | None = None
    moved_at = patience.clock()
    while True:
        asked_at = patience.clock()
        now = read_progress(client)
        if now != last:
            last, moved_at = now, asked_at
        if now[0] == target:
            return asked_at
        still = asked_at - moved_at
        if now[0].complete == target.complete and still >= patience.quiet_seconds:
            return moved_at
        if still >= patience.stall_seconds:
            raise TransientError(stalled(now[0], target, still))
        patience.pause(POLL_SECONDS)


def stalled(reached: Progress, target: Progress, seconds: float) -> str:
    """Say what is missing."""
    return (
        f"nothing has moved for {seconds:.0f} s: of {target.touchpoints:,} touchpoints "
        f"{reached.touchpoints:,} are in ClickHouse, {reached.at_customers:,} at their customer; "
        "see the logs of the workers in the demo's directory"
    )
