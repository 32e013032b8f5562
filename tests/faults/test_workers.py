"""Workers are killed, stopped, fail, are frozen, joined by others: rows 1 to 4, 7 and 8."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from load import touchpoints
from rig import Rig, RigOf, frozen, wait_for
from stacks import IMPATIENT

from touchstream.streams.errors import EXIT_SOFTWARE
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.processes import Child, Command

pytestmark = pytest.mark.integration
LONGEST_KILL_SECONDS = 30.0
RESUME_SECONDS = 3 * (IMPATIENT.session_timeout_seconds + 15)
"""Three times what is asked for: the machine has other work. What it took is printed."""


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.long)])
def test_01_workers_are_killed_at_random_moments(
    rig_of: RigOf, rng: random.Random, kills: int
) -> None:
    seconds = LONGEST_KILL_SECONDS * kills
    with rig_of(workers=2) as loaded:
        pauses = []
        # A third as many as usual: the last kill still needs some, however long the others took.
        with loaded.publishing(touchpoints(rng, seconds / 3), seconds, to_the_end=False):
            for _ in range(kills):
                loaded.wait_for_progress()
                time.sleep(rng.uniform(0, 2))  # the random moment
                os.kill(loaded.pid(rng.randrange(2)), signal.SIGKILL)
                pauses.append(loaded.wait_for_progress(RESUME_SECONDS))
        seconds = loaded.check()
        print(f"{kills} kills, longest pause {max(pauses):.1f} s, drained in {seconds:.1f} s")
        assert len(loaded.restarts) == kills


@pytest.mark.parametrize("workers", [3])
def test_02_workers_are_restarted_one_after_the_other(
    rig_of: RigOf, rng: random.Random, workers: int
) -> None:
    seconds = 40.0
    with rig_of(workers=workers) as loaded:
        pauses = []
        with loaded.publishing(touchpoints(rng, seconds), seconds):
            loaded.wait_for_progress()
            for index in range(workers):
                os.kill(loaded.pid(index), signal.SIGTERM)
                wait_for(lambda n=index: len(loaded.restarts) > n, "it does not stop")  # type: ignore[misc]
                pauses.append(loaded.wait_for_progress(30))
        loaded.check()
        print(f"longest pause {max(pauses):.1f} s")
        assert all(" ended with 0 " in text for text in loaded.restarts), loaded.restarts


ENDS = """
import os
from touchstream.streams.{module} import {name}

method, calls = {name}.{method}, []
async def end(self, *arguments):
    calls.append(arguments)
    is_the_one = len(calls) == {number}
    if is_the_one and {before}:
        os._exit(9)
    result = await method(self, *arguments)
    if is_the_one:
        os._exit(9)
    return result
{name}.{method} = end
"""
RUN = """
from touchstream.streams.settings import load_settings
from touchstream.streams.worker import run_worker

run_worker(load_settings())
"""
MOMENTS = {
    "messages are sent, rows are not": ("clickhouse_writer", "ClickHouseWriter", "insert", True),
    "rows are stored, state is not": ("clickhouse_writer", "ClickHouseWriter", "insert", False),
    "state is not yet appended": ("changelog", "Changelog", "append", True),
    "state is appended, not committed": ("changelog", "Changelog", "append", False),
    "not yet committed": ("chunk_transport", "ChunkConsumer", "_commit", True),
    "just committed": ("chunk_transport", "ChunkConsumer", "_commit", False),
}


def run_sabotaged(loaded: Rig, log: Path, sabotage: str, exit_code: int) -> None:
    """A worker that ends by itself, with this code."""
    environment = worker_environment(loaded.stack.settings, 0)
    arguments = [sys.executable, "-P", "-c", sabotage + RUN]
    worker = Child(Command("sabotaged", arguments, log, environment))
    try:
        wait_for(lambda: worker.exit_code() is not None, "it does not end")
        assert worker.exit_code() == exit_code, log.read_text()
    finally:
        worker.stop()


def test_03_workers_end_between_any_two_steps(
    rig_of: RigOf, rng: random.Random, tmp_path: Path
) -> None:
    everything = touchpoints(rng, 10.0 * len(MOMENTS))
    with rig_of(workers=0) as loaded:
        for part, moment in enumerate(MOMENTS):
            loaded.publish(everything[part :: len(MOMENTS)])
            number = rng.randint(1, 3)
            print(f"{moment}, at the {number}. time")
            module, name, method, before = MOMENTS[moment]
            values = {"module": module, "name": name, "method": method, "before": before}
            sabotage = ENDS.format(**values, number=number)
            run_sabotaged(loaded, tmp_path / "sabotaged.log", sabotage, 9)
        loaded.start_workers(1)
        loaded.check()


RAISES = """
import asyncio
from touchstream.{module} import {name}

