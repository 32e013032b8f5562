"""What one worker of a group does for all: the one that holds partition 0 of `cx.customer`.

Two may do it for a moment when partitions move, and nobody for a moment before: a duty must bear
both.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from touchstream.streams.topics import CUSTOMER

log = logging.getLogger(__name__)
PLACE = (CUSTOMER, 0)


class Duties:
    """Starts and stops duties with the assignment of partitions."""

    def __init__(self) -> None:
        self._duties: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this until it is cancelled, whenever they are ours."""
        self._duties.append(run)

    def assign(self, places: Collection[tuple[str, int]]) -> None:
        """Begin, if they are ours now: `places` is all that this worker holds."""
        if PLACE in places and not self._tasks:
            self._tasks = [asyncio.create_task(_run(duty)) for duty in self._duties]

    async def revoke(self, places: Collection[tuple[str, int]]) -> None:
        """Stop, if these places were what made them ours."""
        if PLACE in places:
            await self.stop()

    async def stop(self) -> None:
        """Stop them all."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await duty()
    except Exception:
        log.exception("a duty has ended; it begins again when partitions move")
