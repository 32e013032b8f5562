"""The identity protocol by itself: stitch over partitions in memory, in random order.

Each partition is a log. A schedule picks partitions, chunk lengths, and chunks that are computed
and sent again after a crash before their state was kept.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

from touchstream.agents.component import decode_component
from touchstream.agents.customer_messages import CustomerMessage, decode_customer
from touchstream.agents.evidence import Mark, Vertex, decode_vertex
from touchstream.agents.identity_messages import (
    IdentityMessage,
    Marked,
    Ruled,
    Said,
    Touch,
    decode_identity,
    encode,
)
from touchstream.agents.resolution import Token, Word
from touchstream.agents.rules import Rules
from touchstream.agents.stitch import Stitch
from touchstream.agents.turn import COMPONENT, VERTEX
from touchstream.streams.alerts import Alert, decode_alert
from touchstream.streams.effects import Effects
from touchstream.streams.positions import POSITION_BYTES
from touchstream.streams.records import Record
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import IDENTITIES, REFUSED
from touchstream.streams.topics import ALERTS, CUSTOMER, IDENTITY

NOW_MS = 1_700_000_000_000
SOURCE = 1
OUTSIDE = 2
CAUSE_BYTES = POSITION_BYTES - 4
FORGOTTEN = Record(IDENTITY, 0, 0, 0, None, None)
"""Stands for a record that was processed."""


@dataclass
class Seen:
    """What one touchpoint carried: kind, token and verification, the strongest first."""

    identities: list[tuple[str, Token, bool]]
    channel: str
    event_id: str
    time: int

    def message(self) -> bytes:
        (kind, _, verified), *others = self.identities
        names = [(kind, token, verified) for kind, token, verified in others]
        common = (self.channel, self.event_id, self.time, NOW_MS, "seen", None, None, None, None)
        return encode(Touch(kind, verified, names, *common, {}, {}, {}))


@dataclass
class Graph:
    """All partitions of stitch."""

    rules: Rules
    partitions: int
    rng: random.Random
    crash_rate: float = 0.0
    chunk_records: tuple[int, ...] = (1, 2, 5, 50)
    """A chunk has as many records as one of these."""
    logs: list[list[Record]] = field(default_factory=list)
    values: list[dict[bytes, bytes]] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rows: dict[Table, list[Row]] = field(default_factory=dict)
    alerts: int = 0
    message_bytes: int = 0
    largest_outcome: int = 0
    largest_message: int = 0
    largest_answer: int = 0
    """Most messages, to identities and customers, that one record caused."""
    outcome: Outcome | None = None
    """Of the last chunk."""

    def __post_init__(self) -> None:
        self.logs = [[] for _ in range(self.partitions)]
        self.values = [{} for _ in range(self.partitions)]
        self.applied = [0] * self.partitions
        self._stage = Stitch(self.rules)
        self._said = 0

    def see(self, seen: Seen) -> None:
        self.tell(seen.identities[0][1], seen.message())

    def say(self, one: Token, other: Token, word: Word) -> None:
        self.tell(one, encode(Said(other, word)))

    def mark(self, identity: Token, mark: Mark) -> None:
        self.tell(identity, encode(Marked(mark)))

    def rule(self, number: int, rules: Rules) -> None:
        effects = self._outside()
        message = Ruled(number, rules, "op", NOW_MS, "")
        effects.broadcast(IDENTITY, bytes(16), encode(message))
        self._append(effects)

    def tell(self, identity: Token, body: bytes) -> None:
        effects = self._outside()
        effects.send(IDENTITY, identity, body)
        self._append(effects)

    def _outside(self) -> Effects:
        effects = Effects(OUTSIDE, self.partitions)
        effects.begin(Record("outside", 0, self._said, NOW_MS, None, None))
        self._said += 1
        return effects

    def _append(self, effects: Effects) -> None:
        for message in effects.messages:
            self._keep(message.partition, message.key, message.value)

    def _keep(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        log = self.logs[partition]
        log.append(Record(IDENTITY, partition, len(log), NOW_MS, key, value))

    def drain(self, most: int = 10_000_000) -> None:
        """Process everything; fails when that takes more than `most` records.

        Some partitions are left behind for a while, so that what they send overtakes or is late.
        """
        behind: set[int] = set()
        while pending := [p for p in range(self.partitions) if self._pending(p)]:
            if self.rng.random() < 0.05:
                behind = {p for p in range(self.partitions) if self.rng.random() < 0.5}
            ahead = [p for p in pending if p not in behind]
            self.step(self.rng.choice(ahead or pending))
            assert sum(self.applied) <= most, "it does not come to rest"

    def _pending(self, partition: int) -> bool:
        return self.applied[partition] < len(self.logs[partition])

    def step(self, partition: int) -> None:
        start = self.applied[partition]
        end = start + self.rng.choice(self.chunk_records)
        records = self.logs[partition][start:end]
        if not records:
            return
        self.outcome = outcome = run_chunk(
            self._stage,
            records,
            self.values[partition],
            source=SOURCE,
            partitions=self.partitions,
        )
        answers: Counter[bytes] = Counter()
        for topic, place, key, value, _ in outcome.messages:
            self.alerts += topic == "cx.alerts"
            if topic in (IDENTITY, CUSTOMER) and value:
                answers[value[:CAUSE_BYTES]] += 1
            if topic == IDENTITY:
                size = len(value or b"")
                self.message_bytes += size
                self.largest_message = max(self.largest_message, size)
                self._keep(place, key, value)
        for table, rows in outcome.rows.items():
            self.rows.setdefault(table, []).extend(rows)
        if self.rng.random() < self.crash_rate:
            return
        self.largest_outcome = max(self.largest_outcome, len(outcome.messages))
        self.largest_answer = max(self.largest_answer, *answers.values(), 0)
        for (name, label), number in outcome.counts.items():
            self.counts[f"{name} {label}".strip()] += number
        for key, value in outcome.changes.items():
            self.values[partition].pop(key, None)
            if value:
                self.values[partition][key] = value
        self.applied[partition] += len(records)
        self.logs[partition][start : start + len(records)] = [FORGOTTEN] * len(records)

    @property
    def vertices(self) -> dict[Token, Vertex]:
        return {
            key[1:]: decode_vertex(value)
            for values in self.values
            for key, value in values.items()
            if key.startswith(VERTEX)
        }

    def largest_component(self) -> int:
        """Most identities that one root decides on."""
        components = (
            decode_component(value)
            for values in self.values
            for key, value in values.items()
            if key.startswith(COMPONENT)
        )
        return max((len(component.seats) for component in components), default=1)

    def customers(self) -> dict[Token, Token]:
        """Of the identities that were seen."""
        return {
            token: vertex.customer or b""
            for token, vertex in self.vertices.items()
            if vertex.first_seen is not None
        }

    def written(self) -> dict[str, str]:
        """Customers as they stand in ClickHouse."""
        latest: dict[str, tuple[int, str]] = {}
        for row in self.rows.get(IDENTITIES, []):
            identity, customer, version = row[0], row[2], row[5]
            latest[identity] = max(latest.get(identity, (0, "")), (version, customer))
        return {identity: customer for identity, (_, customer) in latest.items()}

    def refused(self) -> dict[tuple[str, str], str]:
        """Refused links as they stand in ClickHouse: pair -> reason."""
        latest: dict[tuple[str, str], tuple[int, int, str]] = {}
        for row in self.rows.get(REFUSED, []):
            pair = (row[0], row[1])
            entry = (row[6], row[7], row[3])
            latest[pair] = max(latest.get(pair, entry), entry)
        found = {}
        for (one, other), (_, deleted, reason) in latest.items():
            if not deleted:
                found[min(one, other), max(one, other)] = reason
        return found

    @property
    def state_bytes(self) -> int:
        return sum(len(k) + len(v) for values in self.values for k, v in values.items())


def token_of(name: str) -> Token:
    """Identity of a letter; identities sort as their letters do."""
    return name.encode() * 16


def name_of(token: Token) -> str:
    """Letter of an identity; `*` of a whole partition."""
    return token[:1].decode() if any(token) else "*"


def touch_of(text: str, time: int = 1, event_id: str = "e", channel: str = "web") -> Seen:
    """A touchpoint, said as `b:email a:phone?`: letter and kind; `?` is not verified."""
    identities = []
    for word in text.split():
        name, _, kind = word.removesuffix("?").partition(":")
        identities.append((kind, token_of(name), not word.endswith("?")))
    return Seen(identities, channel, event_id, time)


def to_identities(outcome: Outcome) -> list[tuple[Token, IdentityMessage]]:
    """Messages of a chunk to identities, with their receivers."""
    return [
        (message.key or b"", decode_identity((message.value or b"")[POSITION_BYTES:]))
        for message in outcome.messages
        if message.topic == IDENTITY
    ]


def to_customers(outcome: Outcome) -> list[tuple[Token, CustomerMessage]]:
    """Messages of a chunk to customers, with their receivers."""
    return [
        (message.key or b"", decode_customer((message.value or b"")[POSITION_BYTES:]))
        for message in outcome.messages
        if message.topic == CUSTOMER
    ]


def alerts_of(outcome: Outcome) -> list[Alert]:
    return [decode_alert(m.value) for m in outcome.messages if m.topic == ALERTS]


def turn(graph: Graph) -> Outcome:
    """Process one record of the only partition."""
    assert (graph.partitions, graph.chunk_records) == (1, (1,))
    graph.step(0)
    assert graph.outcome is not None
    return graph.outcome


def conversation(graph: Graph) -> list[str]:
    """What identities (of one letter) say to each other until all is said: `Touch b: Link a`."""
    said = []
    while graph.applied[0] < len(graph.logs[0]):
        record = graph.logs[0][graph.applied[0]]
        heard = decode_identity((record.value or b"")[POSITION_BYTES:])
        answers = [
            f"{type(each).__name__} {name_of(key)}" for key, each in to_identities(turn(graph))
        ]
        receiver = name_of(record.key or b"")
        said.append(f"{type(heard).__name__} {receiver}: {', '.join(answers)}".strip())
    return said
