"""`make bench`, first part: what each stage costs by itself, in one process without servers.

The stages run over logs in memory, in chunks, on the same mix of touchpoints as the whole stack.
Time is that of deciding: no Kafka, no ClickHouse. State is what profile's changelog would hold.
"""

import gc
import random
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.mix import touchpoints
from touchstream.agents.course import World
from touchstream.agents.identifiers import tokens_of
from touchstream.agents.ingest import Ingest
from touchstream.agents.journey_rules import load_journey
from touchstream.agents.panes import PANE
from touchstream.agents.profile import VIEW, Profile
from touchstream.agents.rules_file import default_rules
from touchstream.agents.stitch import Stitch
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.records import Message, Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Stage, run_chunk
from touchstream.streams.topics import CHANNELS, CUSTOMER, IDENTITY, touchpoint_topic

NUMBER = 40_000
CHUNK_RECORDS = 1_000
CUSTOMERS = 4_000
"""So that an ordinary customer has ten touchpoints."""


Entry = tuple[bytes | None, bytes | None]
"""Key and value of a record."""


class Log:
    """One stage over one partition that it may also append to."""

    def __init__(self, stage: Stage, topic: str, source: int) -> None:
        self.values: dict[bytes, bytes] = {}
        self.seconds = 0.0
        self.rows: Counter[str] = Counter()
        self._stage, self._topic, self._source = stage, topic, source

    def run(self, entries: list[Entry]) -> Iterator[Message]:
        """Process the entries and what the stage sends to itself; yields all that it sends."""
        at, now_ms = 0, int(time.time() * 1000) + 1_000
        while at < len(entries):
            part = entries[at : at + CHUNK_RECORDS]
            records = [Record(self._topic, 0, at + n, now_ms, *each) for n, each in enumerate(part)]
            began = time.perf_counter()
            outcome = run_chunk(
                self._stage, records, self.values, source=self._source, partitions=1
            )
            self.seconds += time.perf_counter() - began
            at += len(part)
            for key, value in outcome.changes.items():
                self.values.pop(key, None)
                if value:
                    self.values[key] = value
            for table, rows in outcome.rows.items():
                self.rows[table.name] += len(rows)
            for message in outcome.messages:
                if message.topic == self._topic:
                    entries.append((message.key, message.value))
                yield message


def main() -> None:
    """Print the figures."""
    settings, catalogue = Settings(), load_catalogue()
    codec = TouchpointCodec(max_payload_bytes=settings.max_payload_bytes)
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)  # as a worker does
    ingest = Ingest(codec, tokens_of(settings), settings)
    logs = {c: Log(ingest, touchpoint_topic(c), n) for n, c in enumerate(CHANNELS)}
    published: dict[str, list[Entry]] = {channel: [] for channel in CHANNELS}
    order = []
    for channel, touchpoint in touchpoints(random.Random(1), NUMBER, "alone", CUSTOMERS):
        published[channel].append((None, codec.encode(channel, touchpoint)))
        order.append(channel)
    taken = {c: iter(_sent(logs[c], entries, IDENTITY)) for c, entries in published.items()}
    touches = [next(taken[channel]) for channel in order]
    stitch = Log(Stitch(default_rules()), IDENTITY, 100)
    events = _sent(stitch, touches, CUSTOMER)
    profile = Log(Profile(catalogue, World(catalogue, load_journey())), CUSTOMER, 101)
    _sent(profile, events, CUSTOMER)
    _print("ingest", sum(log.seconds for log in logs.values()), Counter())
    _print("stitch", stitch.seconds, stitch.rows)
    _print("profile and metrics", profile.seconds, profile.rows)
    sizes = sorted(len(key) + len(value) for key, value in profile.values.items() if _is(VIEW, key))
    panes = [len(key) + len(value) for key, value in profile.values.items() if _is(PANE, key)]
    mean, most = sum(sizes) / len(sizes), sizes[len(sizes) * 95 // 100]
    print(f"state of a customer  {mean:>10,.0f} bytes, 95% below {most:,}; {len(panes):,} panes")


def _sent(log: Log, entries: list[Entry], topic: str) -> list[Entry]:
    return [(sent.key, sent.value) for sent in log.run(entries) if sent.topic == topic]


def _is(mark: bytes, key: bytes) -> bool:
    return key[:1] == mark


def _print(name: str, seconds: float, rows: Counter[str]) -> None:
    number = f", {rows.total() / NUMBER:.1f} rows" if rows else ""
    print(f"{name:<20} {1e6 * seconds / NUMBER:>10,.0f} us/event{number}")


if __name__ == "__main__":
    main()
