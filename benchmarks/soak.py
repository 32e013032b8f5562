"""`make soak`: a steady load for a long time; does memory grow, does anything fall behind?

Publishes a seeded mix by the same customers at a steady rate to the whole stack, on the embedded
broker, which keeps everything in memory, or on Apache Kafka, which does not, and looks every few
seconds at the resident memory of the workers, the lag of all partitions, and the age of the oldest
thing that waits for its commit. After a third of the time the same touchpoints come again, from the
first on: the state grows no more, so memory should not either. In the end the workers are stopped
and started anew, and the load goes on: what new workers need for the same state is no leak. Prints
a line a minute, then the slope of memory over the second half beside the growth of state, memory
before and after the new start, and the largest lag and age. Exit code 0 only if every touchpoint is
counted once in the end, no commit was older than a minute and no worker ended by itself.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from brokers import BROKERS, chosen
from stacks import local_stack

from benchmarks.mix import touchpoints
from touchstream.streams.clickhouse import connect
from touchstream.streams.local.processes import tail
from touchstream.streams.local.stack import LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings

LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
BLOCK = 1_000
LARGEST_COMMIT_SECONDS = 60.0
ANEW_SECONDS = 180.0
"""How long the load goes on after the new start."""
COUNTED = "SELECT toUInt64(sum(touchpoints)) FROM customers"


@dataclass(frozen=True)
class Look:
    """What all workers say at a moment."""

    seconds: float
    resident_bytes: int
    state_bytes: float
    lag_records: float
    commit_seconds: float


def metric(text: str, name: str) -> list[float]:
    """Values of a metric, whatever its labels."""
    lines = (each for each in text.splitlines() if each.startswith((f"{name} ", f"{name}{{")))
    return [float(line.rpartition(" ")[2]) for line in lines]


def look(ports: list[int], seconds: float) -> Look:
    """Ask every worker."""
    texts = []
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            texts.append(answer.read().decode())

    def every(name: str) -> list[float]:
        return [value for text in texts for value in metric(text, name)]

    return Look(
        seconds,
        int(sum(every("process_resident_memory_bytes"))),
        sum(every("touchstream_state_bytes")),
        sum(every("touchstream_lag_records")),
        max(every('touchstream_age_seconds{waiting_for="commit"}'), default=0.0),
    )


def is_ready(port: int) -> bool:
    """Whether a worker has its partitions."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def slope(looks: list[Look]) -> float:
    """Resident bytes that come with each second, by least squares."""
    line = statistics.linear_regression(
        [each.seconds for each in looks], [float(each.resident_bytes) for each in looks]
    )
    return line.slope


class Load(threading.Thread):
    """Publishes at a rate until it is told to end."""

    def __init__(self, settings: Settings, rate: float, customers: int, fresh: float) -> None:
        """After `fresh` seconds the same touchpoints come again."""
        super().__init__(name="load", daemon=True)
        self.published = 0
        self.different = 0
        """Of those that were published."""
        self._blocks = max(1, round(fresh * rate / BLOCK))
        self.is_over = threading.Event()
        self._settings = settings
        self._rate = rate
        self._customers = customers

    def run(self) -> None:
        """Blocks of touchpoints, each when it is due."""
        began, began_ms = time.monotonic(), int(time.time() * 1000)
        with Publisher(self._settings) as publisher:
            for block in count():
                due = began + block * BLOCK / self._rate
                if self.is_over.wait(max(0.0, due - time.monotonic())):
                    return
                number = block % self._blocks
                at_ms = began_ms + int(1000 * number * BLOCK / self._rate)
                name, rng = f"soak-{number}", random.Random(number)
                mix = touchpoints(rng, BLOCK, name, self._customers, at_ms)
                for channel, touchpoint in mix:
                    publisher.publish(channel, touchpoint)
                self.published += BLOCK
                self.different = min(self.published, self._blocks * BLOCK)


