"""Pushing rolling values: what `metrics_at` says now, stored every few seconds and shown as gauges.

One worker of a group does it. Nothing depends on what is pushed: it follows from the panes, so a
push that fails is made up for by the next one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from touchstream.streams.clickhouse import Failure, connect, failure_of
from touchstream.streams.settings import Settings

log = logging.getLogger(__name__)
LEAST_REST = 10
"""A push takes at most one part in this many of the time."""
LONGEST_REST_SECONDS = 60.0
"""After failures."""
TIMEOUT_SECONDS = 60
STOP_SECONDS = 5.0
COLUMNS = "metric, window, dimension, member, as_of, n, numerator, denominator, value, low, high"
ONE_BLOCK = {"max_insert_threads": 1, "min_insert_block_size_rows": 100_000_000}
ONE_BLOCK |= {"min_insert_block_size_bytes": 1 << 30, "max_execution_time": TIMEOUT_SECONDS}
"""So that readers see a push whole or not at all."""


@dataclass(frozen=True)
class Pushed:
    """A value that is shown."""

    metric: str
    window: str
    dimension: str
    member: str
    n: int
    value: float | None


class PushedGauges(Collector):
    """The values of the latest push as Prometheus gauges; none when this worker does not push."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shown: tuple[list[Pushed], datetime, float] | None = None
        registry.register(self)

    def show(self, values: list[Pushed], as_of: datetime, seconds: float) -> None:
        """Show these instead of those before; the push took `seconds`."""
        self._shown = values, as_of, seconds

    def clear(self) -> None:
        """Show nothing: another worker pushes."""
        self._shown = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the gauges."""
        return self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the gauges."""
        families = self._families()
        if self._shown is not None:
            values, as_of, seconds = self._shown
            for each in values:
                labels = [each.metric, each.window, each.dimension, each.member]
                families[1].add_metric(labels, each.n)
                if each.value is not None:
                    families[0].add_metric(labels, each.value)
            families[2].add_metric([], seconds)
            families[3].add_metric([], as_of.timestamp())
        yield from families

    @staticmethod
    def _families() -> list[GaugeMetricFamily]:
        place = ("metric", "window", "dimension", "member")
        named: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("metric_value", "Metric of the catalogue; absent when it has no value", place),
            ("metric_n", "Measurements that a metric's value rests on", place),
            ("metric_push_seconds", "Duration of the latest push of rolling metrics", ()),
            ("metric_push_timestamp_seconds", "The moment that the latest push is of", ()),
        )
        return [
            GaugeMetricFamily(f"touchstream_{name}", text, labels=labels)
            for name, text, labels in named
        ]


class MetricPush:
    """Stores the rolling values of a moment; used by one thread at a time."""

    def __init__(self, settings: Settings, connect: Callable[..., Client] = connect) -> None:
        self._settings = settings
        self._connect = connect
        self._client: Client | None = None

    def push(self, as_of: datetime) -> list[Pushed]:
        """Store the values of a moment, and return those of everybody and of the channels."""
        if self._client is None:
            self._client = self._connect(
                self._settings, send_receive_timeout=TIMEOUT_SECONDS, dedicated_pool=True
            )
        moment = as_of.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        self._client.command(
            f"INSERT INTO rolling_metrics ({COLUMNS}) SELECT {COLUMNS}"
            f" FROM metrics_at(as_of = '{moment}')",
            settings=ONE_BLOCK,
        )
        shown = self._client.query(
            "SELECT metric, window, dimension, member, n, value FROM rolling_metrics FINAL"
            f" WHERE as_of = '{moment}' AND dimension IN ('all', 'channel')"
        )
        return [Pushed(*row) for row in shown.result_rows]

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()


class MetricPusher:
    """Pushes every `push_seconds`, or less often when that takes long."""

    def __init__(
        self,
        settings: Settings,
        gauges: PushedGauges,
        *,
        push: MetricPush | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._seconds = settings.push_seconds
        self._gauges = gauges
        self._push = push or MetricPush(settings)
        self._sleep = sleep
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metric-push")
        self._due = clock()
        """When the next push may begin."""

    async def run(self) -> None:
        """Push until cancelled; with 0 for `push_seconds` never."""
        failures = 0
        try:
            while self._seconds:
                await self._sleep(max(0.0, self._due - self._clock()))
                started = self._clock()
                failures = 0 if await self._push_once() else failures + 1
                self._due = started + self._rest(self._clock() - started, failures)
        finally:
            self._gauges.clear()

    async def close(self) -> None:
        """Close the connection; a push that is under way has a few seconds to end."""
        loop = asyncio.get_running_loop()
        closed = loop.run_in_executor(self._thread, self._push.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait([closed], timeout=STOP_SECONDS)

    def _rest(self, took: float, failures: int) -> float:
        """Seconds from the beginning of one push to that of the next."""
        longer = min(LONGEST_REST_SECONDS, self._seconds * 2 ** min(failures, 9))
        return max(self._seconds, LEAST_REST * took, longer if failures else 0.0)

    async def _push_once(self) -> bool:
        loop, started, as_of = asyncio.get_running_loop(), self._clock(), datetime.now(UTC)
        try:
            values = await loop.run_in_executor(self._thread, self._push.push, as_of)
        except Exception as error:  # the edge: values follow from panes, so nothing is lost
            if failure_of(error) is Failure.TRANSIENT:
                log.warning("rolling metrics not pushed, tried again soon: %s", error)
            else:
                log.error("rolling metrics not pushed: %s", error)
            return False
        self._gauges.show(values, as_of, self._clock() - started)
        return True
