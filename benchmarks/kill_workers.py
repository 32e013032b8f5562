"""`make demo-kill`: the demo's load and checks while workers are killed at random moments.

Every kill is a SIGKILL of a worker that has made progress since the last one. Exit code 0 only if
all totals are right and all kills fell into the load.
"""

import argparse
import random
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from rich.console import Console

from touchstream.streams.clickhouse import connect
from touchstream.streams.demo.progress import Patience
from touchstream.streams.demo.report import print_report
from touchstream.streams.demo.run import Demo, Plan, demo_settings
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.publisher import Publisher


class Killer(threading.Thread):
    """Kills workers, one after another, each after it has made progress."""

    def __init__(self, stack: LocalStack, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._rng = random.Random(seed)
        self._left = kills
        self.done = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Kill until enough are killed or the load is over."""
        began = time.monotonic()
        while self._left and not self.stopped.is_set():
            victim = self._rng.randrange(len(self._stack.workers))
            seen = chunks_done(self._stack.metrics_ports[victim])
            if self._wait_for_progress(victim, seen):
                self.stopped.wait(self._rng.uniform(0.0, 4.0))
                if not self.stopped.is_set():
                    self._stack.workers.kill(victim)
                    self._left -= 1
                    self.done += 1
                    print(
                        f"kill {self.done}: worker {victim} after {time.monotonic() - began:.1f} s"
                    )

    def _wait_for_progress(self, victim: int, seen: float) -> bool:
        while not self.stopped.wait(0.05):
            if chunks_done(self._stack.metrics_ports[victim]) > seen:
                return True
        return False


def chunks_done(port: int) -> float:
    """Chunks that a worker has made durable; 0 while it is down."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    found = (line for line in lines if line.startswith("touchstream_chunk_seconds_count"))
    return sum(float(line.split()[1]) for line in found)


def main() -> int:
    """Run the load, kill, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    console = Console(width=100)
    with tempfile.TemporaryDirectory(prefix="touchstream-kill-") as folder:
        local = LocalOptions(Path(folder), options.workers, 0, 0, 0)
        with (
            LocalStack(demo_settings(), local) as stack,
            Publisher(stack.settings) as publisher,
        ):
            killer = Killer(stack, options.kills, options.seed)
            killer.start()
            patience = Patience(stack.wait, stall_seconds=240.0)
            demo = Demo(publisher, connect(stack.settings), patience, console, Plan())
            findings = demo.load_and_check(options.workers)
            killer.stopped.set()
            print_report(console, findings)
    right = all(check.ok for check in findings.checks)
    console.print(
        f"seed {options.seed}: {killer.done} of {options.kills} kills with {options.workers}"
        f" workers, totals {'right' if right else 'WRONG'}"
    )
    return 0 if right and killer.done == options.kills else 1


if __name__ == "__main__":
    raise SystemExit(main())