def main() -> int:
    """Run the load, look, sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--broker", choices=BROKERS, default="embedded")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="touchstream-soak-") as name,
        chosen(options.broker, Path(name, "kafka")) as kafka,
    ):
        folder = Path(name, "stack")
        folder.mkdir()
        restarts: list[str] = []

        def restarted(text: str) -> None:
            index = text.removeprefix("worker-").partition(" ")[0]
            log = Path(folder, "logs", f"worker-{index}.log")
            restarts.append(text)
            print(text, *tail(log), sep="\n", flush=True)

        with (
            local_stack(
                folder,
                Settings(),
                workers=options.workers,
                kafka=kafka,
                on_restart=restarted,
            ) as stack,
            connect(stack.settings) as client,
        ):
            wait_until_ready(stack)
            fresh = 60 * options.minutes / 3
            load = Load(stack.settings, options.rate, options.customers, fresh)
            load.start()
            looks = watch(stack, load, 60 * options.minutes)
            stack.workers.stop()
            stack.start_workers()
            wait_until_ready(stack)
            anew = watch(stack, load, ANEW_SECONDS)
            load.is_over.set()
            load.join()
            ended = time.monotonic()
            while (
                look(stack.metrics_ports, 0).lag_records
                or client.query(COUNTED).result_rows[0][0] < load.different
            ) and time.monotonic() < ended + PATIENCE_SECONDS:
                time.sleep(1)
            drained = time.monotonic() - ended
            counted = client.query(COUNTED).result_rows[0][0]
    print(f"{len(restarts)} restarts")
    print(
        f"published {load.published:,}, of them different {load.different:,}, counted {counted:,},"
        f" {drained:.1f} s after the last"
    )
    oldest = summary(looks, anew)
    is_good = counted == load.different and oldest < LARGEST_COMMIT_SECONDS and not restarts
    return 0 if is_good else 1


def wait_until_ready(stack: LocalStack) -> None:
    """Wait until all workers have their partitions."""
    while not all(map(is_ready, stack.metrics_ports)):
        stack.wait(1)


def watch(stack: LocalStack, load: Load, seconds: float) -> list[Look]:
    """Look at the workers for a time."""
    looks: list[Look] = []
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        stack.wait(LOOK_SECONDS)
        if not all(map(is_ready, stack.metrics_ports)):
            continue
        looks.append(look(stack.metrics_ports, passed))
        if len(looks) % (60 // LOOK_SECONDS) == 0:
            show(looks[-1], load.published)
    return looks


def show(seen: Look, published: int) -> None:
    """One line."""
    print(
        f"{seen.seconds / 60:5.1f} min  published {published:>9,}"
        f"  resident {seen.resident_bytes >> 20:,} MiB"
        f"  state {seen.state_bytes / (1 << 20):,.0f} MiB"
        f"  lag {seen.lag_records:,.0f}  oldest commit {seen.commit_seconds:.1f} s",
        flush=True,
    )


def summary(looks: list[Look], anew: list[Look]) -> float:
    """Say what it comes to; returns the age of the oldest commit, s."""
    later = looks[len(looks) // 2 :]
    hours = (later[-1].seconds - later[0].seconds) / 3600
    state = (later[-1].state_bytes - later[0].state_bytes) / hours
    oldest = max(each.commit_seconds for each in looks)
    print(
        f"second half: resident memory {slope(later) * 3600 / (1 << 20):+,.0f} MiB/h,"
        f" state {state / (1 << 20):+,.0f} MiB/h"
    )
    before, after = looks[-1], anew[-1]
    print(
        f"resident {before.resident_bytes >> 20:,} MiB"
        f" with {before.state_bytes / (1 << 20):,.0f} MiB of state; started anew"
        f" {after.resident_bytes >> 20:,} MiB with {after.state_bytes / (1 << 20):,.0f} MiB"
    )
    print(
        f"largest lag {max(each.lag_records for each in looks):,.0f}, oldest commit {oldest:.1f} s"
    )
    return oldest


if __name__ == "__main__":
    raise SystemExit(main())
