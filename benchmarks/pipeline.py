"""`make bench`: events per second from publish to queryable, worker CPU per event, and latency.

Runs the whole stack on this machine, on the embedded broker or on Apache Kafka, publishes a seeded
mix of touchpoints as fast as it goes, then a steady stream. Queryable means counted by the views
`touchpoints` and `customers`. Latency is of the k-th event published against the moment when k
were visible.
"""

import argparse
import random
import statistics
import tempfile
import time
import urllib.request
from bisect import bisect_left
from pathlib import Path

from brokers import BROKERS, chosen
from clickhouse_connect.driver.client import Client
from stacks import local_stack

from benchmarks.mix import touchpoints
from touchstream.streams.clickhouse import connect
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings, load_settings

ARRIVED = "SELECT count() FROM touchpoint_facts"
FACTS = "SELECT count() FROM touchpoints"
CUSTOMERS = "SELECT toUInt64(sum(touchpoints)) FROM customers"
POLL_SECONDS = 0.1


def count(client: Client, sql: str) -> int:
    """First number of a query's answer."""
    return int(client.query(sql).result_rows[0][0])


def wait_for(client: Client, number: int) -> None:
    """Wait until both views count `number` touchpoints; asks the costly views last."""
    deadline = time.monotonic() + 300
    for sql in (ARRIVED, FACTS, CUSTOMERS):
        while (seen := count(client, sql)) < number:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {seen} of {number} became queryable")
            time.sleep(0.5)


def worker_cpu_seconds(ports: list[int]) -> float:
    """CPU time of all workers so far, as they export it."""
    total = 0.0
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("process_cpu_seconds_total "):
                    total += float(line.split()[1])
    return total


def throughput(client: Client, settings: Settings, ports: list[int], number: int) -> int:
    """Publish as fast as it goes; prints events per second and CPU per event."""
    before = count(client, FACTS)
    events = list(touchpoints(random.Random(1), number, "bulk"))
    cpu, began = worker_cpu_seconds(ports), time.monotonic()
    with Publisher(settings) as publisher:
        for channel, touchpoint in events:
            publisher.publish(channel, touchpoint)
    published = time.monotonic() - began
    wait_for(client, before + number)
    seconds = time.monotonic() - began
    cpu = worker_cpu_seconds(ports) - cpu
    print(f"published            {number / published:>10,.0f} events/s")
    print(f"publish to queryable {number / seconds:>10,.0f} events/s  in {seconds:.1f} s")
    print(f"worker CPU           {1e6 * cpu / number:>10,.0f} us/event")
    return before + number


def latency(client: Client, settings: Settings, before: int, rate: int, seconds: int) -> None:
    """Publish at a steady rate; prints percentiles of publish to queryable, by view."""
    sent: list[float] = []
    seen: dict[str, tuple[list[int], list[float]]] = {FACTS: ([], []), CUSTOMERS: ([], [])}
    total = rate * seconds
    began = poll = time.monotonic()
    with Publisher(settings) as publisher:
        for channel, touchpoint in touchpoints(random.Random(2), total, "steady"):
            due = began + len(sent) / rate
            while (now := time.monotonic()) < due:
                if now >= poll:
                    poll = now + POLL_SECONDS
                    observe(client, seen, before)
                else:
                    time.sleep(min(due, poll) - now)
            sent.append(time.monotonic())
            publisher.publish(channel, touchpoint)
        publisher.flush()
        while any(not counts or counts[-1] < total for counts, _ in seen.values()):
            observe(client, seen, before)
            time.sleep(POLL_SECONDS)
    for sql, name in ((FACTS, "touchpoints"), (CUSTOMERS, "customers")):
        counts, times = seen[sql]
        waits = sorted(times[bisect_left(counts, k + 1)] - at for k, at in enumerate(sent))
        p95 = waits[int(0.95 * len(waits))]
        print(
            f"latency at {rate:,}/s  p50 {statistics.median(waits):.2f} s  p95 {p95:.2f} s"
            f"  max {waits[-1]:.2f} s  ({name})"
        )


def observe(client: Client, seen: dict[str, tuple[list[int], list[float]]], before: int) -> None:
    """Note how many touchpoints each view counts now."""
    for sql, (counts, times) in seen.items():
        counts.append(count(client, sql) - before)
        times.append(time.monotonic())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--broker", choices=BROKERS, default="embedded")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="touchstream-bench-") as name,
        chosen(options.broker, Path(name, "kafka")) as kafka,
    ):
        folder = Path(name, "stack")
        folder.mkdir()
        with local_stack(folder, load_settings(), workers=options.workers, kafka=kafka) as stack:
            client = connect(stack.settings)
            ports = stack.metrics_ports
            with Publisher(stack.settings) as publisher:
                for channel, touchpoint in touchpoints(random.Random(0), 100, "warm"):
                    publisher.publish(channel, touchpoint)
            wait_for(client, 100)
            before = throughput(client, stack.settings, ports, options.events)
            latency(client, stack.settings, before, options.rate, options.seconds)
            client.close()


if __name__ == "__main__":
    main()
