"""Logs of every stage, with all that happens in them: links, merges, splits, words, rules, poison.

`recorded` runs the pipeline once; `replay` runs one stage over one partition of what it left, cut
into chunks as given, and returns everything that leaves a stage.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import oracle
from pipeline import Pipeline, Unobserved

from touchstream.agents.activity import decode_customer_state
from touchstream.agents.component import decode_component
from touchstream.agents.evidence import decode_vertex
from touchstream.agents.identity_messages import decode_identity
from touchstream.agents.operations import Operation, SetMark, SetRules, SetWord
from touchstream.agents.panes import MEMBERS, PANE, decode_pane
from touchstream.agents.profile import VIEW
from touchstream.agents.rules import Rules
from touchstream.agents.turn import COMPONENT, RULING, VERTEX, decode_ruling
from touchstream.streams.changelog import Changelog
from touchstream.streams.customer_tables import (
    ALERTS,
    CUSTOMERS,
    ISSUES,
    PANES,
    PATHS,
    SESSIONS,
    VISITS,
)
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.memory_log import MemoryLog, MemorySink
from touchstream.streams.positions import POSITION_BYTES
from touchstream.streams.records import Place, Record
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import (
    CHANGES,
    DEAD_LETTERS,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    OVERRIDES,
    REFUSED,
    RULES,
    WORDS,
)
from touchstream.streams.topics import CUSTOMER, IDENTITY, OPERATIONS, TOUCHPOINTS, state_topic

PARTITIONS = 2
DECODERS: Mapping[str, Mapping[bytes, Callable[[bytes], Any]]] = {
    IDENTITY: {VERTEX: decode_vertex, COMPONENT: decode_component, RULING: decode_ruling},
    CUSTOMER: {
        VIEW: decode_customer_state,
        PANE: decode_pane,
        MEMBERS: msgspec.msgpack.Decoder(set[str]).decode,
    },
}
KEYS: Mapping[Table, tuple[tuple[str, ...], str | None]] = {
    FACTS: (("identity", "channel", "event_id"), "precedence"),
    OVERRIDES: (("identity",), "version"),
    IDENTITIES: (("identity",), "version"),
    DEAD_LETTERS: (("topic", "source", "partition", "offset"), None),
    LINKS: (("identity", "other", "channel", "verified", "other_verified"), "precedence"),
    REFUSED: (("identity", "other"), "version"),
    CHANGES: (("identity", "version"), "version"),
    WORDS: (("identity", "other"), "number"),
    MARKS: (("identity", "number"), "number"),
    RULES: (("number",), "number"),
    CUSTOMERS: (("customer_id",), "version"),
    SESSIONS: (("customer_id", "started_at"), "version"),
    VISITS: (("customer_id", "entered_at", "stage"), "version"),
    ISSUES: (("customer_id", "opened_at", "topic"), "version"),
    PATHS: (("customer_id", "order_key"), "version"),
    PANES: (("dimension", "metric", "resolution", "start", "member", "shard"), "version"),
    ALERTS: (("kind", "alert_id"), None),
}
"""Sorting key of each table, and the column by which ReplacingMergeTree chooses; None: the last."""


@dataclass(frozen=True)
class Left:
    """Everything that leaves a stage."""

    messages: dict[Place, list[tuple[bytes | None, bytes | None, Any]]]
    """Key, value and headers, in order; dead letters and alerts are among them."""
    values: dict[bytes, Any]
    """Decoded: the order within a set or a map is no part of a value."""
    rows: dict[str, dict[Row, Any]]
    """What the tables show, by name and key."""


def rules_of(rng: random.Random) -> Rules:
    """Rules that refuse, share and park much."""
    kinds = {
        name: msgspec.structs.replace(
            kind, unique=rng.random() < 0.3, max_links=rng.choice((2, 5, 100)), limit=None
        )
        for name, kind in oracle.RULES.kinds.items()
    }
    sizes = {"max_identities": rng.choice((2, 5, 200)), "max_component": rng.choice((3, 6, 1000))}
    return msgspec.structs.replace(oracle.RULES, kinds=kinds, **sizes)


def operations_of(rng: random.Random, tokens: list[bytes]) -> list[Operation]:
    """Words, a mark and rules."""
    pairs = [rng.sample(tokens, 2) for _ in range(6)]
    words: list[Operation] = [
        SetWord(one.hex(), other.hex(), rng.random() < 0.5, "ann") for one, other in pairs
    ]
    mark = SetMark(rng.choice(tokens).hex(), True, "ann")
    return [*words, mark, SetRules(rules_of(rng), "", "ann")]


def narrowed(pipeline: Pipeline, members: int) -> None:
    """Let every dimension keep panes of so few members only."""
    panes: Any = pipeline.stages[CUSTOMER][0]
    most = panes._panes._most
    most.update({name: members for name, limit in most.items() if limit is not None})


async def run(seed: int, number: int) -> Pipeline:
    """A pipeline that has processed touchpoints, operations and poison to the end."""
    rng = random.Random(seed)
    published = oracle.random_touchpoints(rng, max(3, number // 6), number)
    operations = operations_of(rng, sorted(oracle.history_of(published)[0]))
    pipeline = Pipeline(seed, partitions=PARTITIONS)
    narrowed(pipeline, rng.choice((2, 3, 1000)))
    for part in range(4):
        for channel, touchpoint in published[part::4]:
            pipeline.publish(channel, touchpoint)
        for operation in operations[part::4]:
            pipeline.operate(operation)
        pipeline.publish_bytes("web", rng.choice((None, b"", b"\x00poison", b"\x00" * 9)))
        for topic in (OPERATIONS, IDENTITY, CUSTOMER):
            poison = [(rng.randbytes(16), value, ()) for value in (None, b"", rng.randbytes(40))]
            pipeline.log.extend(topic, rng.randrange(PARTITIONS), poison)
        await pipeline.drain()
    return pipeline


@cache
def recorded(seed: int, number: int = 150) -> Pipeline:
    """The same, once."""
    return asyncio.run(run(seed, number))


def places(pipeline: Pipeline) -> list[Place]:
    """Partitions that any stage has read."""
    topics = (*TOUCHPOINTS, OPERATIONS, IDENTITY, CUSTOMER)
    found = [(topic, partition) for topic in topics for partition in range(PARTITIONS)]
    return [place for place in found if pipeline.log.partitions[place]]


def replay(pipeline: Pipeline, place: Place, sizes: Iterable[int]) -> Left:
    """Run the stage of a partition over its log, in chunks of these sizes and one of the rest."""
    return asyncio.run(_replay(pipeline, place, sizes))


async def _replay(pipeline: Pipeline, place: Place, sizes: Iterable[int]) -> Left:
    topic, partition = place
    records = pipeline.log.partitions[place]
    stage, stateful = pipeline.stages[topic]
    log, sink = MemoryLog(), MemorySink()
    ports = Ports(log, sink, Unobserved(), PARTITIONS, pipeline.sources)
    source, name = pipeline.sources[topic], state_topic(stage.name)
    changelog = Changelog(log, name, partition, source) if stateful else None
    lane = Lane(stage, topic, partition, ports, changelog)
    await lane.take()
    for chunk in cut(records, sizes):
        await lane.process(chunk)
    messages = {
        to: [(r.key, r.value, log.headers.get((*to, r.offset))) for r in sent]
        for to, sent in log.partitions.items()
        if to[0] != name
    }
    values = changelog.image.values if changelog else {}
    return Left(
        messages, decoded(topic, values), {table.name: shown(sink, table) for table in sink.rows}
    )


def said(pipeline: Pipeline) -> dict[str, Any]:
    """Everything that a whole run has left, decoded where there are sets in it."""
    logs, states = {}, {}
    for (topic, partition), records in pipeline.log.partitions.items():
        if topic.startswith("cx.state."):
            stage = IDENTITY if topic.endswith("stitch") else CUSTOMER
            pairs = [(r.key or b"", (r.value or b"")[4:]) for r in records]
            states[topic, partition] = [decoded(stage, {k: v}) for k, v in pairs if v]
        elif topic != OPERATIONS:
            logs[topic, partition] = [(r.key, _without_sets(r.value)) for r in records]
    rows = {table.name: rows for table, rows in pipeline.sink.rows.items()}
    return {"logs": logs, "states": states, "rows": rows}


def _without_sets(value: bytes | None) -> Any:
    """Rules have sets of texts; all other messages are bytes."""
    if value is None or value[POSITION_BYTES + 2 : POSITION_BYTES + 7] != b"ruled":
        return value
    return value[:POSITION_BYTES], decode_identity(value[POSITION_BYTES:])


def decoded(topic: str, values: Mapping[bytes, bytes]) -> dict[bytes, Any]:
    """Values as their stage reads them; a value of another kind stays as it is."""
    decoders = DECODERS.get(topic, {})
    return {key: decoders.get(key[:1], bytes)(value) for key, value in values.items()}


def cut(records: list[Record], sizes: Iterable[int]) -> Iterable[list[Record]]:
    """Consecutive chunks of these sizes, and one of what is left."""
    start = 0
    for size in sizes:
        if start < len(records):
            yield records[start : start + size]
            start += size
    if start < len(records):
        yield records[start:]


def shown(sink: MemorySink, table: Table) -> dict[Row, Any]:
    """Rows of a table by key, as it shows them."""
    key, version = KEYS[table]
    return dict(sink.latest(table, key, version or key[0]))