method, calls = {name}.{method}, []
def fail(self, *arguments):
    calls.append(arguments)
    if len(calls) == {number}:
        raise {error}("sabotage")
    return method(self, *arguments)
{name}.{method} = fail
"""
FAILURES = {
    "a record": ("agents.stitch", "Stitch", "apply", "RuntimeError", 100),
    "a chunk": ("agents.profile", "Profile", "project", "MemoryError", 3),
    "an agent": ("streams.app", "FaustApp", "_work", "asyncio.CancelledError", 10),
    "an append of state": ("streams.changelog", "Changelog", "append", "ValueError", 3),
    "an acknowledgement": ("streams.chunk_transport", "ChunkConsumer", "acknowledge", "OSError", 9),
}
"""Where it is raised, what, and how late at most."""


def test_04_an_exception_or_a_cancellation_ends_the_worker(
    rig_of: RigOf, rng: random.Random, tmp_path: Path
) -> None:
    everything = touchpoints(rng, 10.0 * len(FAILURES))
    with rig_of(workers=0) as loaded:
        for part, where in enumerate(FAILURES):
            loaded.publish(everything[part :: len(FAILURES)])
            module, name, method, error, latest = FAILURES[where]
            number = rng.randint(1, latest)
            print(f"{where}: {error} at the {number}. time")
            values = {"module": module, "name": name, "method": method, "error": error}
            sabotage, log = RAISES.format(**values, number=number), tmp_path / "failed.log"
            run_sabotaged(loaded, log, sabotage, EXIT_SOFTWARE)
            assert "sabotage" in log.read_text()
        loaded.start_workers(1)
        loaded.check()


@pytest.mark.parametrize("seconds", [30.0, pytest.param(300.0, marks=pytest.mark.long)])
def test_07_members_join_and_leave_all_the_time(
    rig_of: RigOf, rng: random.Random, tmp_path: Path, seconds: float
) -> None:
    with rig_of(workers=1) as loaded:
        environment = worker_environment(loaded.stack.settings, 0)
        arguments = [sys.executable, "-P", "-c", RUN]
        joined = 0
        with loaded.publishing(touchpoints(rng, seconds), seconds):
            loaded.wait_for_progress()
            before, until = loaded.progress(), time.monotonic() + seconds
            while time.monotonic() < until:
                log = tmp_path / "guest.log"
                guest = Child(Command("guest", arguments, log, environment))
                time.sleep(5)  # the storm's own rhythm
                guest.stop() if rng.random() < 0.5 else guest.kill()
                guest.wait()
                joined += 1
            during = loaded.progress() - before
        drained = loaded.check(60)
        print(
            f"{joined} members came and went, {during} stored meanwhile, drained in {drained:.1f} s"
        )
        assert during > 0
        assert loaded.restarts == []


@pytest.mark.parametrize("seconds", [10.0, pytest.param(90.0, marks=pytest.mark.long)])
def test_08_a_frozen_worker_wakes_up_when_the_group_has_moved_on(
    rig_of: RigOf, rng: random.Random, seconds: float
) -> None:
    total = seconds + 15
    with rig_of(workers=2) as loaded:
        with loaded.publishing(touchpoints(rng, total), total):
            loaded.wait_for_progress()
            with frozen(loaded.pid(rng.randrange(2))):
                until = time.monotonic() + seconds
                loaded.wait_for_progress(RESUME_SECONDS)
                time.sleep(max(0.0, until - time.monotonic()))
        loaded.check()
        assert all(" ended with 70 " in text for text in loaded.restarts), loaded.restarts
