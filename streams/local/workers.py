"""The workers of the embedded stack: each is started again when it ends, until the stack stops.

One thread per worker starts the process and waits for its end; restarts are spaced by a growing
backoff, and each is reported. A worker that ends with EX_CONFIG (78) would only fail again: that is
a failure of the whole.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.processes import Child, Command, stop_all

log = logging.getLogger(__name__)
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 5.0
HEALTHY_SECONDS = 30.0
"""A worker that ran this long starts again at once."""


def backoff_seconds(failures: int) -> float:
    """Pause before the restart after so many short lives in a row."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16), LONGEST_BACKOFF_SECONDS)


class Workers:
    """Supervised workers; `on_failure` is called once for each that must not be started again."""

    def __init__(
        self,
        commands: Sequence[Command],
        on_failure: Callable[[str], None],
        on_restart: Callable[[str], None] = log.warning,
    ) -> None:
        """`on_restart` is told of each worker that will be started again, in a thread."""
        self._on_failure = on_failure
        self._on_restart = on_restart
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._threads = [
            threading.Thread(target=self._keep_running, args=each, name=each[1].name, daemon=True)
            for each in enumerate(commands)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Start every worker."""
        for thread in self._threads:
            thread.start()

    def pid(self, index: int) -> int | None:
        """Process id of a worker; None while it is down."""
        with self._lock:
            child = self._children.get(index)
            return child.pid if child and child.exit_code() is None else None

    def kill(self, index: int) -> None:
        """SIGKILL one worker, as a crash would; it is started again."""
        with self._lock:
            self._children[index].kill()

    def stop(self) -> None:
        """Stop every worker at the same time and restart none."""
        with self._lock:
            self._stopping.set()
            children = [*self._children.values()]
        stop_all(children)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _keep_running(self, index: int, command: Command) -> None:
        failures = 0
        while (child := self._start(index, command)) is not None:
            started = time.monotonic()
            if child.wait() == os.EX_CONFIG:
                self._on_failure(child.explain_end())
                return
            lived = time.monotonic() - started
            failures = 0 if lived > HEALTHY_SECONDS else failures + 1
            if self._stopping.is_set():
                return
            pause = backoff_seconds(failures)
            self._on_restart(
                f"{command.name} ended with {child.exit_code()} after {lived:.0f} s and starts"
                f" again in {pause:g} s, see {command.log}"
            )
            if self._stopping.wait(pause):
                return

    def _start(self, index: int, command: Command) -> Child | None:
        with self._lock:  # so that `stop` sees every child that was started
            if self._stopping.is_set():
                return None
            try:
                self._children[index] = Child(command)
            except ConfigurationError as error:
                self._on_failure(str(error))
                return None
            return self._children[index]
