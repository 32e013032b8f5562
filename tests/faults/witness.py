"""What is looked at while faults happen: versions that readers see, and what is committed.

    with Witness(settings, clickhouse_url) as witness:
        ...
    witness.check()

A version that a reader has seen never goes backwards. A committed offset is never ahead of what is
stored: a touchpoint below it stands in `cx.identity` or is a dead letter; a record below it has its
marker in the changelog, and the touch that it is stands in `touchpoint_facts`. What is committed is
read first and what is stored afterwards, so a finding is never a matter of timing.
"""

import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaException, TopicPartition
from stacks import records_of

from touchstream.streams.admin import topic_sources
from touchstream.streams.changelog import Image
from touchstream.streams.clickhouse import connect
from touchstream.streams.errors import TouchstreamError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.records import Place, Record
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CUSTOMER, IDENTITY, TOUCHPOINTS, state_topic

SAMPLE_SECONDS = 1.0
ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.1
POSITION = struct.Struct(">QIQ")
STATE_OF = {IDENTITY: state_topic("stitch"), CUSTOMER: state_topic("profile")}
VERSIONED = {
    "identity_states": "identity",
    "customer_states": "customer_id",
    "metric_panes": "dimension, metric, resolution, start, member, shard",
}
"""Tables and their keys."""
FACTS = "SELECT source_partition, source_offset FROM touchpoint_facts"
"""Where the touches stand in `cx.identity`."""


