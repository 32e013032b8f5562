"""Run the demo: start the local stack, publish everything, check every total, print the report.

    run_demo(keep=False, directory=Path(".touchstream"), workers=2, console=Console())

Returns 0 only if all totals in ClickHouse are right.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from rich.console import Console

from touchstream.streams.clickhouse import connect
from touchstream.streams.demo import cdnow, journeys
from touchstream.streams.demo.checks import settled_checks
from touchstream.streams.demo.diary import Occurrence
from touchstream.streams.demo.expected import Expected
from touchstream.streams.demo.findings import Findings, Speed, find
from touchstream.streams.demo.guide import how_to_query, what_next
from touchstream.streams.demo.live import trickle
from touchstream.streams.demo.loading import Probe, Publishing, publish_all
from touchstream.streams.demo.progress import Patience, wait_for
from touchstream.streams.demo.report import print_report
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings, load_settings


@dataclass(frozen=True)
class Plan:
    """How much is published, and how."""

    seed: int = 1997
    people: int = journeys.PEOPLE
    """CDNOW customers with a journey."""
    visitors: int = journeys.VISITORS
    """People who never say who they are."""
    probe_share: float = 0.02
    """Part of the touchpoints that is published steadily, to measure the latency."""
    probe_per_second: float = 500.0
    live_per_second: float = 5.0


class Story(NamedTuple):
    """All touchpoints in event time order, and how many they are."""

    occurrences: Iterator[Occurrence]
    length: int


def tell(plan: Plan) -> Story:
    """The purchases and the journeys around them; the same for the same plan."""
    purchases = sorted(cdnow.purchases(), key=lambda purchase: purchase.occurred_at)
    around = journeys.journeys(
        Random(plan.seed), purchases, people=plan.people, visitors=plan.visitors
    )
    in_order = merge(
        map(cdnow.occurrence, purchases), around, key=lambda occurrence: occurrence.occurred_at
    )
    return Story(in_order, len(purchases) + len(around))


def run_demo(
    *, keep: bool, directory: Path, workers: int, console: Console, plan: Plan | None = None
) -> int:
    """Run everything; 0 if all totals are right, else 1. With `keep`, stays until Ctrl-C."""
    plan = plan or Plan()
    options = local_options(directory, workers, keep)
    console.print("Starting broker, ClickHouse and workers ...")
    with LocalStack(demo_settings(), options) as stack, Publisher(stack.settings) as publisher:
        demo = Demo(publisher, connect(stack.settings), Patience(stack.wait), console, plan)
        findings = demo.load_and_check(workers)
        print_report(console, findings)
        if keep:
            how_to_query(console, stack.settings)
            stay(publisher, stack.wait, plan)
            console.print("Stopping ...")
        else:
            what_next(console)
    return 0 if all(check.ok for check in findings.checks) else 1


def local_options(directory: Path, workers: int, keep: bool) -> LocalOptions:
    """Free ports; to stay up, the ports that the other commands look at."""
    if keep:
        return LocalOptions(directory, workers)
    return LocalOptions(directory, workers, kafka_port=0, clickhouse_port=0, metrics_port=0)


def demo_settings() -> Settings:
    """Settings of the environment, except what would change the demo's totals."""
    return load_settings(horizon_past_days=36_525, default_region="US")


@dataclass
class Demo:
    """A demo on a running stack."""

    publisher: Publishing
    client: Any
    patience: Patience
    console: Console
    plan: Plan

    def load_and_check(self, workers: int) -> Findings:
        """Publish everything and wait for it; what is in ClickHouse then, checked."""
        story = tell(self.plan)
        steady = int(story.length * self.plan.probe_share)
        expected = Expected()
        seconds = self._load(expected, story, story.length - steady)
        loaded = expected.touchpoints
        latencies = self._probe(expected, [*story.occurrences])
        self.console.print("Checking every total ...")
        checks = settled_checks(self.client, expected, self.patience)
        speed = Speed(loaded, seconds, workers, self.plan.probe_per_second, latencies)
        return find(self.client, expected.example(), checks, speed)

    def _load(self, expected: Expected, story: Story, number: int) -> float:
        """Publish so many at full speed; seconds until they are stitched and queryable."""
        self.console.print(f"Publishing {number:,} touchpoints as fast as they are taken ...")
        began = self.patience.clock()
        publish_all(self.publisher, expected.watch(islice(story.occurrences, number)))
        published = self.patience.clock() - began
        self.console.print(f"Published in {published:.1f} s, waiting until all can be queried ...")
        return wait_for(self.client, expected.progress(), self.patience) - began

    def _probe(self, expected: Expected, rest: list[Occurrence]) -> list[float]:
        """Publish the rest steadily; the latency of each."""
        if not rest:
            return []
        rate = self.plan.probe_per_second
        self.console.print(f"Publishing {len(rest):,} more at {rate:g}/s to see the latency ...")
        for occurrence in rest:
            expected.add(occurrence)
        probe = Probe(self.publisher, self.client, self.patience, rate)
        latencies = probe.run(rest)
        wait_for(self.client, expected.progress(), self.patience)
        return latencies


def stay(publisher: Publishing, wait: Callable[[float], None], plan: Plan) -> None:
    """Publish touchpoints of now until Ctrl-C; `wait` raises when a server fails."""
    try:
        for occurrence in trickle(Random(plan.seed), time.time):
            publisher.publish(occurrence.channel, occurrence.touchpoint)
            wait(1 / plan.live_per_second)
    except KeyboardInterrupt:
        return
