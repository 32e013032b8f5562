"""Prometheus metrics of a worker: declared once, few labels, never an identifier."""

import logging
import time
from collections.abc import Callable, Sequence

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

from touchstream.streams.health import Health
from touchstream.streams.lane import Lane
from touchstream.streams.stage import Outcome
from touchstream.streams.table import Row, Table

log = logging.getLogger(__name__)
SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """Counts what lanes and the writer report."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self.registry.register(collector)
        self._clock = clock
        self._records_in = self._counter("records_in", "Records applied", "agent", "topic")
        self._records_out = self._counter("records_out", "Records appended", "agent")
        self._rows = self._counter("rows", "Rows inserted into ClickHouse", "table")
        self._touchpoints = self._counter("touchpoints", "Touchpoints accepted", "channel")
        self._dead_letters = self._counter("dead_letters", "Records rejected", "agent", "reason")
        self._events = self._counter(
            "agent_events",
            "Identities, links, merges, splits, moves between customers, replays skipped, ...",
            "agent",
            "event",
        )
        self._labelled = {
            "refused": self._counter(
                "refused_links", "Links between identities that were refused", "reason"
            ),
            "alerts": self._counter("alerts", "Records written to cx.alerts", "alert"),
            "junk": self._counter("junk_identifiers", "Identifiers that identify no one", "kind"),
        }
        self._rejected = self._counter("rejected_rows", "Rows ClickHouse refused", "table")
        self._retries = self._counter("insert_retries", "Inserts tried again", "table")
        self._chunk_seconds = self._histogram(
            "chunk_seconds", "From a chunk's computation to its durability", "agent"
        )
        self._insert_seconds = self._histogram("insert_seconds", "Duration of an insert", "table")
        self._repair_seconds = self._histogram(
            "repair_seconds",
            "From the record that made an identity change its customer to its row in ClickHouse",
            "agent",
        )
        self._observed = {
            "component_identities": self._histogram(
                "component_identities",
                "Identities that were decided together",
                "agent",
                buckets=SIZES,
            )
        }
        place = ("agent", "topic", "partition")
        self._lag = self._gauge("lag_records", "Records not applied yet", *place)
        self._held = self._gauge(
            "held", "1 if a partition is not read any more: all of it was rejected", *place
        )
        self._progress = self._gauge(
            "last_progress_timestamp_seconds", "When the last chunk became durable", *place
        )
        self._state_keys = self._gauge("state_keys", "Keys of state", *place)
        self._state_bytes = self._gauge("state_bytes", "Size of state keys and values", *place)

        self._ready = self._gauge("ready", "1 if the worker does its work, 0 if it waits")
        self._age = self._gauge(
            "age_seconds", "How long the oldest thing has waited", "waiting_for"
        )

    def show(self, health: Health) -> None:
        """Show readiness and ages as they are when they are asked for."""
        self._ready.set_function(lambda: float(not health.not_ready()))
        for name, age in health.ages().items():
            self._age.labels(name).set_function(age)

    def chunk_done(self, lane: Lane, outcome: Outcome, records: int, seconds: float) -> None:
        """Count a chunk that became durable."""
        agent, place = lane.stage.name, (lane.stage.name, lane.topic, str(lane.partition))
        self._records_in.labels(agent, lane.topic).inc(records)
        self._records_out.labels(agent).inc(len(outcome.messages))
        self._chunk_seconds.labels(agent).observe(seconds)
        self._progress.labels(*place).set(self._clock())
        for (name, label), number in outcome.counts.items():
            self._count(agent, name, label, number)
        for name, value in outcome.observations:
            self._observed[name].labels(agent).observe(value)
        for caused_at in outcome.caused_at:
            self._repair_seconds.labels(agent).observe(self._clock() - caused_at / 1000)
        if lane.changelog:
            self._state_keys.labels(*place).set(len(lane.changelog.image.values))
            self._state_bytes.labels(*place).set(lane.changelog.image.size_bytes)

    def lag(self, agent: str, topic: str, partition: int, records: int) -> None:
        """Records of a partition that are not applied, as its last fetch saw it."""
        self._lag.labels(agent, topic, str(partition)).set(records)

    def hold(self, agent: str, topic: str, partition: int) -> None:
        """Say that a partition is not read any more."""
        self._held.labels(agent, topic, str(partition)).set(1)

    def forget(self, agent: str, topic: str, partition: int) -> None:
        """Say nothing more of a partition that another worker has now."""
        place = (agent, topic, str(partition))
        gauges = (self._lag, self._progress, self._held, self._state_keys, self._state_bytes)
        for gauge in gauges:
            gauge.remove(*place)

    def inserted(self, table: Table, rows: int, seconds: float) -> None:
        """Count an insert."""
        self._rows.labels(table.name).inc(rows)
        self._insert_seconds.labels(table.name).observe(seconds)

    def retried(self, table: Table, error: Exception) -> None:
        """Count an insert that is tried again."""
        self._retries.labels(table.name).inc()

    def alerted(self, kind: str) -> None:
        """Count an alert that no record caused."""
        self._labelled["alerts"].labels(kind).inc()

    def rejected(self, table: Table, row: Row, error: Exception) -> None:
        """Count a row that ClickHouse refused; the log says why, without the row's values."""
        self._rejected.labels(table.name).inc()
        log.error("row refused: table=%s columns=%d error=%s", table.name, len(row), error)

    def _count(self, agent: str, name: str, label: str, number: int) -> None:
        if name == "touchpoints":
            self._touchpoints.labels(label).inc(number)
        elif name == "dead_letters":
            self._dead_letters.labels(agent, label).inc(number)
        elif name in self._labelled:
            self._labelled[name].labels(label).inc(number)
        else:
            self._events.labels(agent, name).inc(number)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"touchstream_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"touchstream_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        return Histogram(
            f"touchstream_{name}", text, labels, buckets=buckets, registry=self.registry
        )
