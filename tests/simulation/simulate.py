"""The simulator's command: many seeds over all cores, or one seed with its schedule.

    python tests/simulation/simulate.py --seeds 10000
    python tests/simulation/simulate.py --seed 123

A failing seed is printed with the check, the difference and the command that replays it; then the
exit code is 1.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from simulator.findings import Violation
from simulator.schedule import schedule_of
from simulator.simulation import Simulation

SEEDS_AT_ONCE = 20


def failure_of(seed: int, touchpoints: int | None = None) -> str | None:
    """Run a seed; what failed, if anything did."""
    try:
        Simulation(schedule_of(seed, touchpoints)).run()
    except Violation as violation:
        return str(violation)
    return None


def run_some(touchpoints: int | None, seeds: Sequence[int]) -> tuple[int, list[str], float]:
    """Number of seeds, failures, and seconds of CPU."""
    gc.disable()  # what a schedule leaves behind is collected once for all of them
    began = time.process_time()
    failures = [failure for seed in seeds if (failure := failure_of(seed, touchpoints))]
    gc.collect()
    return len(seeds), failures, time.process_time() - began


def run_many(first: int, number: int, processes: int, touchpoints: int | None) -> bool:
    """Run seeds, say what failed, and how fast it went; True when nothing failed."""
    seeds = range(first, first + number)
    groups = [seeds[n : n + SEEDS_AT_ONCE] for n in range(0, number, SEEDS_AT_ONCE)]
    began, cpu_seconds, done, failed = time.monotonic(), 0.0, 0, 0
    for ran, failures, seconds in _results(groups, processes, touchpoints):
        done, cpu_seconds, failed = done + ran, cpu_seconds + seconds, failed + len(failures)
        for failure in failures:
            print(failure, flush=True)
        if done % 1_000 < ran and done < number:
            print(f"{done} of {number} schedules, {failed} failed", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{done} schedules in {seconds:.0f} s with {processes} processes, {failed} failed; "
        f"{60 * done / cpu_seconds:.0f} schedules a minute of CPU"
    )
    return failed == 0


def _results(
    groups: list[range], processes: int, touchpoints: int | None
) -> Iterator[tuple[int, list[str], float]]:
    run = partial(run_some, touchpoints)
    if processes == 1:
        yield from map(run, groups)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, groups)


def show(seed: int, touchpoints: int | None) -> bool:
    """Run one seed and print what happens; True when nothing failed."""
    simulation = Simulation(schedule_of(seed, touchpoints))
    schedule = simulation.schedule
    print(f"seed {seed}: {schedule.partitions} partitions, {len(schedule.published)} touchpoints")
    print(f"  {schedule.broker}\n  {schedule.clickhouse}")
    failure: Violation | None = None
    try:
        simulation.run()
    except Violation as violation:
        failure = violation
    for number, (who, what) in enumerate(simulation.scheduler.trace):
        print(f"{number:6} {who:10} {what}")
    print(failure or "every check holds")
    return failure is None


def main() -> int:
    """Read the arguments; 0 when nothing failed."""
    parser = argparse.ArgumentParser(description="Run schedules of the simulator.")
    parser.add_argument("--seed", type=int, help="run one and print what happens")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--touchpoints", type=int, help="for longer schedules")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        return 0 if show(options.seed, options.touchpoints) else 1
    many = run_many(options.first, options.seeds, options.processes, options.touchpoints)
    return 0 if many else 1


if __name__ == "__main__":
    sys.exit(main())
