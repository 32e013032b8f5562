"""What the watchdog ends, when, with which exit code, and what it prints before."""

import asyncio
import logging
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from touchstream.streams.errors import EXIT_SOFTWARE
from touchstream.streams.health import Health, Limits
from touchstream.streams.running_time import RunningTime
from touchstream.streams.settings import Settings
from touchstream.streams.watchdog import (
    STOP_LIMIT_SECONDS,
    TICK_SECONDS,
    Outside,
    Watchdog,
    kafka_answers,
)

PLACE = ("cx.identity", 3)
STUCK = 60.0


@dataclass
class World:
    """A watchdog whose every look comes one second after the one before."""

    kafka: bool = True
    now: float = 1000.0
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        process_time = RunningTime(self.clock)
        limits = Limits(STUCK, STUCK)
        self.health = Health(limits, clock=self.clock, process_clock=process_time)
        self.health.assigned([PLACE])
        outside = Outside(
            lambda: self.kafka,
            lambda: self.done.append("stacks"),
            lambda code: self.done.append(f"exit {code}"),
            self.clock,
        )
        self.watchdog = Watchdog(self.health, process_time, outside)

    def clock(self) -> float:
        return self.now

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1
            self.health.polled()
            self.watchdog.look()


def test_a_healthy_worker_is_left_alone() -> None:
    world = World()
    world.look(1000)
    assert (world.done, world.watchdog.stuck) == ([], [])


def test_a_stuck_worker_says_why_prints_stacks_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.health.received(PLACE)
    world.look(int(STUCK))
    assert world.done == []
    with caplog.at_level(logging.CRITICAL):
        world.look()
    assert world.done == ["stacks", f"exit {EXIT_SOFTWARE}"]
    assert world.watchdog.stuck == ["cx.identity[3]: no chunk was computed for 61 s"]
    assert "stuck, ending the process: cx.identity[3]: no chunk was computed" in caplog.text


def test_a_worker_ends_even_when_nothing_can_be_printed() -> None:
    world = World()
    world.health.received(PLACE)
    world.watchdog._outside = Outside(
        lambda: True, lambda: 1 / 0, lambda code: world.done.append(f"exit {code}"), world.clock
    )
    with pytest.raises(ZeroDivisionError):
        world.look(int(STUCK) + 1)
    assert world.done == [f"exit {EXIT_SOFTWARE}"]


def test_a_worker_waits_for_a_kafka_that_is_away_and_says_so() -> None:
    """A commit or a restore waits for Kafka without a word."""
    world = World(kafka=False)
    world.health.received(PLACE)
    world.look(24 * 3600)
    assert world.done == []
    world.kafka = True
    world.look(3600)
    assert world.done[:2] == ["stacks", f"exit {EXIT_SOFTWARE}"]


def test_a_commit_that_waits_for_kafka_is_not_ready_as_kafka_is_away() -> None:
    world = World(kafka=False)
    world.health.received(PLACE)
    world.look(int(STUCK) + 1)
    assert world.health.kafka.failures == 1


def test_a_blocked_event_loop_is_kafkas_fault_never() -> None:
    world = World(kafka=False)
    loop = asyncio.new_event_loop()  # nobody runs it
    world.health.watch("the worker", loop)
    world.look(int(STUCK) + 1)
    loop.close()
    assert world.done == ["stacks", f"exit {EXIT_SOFTWARE}"]


def test_a_process_that_was_frozen_for_an_hour_goes_on() -> None:
    world = World()
    loop = asyncio.new_event_loop()
    world.health.watch("the worker", loop)
    world.now += 3600
    world.look(10)
    loop.close()
    assert world.done == []


@pytest.mark.parametrize("code", [0, EXIT_SOFTWARE])
def test_a_worker_that_does_not_stop_in_time_is_ended(code: int) -> None:
    world = World()
    world.watchdog.stopping(code)
    world.look(int(STOP_LIMIT_SECONDS))
    assert world.done == []
    world.look()
    assert world.done == [f"exit {code}"]


def test_asking_again_to_stop_gives_no_more_time() -> None:
    world = World()
    world.watchdog.stopping(0)
    world.look(5)
    world.watchdog.stopping(EXIT_SOFTWARE)
    world.look(4)
    assert world.done == ["exit 0"]


def test_a_worker_that_stops_is_not_judged() -> None:
    world = World()
    world.health.received(PLACE)
    world.look(int(STUCK) - 1)
    world.watchdog.stopping(0)
    world.look(5)
    assert world.done == []


def test_stop_limit_is_below_what_supervisors_allow() -> None:
    from touchstream.streams.local.processes import GRACE_SECONDS

    assert STOP_LIMIT_SECONDS + 2 * TICK_SECONDS <= GRACE_SECONDS


def test_the_thread_looks_until_it_is_closed() -> None:
    world = World()
    world.watchdog.start()
    deadline = time.monotonic() + 30
    world.health.received(PLACE)
    world.now += STUCK + 1
    while "stacks" not in world.done:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    world.watchdog.close()


def test_a_kafka_that_only_accepts_connections_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that hangs is as good as away."""
    monkeypatch.setattr("touchstream.streams.watchdog.PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as hanging, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        for server in (hanging, closed):
            settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}")
            assert not kafka_answers(settings)


STACKS = """
import asyncio
from touchstream.streams.watchdog import print_stacks

async def wait_for_a_message_that_never_comes():
    await asyncio.get_running_loop().create_future()

async def work():
    await wait_for_a_message_that_never_comes()

async def main():
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.to_thread(print_stacks, asyncio.get_running_loop())
    task.cancel()

asyncio.run(main())
"""


def test_stacks_of_threads_and_tasks_are_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STACKS], capture_output=True, text=True, timeout=60, check=True
    )
    stack = 'line 9 in work\n  File "<string>", line 6 in wait_for_a_message_that_never_comes\n'
    assert stack in done.stderr
    assert done.stderr.count("(most recent call first)") >= 2


HOLDS_THE_INTERPRETER = """
import re, sys, time
from touchstream.streams.health import Health, Limits
from touchstream.streams.running_time import RunningTime
from touchstream.streams.settings import Settings
from touchstream.streams.watchdog import Outside, Watchdog

health = Health(Limits(1, 1))
Watchdog(health, RunningTime(), Outside(lambda: True, lambda: None)).start()
time.sleep(1.5)  # until its first look
re.match("(a+)+$", "a" * 64 + "b")
"""


def test_native_code_that_holds_the_interpreter_ends_the_process() -> None:
    """No Python thread runs during such a match, which takes for ever."""
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_THE_INTERPRETER], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr and "re/__init__.py" in done.stderr