@dataclass
class Stored:
    """What the logs hold, read on from where they were read to before."""

    log: KafkaLog
    sources: dict[int, str]
    """Touchpoint topics by the number that positions have."""
    images: dict[Place, Image]
    touches: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Offsets of touches in `cx.identity`, by partition, without repetitions after a crash."""
    heard: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    """Offsets of touchpoints that stand in `cx.identity`, by topic and partition."""
    _known: set[bytes] = field(default_factory=set)
    _read_to: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def read_state(self, place: Place) -> Image:
        """The image of the changelog of an input partition, as it is now."""
        image, (topic, partition) = self.images[place], place
        for record in records_of(self.log, STATE_OF[topic], partition, image.end):
            image.read(record)
        return image

    def read_touches(self, partition: int) -> None:
        """Read `cx.identity` on to its end."""
        for record in records_of(self.log, IDENTITY, partition, self._read_to[partition]):
            self._read_to[partition] = record.offset + 1
            self._take(record)

    def _take(self, record: Record) -> None:
        if record.value is None or len(record.value) < POSITION.size:
            return
        source, partition, offset = POSITION.unpack_from(record.value)
        if source in self.sources:
            place = record.value[: POSITION.size]
            if place not in self._known:
                self._known.add(place)
                self.touches[record.partition].add(record.offset)
            self.heard[self.sources[source], partition].add(offset)


class Witness(threading.Thread):
    """Looks again and again, from `with` to its end; first at what needs Kafka alone."""

    def __init__(self, settings: Settings, *, repeats: bool = False) -> None:
        """`repeats`: touchpoints are published more than once, so facts have one offset of many."""
        super().__init__(name="witness", daemon=True)
        self.findings: list[str] = []
        self.samples = 0
        self.trouble: Exception | None = None
        """Why it saw nothing the last time it did."""
        self._settings = settings
        self._repeats = repeats
        self._over = threading.Event()
        self._client: Client | None = None
        self._versions: dict[str, dict[int, int]] = {table: {} for table in VERSIONED}

    def check(self) -> None:
        """Look once more at everything; raises AssertionError with all that was ever found."""
        before, deadline = self.samples, time.monotonic() + PATIENCE_SECONDS
        while self.samples < before + 2:  # one may have begun already
            assert time.monotonic() < deadline, f"the witness sees nothing: {self.trouble!r}"
            time.sleep(POLL_SECONDS)
        assert not self.findings, "\n".join(self.findings[:20])

    def __enter__(self) -> "Witness":
        prefix = self._settings.topic_prefix
        sources = topic_sources(self._settings, (*TOUCHPOINTS, IDENTITY, CUSTOMER))
        numbers = range(self._settings.partitions)
        self._stored = Stored(
            KafkaLog(self._settings),
            {sources[topic]: topic for topic in TOUCHPOINTS},
            {(topic, p): Image(sources[topic]) for topic in STATE_OF for p in numbers},
        )
        topics = (*TOUCHPOINTS, *STATE_OF)
        self._places = [TopicPartition(prefix + topic, p) for topic in topics for p in numbers]
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Look no more: from now on the logs begin anew."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until it is over; while a server is away there is nothing to see."""
        group = {"group.id": self._settings.group, "enable.auto.commit": False}
        consumer = Consumer({**kafka_config(self._settings), **group})
        while not self._over.wait(SAMPLE_SECONDS):
            try:
                self._look(consumer)
            except (KafkaException, ClickHouseError, TouchstreamError, OSError) as error:
                self.trouble = error  # a server is away
                continue
            self.samples += 1
        consumer.close()
        if self._client:
            self._client.close()

    def _look(self, consumer: Consumer) -> None:
        committed = self._committed(consumer)
        for (topic, partition), offset in committed.items():
            if topic in STATE_OF:
                applied = self._stored.read_state((topic, partition)).applied
                if applied < offset - 1:
                    self.findings.append(
                        f"{topic}[{partition}]: committed {offset}, marker {applied}"
                    )
        for partition in range(self._settings.partitions):
            self._stored.read_touches(partition)
        client = self._client = self._client or connect(self._settings, dedicated_pool=True)
        self._look_at_versions(client)
        self._look_at_touchpoints(client, committed)
        if not self._repeats:
            self._look_at_facts(client, committed)

    def _look_at_versions(self, client: Client) -> None:
        for table, key in VERSIONED.items():
            sql = f"SELECT cityHash64({key}), version FROM {table} FINAL"
            now: dict[int, int] = dict(rows(client, sql))
            seen = self._versions[table]
            back = [k for k, version in now.items() if version < seen.get(k, 0)]
            if back:
                self.findings.append(
                    f"{table}: {len(back)} versions went backwards, one from {seen[back[0]]} to"
                    f" {now[back[0]]}"
                )
            seen.update(now)

    def _committed(self, consumer: Consumer) -> dict[Place, int]:
        cut = len(self._settings.topic_prefix)
        found = consumer.committed(self._places, timeout=ANSWER_SECONDS)
        return {(each.topic[cut:], each.partition): each.offset for each in found if not each.error}

    def _look_at_touchpoints(self, client: Client, committed: dict[Place, int]) -> None:
        letters = set(rows(client, "SELECT topic, partition, offset FROM dead_letter_records"))
        for (topic, partition), offset in committed.items():
            heard = self._stored.heard[topic, partition]
            if topic in TOUCHPOINTS and offset > 0:
                lost = [n for n in range(offset) if n not in heard]
                self._complain(
                    [n for n in lost if (topic, partition, n) not in letters],
                    f"{topic}[{partition}]: committed {offset}, not in {IDENTITY}",
                )

    def _look_at_facts(self, client: Client, committed: dict[Place, int]) -> None:
        facts = set(rows(client, FACTS))
        for partition, touches in self._stored.touches.items():
            end = committed.get((IDENTITY, partition), 0)
            self._complain(
                [n for n in touches if n < end and (partition, n) not in facts],
                f"{IDENTITY}[{partition}]: committed {end}, no facts of",
            )

    def _complain(self, missing: list[Any], what: str) -> None:
        if missing:
            self.findings.append(f"{what} {len(missing)}: {sorted(missing)[:3]} ...")


def rows(client: Client, sql: str) -> Iterator[Any]:
    """Rows of an answer, as tuples."""
    return (tuple(row) for row in client.query(sql).result_rows)
