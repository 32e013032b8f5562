"""`make bench-identity`: what a new link between identities costs, in memory and on the stack.

In memory: stitch by itself over populations of typical customers, four identities each. A new link
shows a customer with an identifier that nobody has seen, or makes two customers one. What it costs
must not depend on how many other identities there are.

On the stack: two customers, each with a touchpoint that can be queried, become one while other
touchpoints come at a steady rate. Measured is the time from publishing the touchpoint that shows
identifiers of both until the view `touchpoints` shows the older customer for the younger one's old
touchpoint. Then the same as fast as it goes.
"""

import argparse
import random
import resource
import statistics
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from touchstream.agents.identifiers import identity_token
from touchstream.agents.identity_messages import Touch, encode
from touchstream.agents.rules_file import default_rules
from touchstream.agents.stitch import Stitch
from touchstream.streams.clickhouse import connect
from touchstream.streams.effects import Effects
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings, load_settings
from touchstream.streams.stage import run_chunk
from touchstream.streams.topics import IDENTITY

PARTITIONS = 4
CHUNK_RECORDS = 100
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
STITCH, OUTSIDE = 1, 2
LINKS_IN_MEMORY = 1_000
ROUNDS = 5
POPULATIONS = (10_000, 100_000)
LARGEST = 1_000_000

KNOWN = ("crm_id", "email", "phone", "anonymous_id")
GUEST = ("email", "phone", "device_id", "anonymous_id")
BACKGROUND_PEOPLE = 2_000
BACKGROUND_BEFORE = 20_000
POLL_SECONDS = 0.2
REST_SECONDS = 2.0
PATIENCE_SECONDS = 300.0
Identifier = tuple[str, str]
"""Kind and value."""
Touchpoint = tuple[str, dict[str, Any]]
"""Channel and fields."""


class Cost(NamedTuple):
    """Of one new link."""

    cpu_us: float
    messages: float
    message_bytes: float


