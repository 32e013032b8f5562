"""Schedules of the simulator: some hundreds of small ones, a dozen long ones. `make simulate` runs
as many more as you like.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulator.findings import Violation
from simulator.simulation import simulate

SEEDS = 1_000
GROUP = 50
COMMAND = Path(__file__).with_name("simulate.py")


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_every_check_holds_in_every_schedule(first: int) -> None:
    for seed in range(first, first + GROUP):
        simulate(seed)


@pytest.mark.parametrize("seed", range(SEEDS, SEEDS + 8))
def test_every_check_holds_in_long_schedules(seed: int) -> None:
    simulate(seed, touchpoints=150)


@pytest.mark.parametrize("seed", [7, 77])
def test_a_seed_says_all_that_happens(seed: int) -> None:
    traces = [simulate(seed).scheduler.trace for _ in range(2)]
    assert traces[0] == traces[1]


def printed(seed: int, hash_seed: str) -> str:
    command = [sys.executable, str(COMMAND), "--seed", str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def test_a_seed_is_replayed_by_another_process() -> None:
    one, other = printed(7, "1"), printed(7, "2")
    assert one == other
    assert one.endswith("every check holds\n")


def test_a_failure_names_the_check_and_the_command_that_replays_it() -> None:
    violation = Violation("d", "marker goes back")
    violation.seed = 123
    assert str(violation) == (
        "seed 123 fails check (d): marker goes back\nreplay it with: make simulate SEED=123"
    )
