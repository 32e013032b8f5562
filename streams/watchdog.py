"""A thread outside the event loops that ends a process which makes no progress, or does not stop.

Each second it asks the event loops for an answer and the health for a verdict. A worker that is
stuck says why, prints the stacks of all threads and tasks and ends with `EXIT_SOFTWARE`: nothing is
acknowledged, and whoever is started next goes on from the last durable chunk. If not even this
thread runs, because native code holds the interpreter, the interpreter's own timer does the same,
with exit code 1.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from confluent_kafka import KafkaException

from touchstream.streams.admin import admin_client
from touchstream.streams.errors import EXIT_SOFTWARE
from touchstream.streams.health import Health
from touchstream.streams.running_time import RunningTime
from touchstream.streams.settings import Settings

log = logging.getLogger(__name__)
TICK_SECONDS = 1.0
STOP_LIMIT_SECONDS = 8.0
"""A worker that was asked to stop is ended at the first look after this time; many supervisors kill
after 10 seconds."""
PROBE_SECONDS = 5.0


def print_stacks(loop: asyncio.AbstractEventLoop) -> None:
    """Print the stacks of all threads, and what each task of a loop waits for, to stderr."""
    faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
    for task in asyncio.all_tasks(loop):
        print(f"Task {task.get_name()} (most recent call last):", file=sys.__stderr__)
        for frame in awaited_frames(task):
            code = frame.f_code
            print(
                f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}',
                file=sys.__stderr__,
            )


def awaited_frames(task: "asyncio.Task[Any]") -> Iterator[FrameType]:
    """From the body of a task to where it waits; `Task.get_stack` has the body alone."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None)
        if frame is not None:
            yield frame
        waiting = getattr(waiting, "cr_await", None)


def kafka_answers(settings: Settings) -> bool:
    """Whether Kafka answers a request; one that only accepts connections does not count."""
    try:
        admin_client(settings).list_topics(timeout=PROBE_SECONDS)
    except KafkaException:
        return False
    return True


@dataclass(frozen=True)
class Outside:
    """What the watchdog asks and does, so that tests can rule it."""

    kafka_answers: Callable[[], bool]
    print_stacks: Callable[[], object]
    end_process: Callable[[int], object] = os._exit
    clock: Callable[[], float] = time.monotonic


class Watchdog:
    """Looks every second; `stuck` is what it saw last."""

    def __init__(self, health: Health, process_time: RunningTime, outside: Outside) -> None:
        """`process_time` is ticked here: it stands still while the process is frozen."""
        self.stuck: list[str] = []
        self._health = health
        self._process_time = process_time
        self._outside = outside
        self._stop_by: float | None = None
        self._exit_code = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def stopping(self, exit_code: int) -> None:
        """The worker stops; if it is not done in time the process ends with this code."""
        if self._stop_by is None:
            self._health.stopping()
            self._exit_code = exit_code
            self._stop_by = self._outside.clock() + STOP_LIMIT_SECONDS

    def look(self) -> None:
        """End the process, if it must end."""
        self._process_time.tick()
        for pulse in list(self._health.pulses.values()):
            pulse.ask()
        if self._stop_by is not None:
            self._look_at_the_stop(self._stop_by)
        else:
            self.stuck = self._verdict()
            if self.stuck:
                self._end()

    def _run(self) -> None:
        # Above what is allowed to the loops: this is for when nothing else can end the process.
        limit = 2 * self._health.limits.stuck_seconds
        while not self._ended.wait(TICK_SECONDS):
            faulthandler.dump_traceback_later(limit, exit=True)
            self.look()

    def _verdict(self) -> list[str]:
        """What is stuck, unless Kafka is away: a commit or a restore waits for it in silence."""
        stuck = self._health.stuck()
        if stuck and not self._outside.kafka_answers():
            self._health.kafka.failed()
            return self._health.stuck()
        return stuck

    def _look_at_the_stop(self, stop_by: float) -> None:
        if self._outside.clock() > stop_by:
            log.warning("stopped in the middle of a chunk; it will be processed again")
            self._outside.end_process(self._exit_code)

    def _end(self) -> None:
        try:
            log.critical("stuck, ending the process: %s", "; ".join(self.stuck))
            self._outside.print_stacks()
        finally:
            self._outside.end_process(EXIT_SOFTWARE)