@dataclass
class Partitions:
    """Stitch over its partitions; a log is forgotten as far as it is processed."""

    stage: Stitch = field(default_factory=lambda: Stitch(default_rules()))
    logs: list[deque[Record]] = field(default_factory=lambda: [deque() for _ in range(PARTITIONS)])
    values: list[dict[bytes, bytes]] = field(
        default_factory=lambda: [{} for _ in range(PARTITIONS)]
    )
    ends: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    touches: int = 0
    messages: int = 0
    message_bytes: int = 0
    links: int = 0

    def see(self, *identifiers: Identifier) -> None:
        """Take a touchpoint, its strongest identifier first."""
        (kind, value), *others = identifiers
        names = [(kind, token(kind, value), False) for kind, value in others]
        at = NOW_MS + self.touches
        common = ("web", f"e{self.touches}", at, at, "seen", None, None, None, None)
        effects = Effects(OUTSIDE, PARTITIONS)
        effects.begin(Record("outside", 0, self.touches, at, None, None))
        touch = Touch(kind, False, names, *common, {}, {}, {})
        effects.send(IDENTITY, token(kind, value), encode(touch))
        for message in effects.messages:
            self._append(message.partition, message.key, message.value)
        self.touches += 1

    def drain(self) -> None:
        """Process everything."""
        while any(self.logs):
            for partition, log in enumerate(self.logs):
                records = [log.popleft() for _ in range(min(CHUNK_RECORDS, len(log)))]
                if records:
                    self._process(partition, records)

    def _process(self, partition: int, records: list[Record]) -> None:
        values = self.values[partition]
        outcome = run_chunk(self.stage, records, values, source=STITCH, partitions=PARTITIONS)
        for message in outcome.messages:
            if message.topic == IDENTITY:
                self.messages += 1
                self.message_bytes += len(message.value or b"")
                self._append(message.partition, message.key, message.value)
        self.links += outcome.counts["links", ""]
        for key, value in outcome.changes.items():
            if value:
                values[key] = value
            else:
                values.pop(key, None)

    def _append(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        offset = self.ends[partition]
        self.logs[partition].append(Record(IDENTITY, partition, offset, NOW_MS, key, value))
        self.ends[partition] += 1

    @property
    def state_bytes(self) -> int:
        """Size of all keys and values."""
        return sum(len(k) + len(v) for values in self.values for k, v in values.items())


def token(kind: str, value: str) -> bytes:
    """Token of an identifier; any hash will do here."""
    return blake2b(f"{kind}\0{value}".encode(), digest_size=16).digest()


def in_memory(identities: int) -> tuple[Cost, Cost]:
    """Costs of a new link in a population: of a new identifier, and of two customers."""
    partitions = Partitions()
    customers = identities // 4
    began = time.process_time()
    for number in range(customers):
        first, *others = GUEST if number % 2 else KNOWN
        for kind in others:
            partitions.see((first, f"{number}"), (kind, f"{number}"))
        if number % CHUNK_RECORDS == 0:
            partitions.drain()
    partitions.drain()
    cpu_us = 1e6 * (time.process_time() - began) / identities
    bytes_each = partitions.state_bytes / identities
    pairs = random.Random(1).sample(range(0, customers - 1, 2), LINKS_IN_MEMORY)
    grown = cost(partitions, [(("crm_id", f"{n}"), ("anonymous_id", f"new {n}")) for n in pairs])
    merged = cost(partitions, [(("crm_id", f"{n}"), ("anonymous_id", f"{n + 1}")) for n in pairs])
    print(
        f"{identities:>9,} identities   {cpu_us:.0f} us/identity to build"
        f"   {bytes_each:.0f} bytes of state each   {memory_mb():,.0f} MB of memory"
    )
    for name, each in (("new identifier", grown), ("two customers", merged)):
        print(
            f"  {name:<18} {each.cpu_us:>7,.0f} us/link   {each.messages:.2f} messages"
            f"   {each.message_bytes:,.0f} bytes of messages"
        )
    return grown, merged


def cost(partitions: Partitions, touches: list[tuple[Identifier, ...]]) -> Cost:
    """Cost of a link, when each touch makes one: CPU of the best round, and means of the rest."""
    before = (partitions.links, partitions.messages, partitions.message_bytes)
    seconds = []
    for number in range(ROUNDS):
        began = time.process_time()
        for touch in touches[number::ROUNDS]:
            partitions.see(*touch)
        partitions.drain()
        seconds.append(time.process_time() - began)
    after = (partitions.links, partitions.messages, partitions.message_bytes)
    links, messages, size = (b - a for a, b in zip(before, after, strict=True))
    assert links == len(touches)
    return Cost(1e6 * min(seconds) * ROUNDS / links, messages / links, size / links)


def memory_mb() -> float:
    """Most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare_populations(populations: Iterable[int]) -> None:
    """Print costs and how they grow."""
    sizes = list(populations)
    costs = [in_memory(identities) for identities in sizes]
    for name, first, last in zip(
        ("new identifier", "two customers"), *costs[:: len(costs) - 1], strict=True
    ):
        ratios = [b / a for a, b in zip(first, last, strict=True)]
        print(
            f"{sizes[-1]:,} : {sizes[0]:,}   {name}: CPU {ratios[0]:.2f}"
            f"   messages {ratios[1]:.2f}   bytes {ratios[2]:.2f}"
        )


class Pair(NamedTuple):
    """Two customers; the first is the older one."""

    name: str

    def before(self) -> list[Touchpoint]:
        """Touchpoints of each by itself; the older one is named after its CRM id."""
        return [
            ("purchase", self._seen("ordered", 3, self._crm)),
            ("purchase", self._seen("again", 2, self._crm, self._email)),
            ("web", self._seen("young", 1, self._cookie)),
        ]

    def link(self) -> Touchpoint:
        """The touchpoint that shows that both are one."""
        return "web", self._seen("link", 0, self._crm, self._cookie)

    def young_identity(self, settings: Settings) -> str:
        """Token under which the younger one's touchpoint is filed."""
        return identity_token("anonymous_id", self._cookie["value"], settings)

    def older_customer(self, settings: Settings) -> str:
        """Customer that both will be."""
        return "c" + identity_token("crm_id", self._crm["value"], settings)

    def _seen(self, what: str, days_ago: int, *identifiers: dict[str, Any]) -> dict[str, Any]:
        return {
            "event_id": f"{what} {self.name}",
            "occurred_at": int(time.time() * 1000) - days_ago * DAY_MS,
            "action": {"young": "page_viewed", "link": "logged_in"}.get(what, "placed"),
            "identifiers": list(identifiers),
        }

    @property
    def _crm(self) -> dict[str, Any]:
        return {"kind": "crm_id", "value": f"crm {self.name}"}

    @property
    def _email(self) -> dict[str, Any]:
        return {"kind": "email", "value": f"{self.name}@example.com"}

    @property
    def _cookie(self) -> dict[str, Any]:
        return {"kind": "anonymous_id", "value": f"cookie {self.name}"}


def background(seed: int) -> Iterator[Touchpoint]:
    """Touchpoints of other customers without end."""
    rng = random.Random(seed)
    for number in count():
        pair = Pair(f"background.{rng.randrange(BACKGROUND_PEOPLE)}")
        order, again, visit = pair.before()
        weights = (15, 15, 60, 10)
        channel, touchpoint = rng.choices((order, again, visit, pair.link()), weights)[0]
        yield channel, {**touchpoint, "event_id": f"{seed} {number}"}


@dataclass
class Watch:
    """Links that were published, and when the view `touchpoints` showed each."""

    client: Client
    settings: Settings
    waiting: dict[str, str] = field(default_factory=dict)
    """Identity of the younger customer -> the older customer."""
    sent: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def add(self, pair: Pair) -> None:
        """A pair that is linked now."""
        identity = pair.young_identity(self.settings)
        self.waiting[identity] = pair.older_customer(self.settings)
        self.sent[identity] = time.time()

    def look(self) -> None:
        """Ask for all that are waiting, at once."""
        if not self.waiting:
            return
        sql = (
            "SELECT identity, customer_id FROM touchpoints"
            " WHERE identity IN {some:Array(String)} AND startsWith(event_id, 'young ')"
        )
        rows = self.client.query(sql, parameters={"some": list(self.waiting)}).result_rows
        now = time.time()
        for identity, customer in rows:
            if customer == self.waiting[identity]:
                self.seen[identity] = now
                del self.waiting[identity]

    def report(self) -> None:
        """Print percentiles: of the whole, and of its parts."""
        sql = (
            "SELECT identity, toUnixTimestamp64Milli(caused_at), toUnixTimestamp64Milli(changed_at)"
            " FROM identity_changes WHERE identity IN {some:Array(String)}"
        )
        rows = self.client.query(sql, parameters={"some": list(self.seen)}).result_rows
        times = {
            each: (caused_ms / 1000, changed_ms / 1000) for each, caused_ms, changed_ms in rows
        }
        moments = [(self.sent[each], *times[each], self.seen[each]) for each in self.seen]
        parts = {
            "publishing to the view": [seen - sent for sent, _, _, seen in moments],
            "  publishing and ingest": [caused - sent for sent, caused, _, _ in moments],
            "  between identities": [changed - caused for _, caused, changed, _ in moments],
            "  its chunk, its row, the query": [seen - changed for *_, changed, seen in moments],
        }
        for name, waits in parts.items():
            p95 = sorted(waits)[int(0.95 * len(waits))]
            print(f"  {name:<34} p50 {statistics.median(waits):.2f} s   p95 {p95:.2f} s")


class Bench:
    """The stack, and what is asked of it."""

    def __init__(self, stack: LocalStack, client: Client, publisher: Publisher) -> None:
        self._settings = stack.settings
        self._ports = stack.metrics_ports
        self._client = client
        self._publisher = publisher

    def prepare(self, touchpoints: Iterable[Touchpoint]) -> None:
        """Publish, and wait until all can be queried and nothing is left to do."""
        number = self._number("SELECT count() FROM touchpoints")
        for channel, touchpoint in touchpoints:
            self._publisher.publish(channel, touchpoint)
            number += 1
        self._publisher.flush()
        self._wait("SELECT count() FROM touchpoints", number)
        self._figures_at_rest()

    def latency(self, pairs: list[Pair], rate: int, seconds: int) -> None:
        """Link pairs, evenly among a background, and watch them."""
        watch = Watch(self._client, self._settings)
        todo = iter(pairs)
        every = rate * seconds // len(pairs)
        began = poll = time.monotonic()
        for number, (channel, touchpoint) in enumerate(islice(background(2), rate * seconds)):
            due = began + number / rate
            while (now := time.monotonic()) < due:
                if now >= poll:
                    poll = now + POLL_SECONDS
                    watch.look()
                else:
                    time.sleep(min(due, poll) - now)
            self._publisher.publish(channel, touchpoint)
            if number % every == 0 and (pair := next(todo, None)):
                watch.add(pair)
                self._publisher.publish(*pair.link())
        self._publisher.flush()
        while watch.waiting:
            if time.monotonic() > began + seconds + PATIENCE_SECONDS:
                raise SystemExit(f"{len(watch.waiting)} of {len(pairs)} links were not seen")
            watch.look()
            time.sleep(POLL_SECONDS)
        print(f"{len(watch.seen)} links that make two customers one, among {rate:,} events/s")
        watch.report()

    def throughput(self, pairs: list[Pair]) -> None:
        """Link pairs as fast as it goes; print links per second, messages and CPU per link."""
        moved = (
            "SELECT countIf(customer_id != customer_id_then) FROM touchpoints"
            " WHERE startsWith(event_id, 'young fast.')"
        )
        before, began = self._figures_at_rest(), time.monotonic()
        for pair in pairs:
            self._publisher.publish(*pair.link())
        self._publisher.flush()
        self._wait(moved, len(pairs))
        seconds = time.monotonic() - began
        after = self._figures_at_rest()
        links, messages, moves, cpu = (b - a for a, b in zip(before, after, strict=True))
        print(
            f"{len(pairs):,} such links at full speed: {links / seconds:,.0f} links/s"
            f"   {messages / links:.2f} messages/link   {moves / links:.2f} moves/link"
            f"   {1e6 * cpu / links:,.0f} us of worker CPU/link"
        )

    def _figures_at_rest(self) -> list[float]:
        """Figures once they do not grow any more."""
        before: list[float] = []
        while (figures := self._figures())[:-1] != before[:-1]:
            before = figures
            time.sleep(REST_SECONDS)
        return figures

    def _figures(self) -> list[float]:
        """New links, messages between identities, moves, and CPU seconds, of all workers."""
        event = 'touchstream_agent_events_total{agent="stitch",event="%s"}'
        names = [event % name for name in ("links", "graph_messages", "moves")]
        figures = dict.fromkeys([*names, "process_cpu_seconds_total"], 0.0)
        for port in self._ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                for line in answer.read().decode().splitlines():
                    name, _, value = line.rpartition(" ")
                    if name in figures:
                        figures[name] += float(value)
        return list(figures.values())

    def _number(self, sql: str) -> int:
        return int(self._client.query(sql).result_rows[0][0])

    def _wait(self, sql: str, number: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (seen := self._number(sql)) < number:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {seen} of {number} became queryable")
            time.sleep(POLL_SECONDS)


def on_the_stack(options: argparse.Namespace) -> None:
    """Measure links on the embedded stack."""
    steady = [Pair(f"steady.{n}") for n in range(options.links)]
    fast = [Pair(f"fast.{n}") for n in range(options.fast_links)]
    with tempfile.TemporaryDirectory(prefix="touchstream-bench-") as folder:
        local = LocalOptions(Path(folder), options.workers, 0, 0, 0)
        with LocalStack(load_settings(), local) as stack, Publisher(stack.settings) as publisher:
            client = connect(stack.settings)
            bench = Bench(stack, client, publisher)
            bench.prepare(islice(background(1), BACKGROUND_BEFORE))
            bench.prepare(each for pair in (*steady, *fast) for each in pair.before())
            bench.latency(steady, options.rate, options.seconds)
            bench.throughput(fast)
            client.close()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("memory", "stack"))
    parser.add_argument("--largest", action="store_true", help=f"up to {LARGEST:,} identities")
    parser.add_argument("--links", type=int, default=300)
    parser.add_argument("--fast-links", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    if options.only != "stack":
        compare_populations((*POPULATIONS, LARGEST) if options.largest else POPULATIONS)
    if options.only != "memory":
        on_the_stack(options)


if __name__ == "__main__":
    main()
