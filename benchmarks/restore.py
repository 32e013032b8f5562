"""`make bench-restore`: what a worker needs from its start to its results, with much state.

The state is that of real touchpoints, copied under other keys until there are as many as asked for,
and appended to the changelogs as a lane appends it. Then one worker starts, finds touchpoints in
every partition, and has to restore each before it can go on with it. What counts is the time from
the start of the process until the view `customers` counts the first of them, and all.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from clickhouse_connect.driver.client import Client

from benchmarks.mix import touchpoints
from touchstream.streams.admin import topic_sources
from touchstream.streams.changelog import Changelog
from touchstream.streams.clickhouse import connect
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.local.ports import choose_ports
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CUSTOMER, IDENTITY, state_topic

AGENTS = {"stitch": IDENTITY, "profile": CUSTOMER}
TOKEN_BYTES = 16
BATCH_STATE_BYTES = 2 << 20
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 300.0
TOTAL = "SELECT toUInt64(sum(touchpoints)) FROM customers"


def customers(client: Client) -> int:
    """Touchpoints that the view of customers counts."""
    return int(client.query(TOTAL).result_rows[0][0])


def wait_for(client: Client, number: int) -> None:
    """Wait until so many touchpoints are counted."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while customers(client) < number:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {customers(client)} of {number} were counted")
        time.sleep(POLL_SECONDS)


async def multiply(settings: Settings, agent: str, keys: int) -> tuple[int, int]:
    """Copy the state of an agent until it has so many keys; returns keys and bytes."""
    sources, log = topic_sources(settings, AGENTS.values()), KafkaLog(settings)
    number = size = 0
    for partition in range(settings.partitions):
        changelog = Changelog(log, state_topic(agent), partition, sources[AGENTS[agent]])
        await changelog.take()
        image = changelog.image
        real = dict(image.values)
        for batch in batches(copies(real, keys // settings.partitions - len(real))):
            await changelog.append(batch, image.applied)
        number, size = number + len(image.values), size + image.size_bytes
    await log.close()
    return number, size


def copies(real: Mapping[bytes, bytes], number: int) -> Iterator[tuple[bytes, bytes]]:
    """Real values under keys of the same length that nobody uses."""
    for copy in range(-(-number // len(real))):
        for key, value in islice(real.items(), number - copy * len(real)):
            end = blake2b(b"%d" % copy + key, digest_size=min(TOKEN_BYTES, len(key))).digest()
            yield key[: len(key) - len(end)] + end, value


def batches(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[dict[bytes, bytes]]:
    """Entries in batches of about `BATCH_STATE_BYTES`."""
    batch: dict[bytes, bytes] = {}
    size = 0
    for key, value in entries:
        batch[key] = value
        size += len(key) + len(value)
        if size > BATCH_STATE_BYTES:
            yield batch
            batch, size = {}, 0
    yield batch


def main() -> None:
    """Build, restart, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, help="of both agents together")
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="touchstream-restore-") as folder:
        local = LocalOptions(Path(folder), 1, 0, 0, 0)
        with LocalStack(Settings(), local) as stack, connect(stack.settings) as client:
            with Publisher(stack.settings) as publisher:
                for channel, touchpoint in touchpoints(random.Random(0), options.events, "real"):
                    publisher.publish(channel, touchpoint)
            wait_for(client, options.events)
            stack.workers.stop()
            for agent in AGENTS:
                began = time.monotonic()
                done = asyncio.run(multiply(stack.settings, agent, options.keys // len(AGENTS)))
                seconds = time.monotonic() - began
                print(f"{agent}: {done[0]:,} keys, {done[1] >> 20:,} MiB, in {seconds:.0f} s")
            with Publisher(stack.settings) as publisher:
                for channel, touchpoint in touchpoints(random.Random(1), 200, "after"):
                    publisher.publish(channel, touchpoint)
            stack.metrics_ports = choose_ports([(0, "")])
            began = time.monotonic()
            stack.start_workers()
            wait_for(client, options.events + 1)
            first = time.monotonic() - began
            wait_for(client, options.events + 200)
            last = time.monotonic() - began
            print(f"from the start of the process: first result {first:.1f} s, all {last:.1f} s")


if __name__ == "__main__":
    main()
