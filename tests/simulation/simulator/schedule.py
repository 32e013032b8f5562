"""What a seed says: touchpoints, what operators say, and what goes wrong, in the order it is tried.

A schedule is small and dense: some tens of touchpoints of few people, so that they meet.
"""

import random
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import oracle
from simulator.broker import BrokerFaults
from simulator.clickhouse import UNSTORABLE, ClickHouseFaults

from touchstream.agents import life
from touchstream.agents.operations import (
    Operation,
    SetErased,
    SetMark,
    SetRules,
    SetWord,
    encode_operation,
)
from touchstream.agents.rules import Rules
from touchstream.streams import lane
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.settings import Settings
from touchstream.streams.topics import BATCH_BYTES, OPERATIONS, touchpoint_topic

CODEC = TouchpointCodec(max_payload_bytes=Settings().max_payload_bytes)
FAULTS = (
    "crash",
    "crash",
    "freeze",
    "freeze",
    "freeze",
    "freeze",
    "stop",
    "rebalance",
    "start",
    "lose commits",
    "outage",
)


@dataclass(frozen=True)
class Publish:
    """Somebody appends a value to a topic; what it is, for the oracle and whoever reads."""

    topic: str
    partition: int
    value: bytes | None
    what: str
    touchpoint: dict[str, Any] | None = None
    operation: Operation | None = None

    @property
    def is_poison(self) -> bool:
        """Whether it must be rejected."""
        return self.touchpoint is None and self.operation is None


@dataclass(frozen=True)
class Fault:
    """Something goes wrong, or only differently."""

    what: str


Action = Publish | Fault


@dataclass(frozen=True)
class Bounds:
    """Limits of the product that a small schedule would never reach."""

    stride: int
    """`life.STRIDE`: how often the course of a customer is marked."""
    rows_ahead: int
    """`lane.ROWS_AHEAD`: rows that may wait before nothing more is computed."""
    batch_bytes: int
    """`lane.BATCH_BYTES`: largest record batch."""

    def hold(self) -> AbstractContextManager[object]:
        """Let them hold for a while."""
        held = ExitStack()
        held.enter_context(patch.object(life, "STRIDE", self.stride))
        held.enter_context(patch.object(lane, "ROWS_AHEAD", self.rows_ahead))
        held.enter_context(patch.object(lane, "BATCH_BYTES", self.batch_bytes))
        return held


@dataclass
class Schedule:
    """Everything that comes from outside."""

    seed: int
    rng: random.Random
    """Goes on to choose what happens next."""
    partitions: int
    workers: int
    eagerness: float
    """Chance that the next action comes before the next step."""
    broker: BrokerFaults
    clickhouse: ClickHouseFaults
    bounds: Bounds
    published: list[oracle.Published]
    """Touchpoints without repetitions."""
    actions: list[Action] = field(default_factory=list)

    @property
    def must_listen(self) -> bool:
        """Whether an operator says what ingest and operate must have heard."""
        said = (each.operation for each in self.actions if isinstance(each, Publish))
        return any(isinstance(each, SetRules | SetErased) for each in said)


def schedule_of(seed: int, touchpoints: int | None = None) -> Schedule:
    """Draw a schedule; `touchpoints` for a longer one."""
    rng = random.Random(seed)
    number = touchpoints or rng.choice((8, 12, 16, 24))
    published = oracle.random_touchpoints(rng, rng.choice((2, 4, 8)), number)
    schedule = Schedule(
        seed,
        rng,
        partitions=rng.choice((1, 2, 3)),
        workers=rng.choice((1, 2, 3)),
        eagerness=rng.choice((0.03, 0.1, 0.3, 0.9)),
        broker=BrokerFaults(
            again_rate=rng.choice((0.0, 0.03, 0.2)),
            late_rate=rng.choice((0.0, 0.0, 0.03, 0.2)),
            refused_rate=rng.choice((0.0, 0.0, 0.01)),
            hidden_rate=rng.choice((0.0, 0.0, 0.03, 0.2)),
        ),
        clickhouse=ClickHouseFaults(*(rng.choice((0.0, 0.05, 0.2)) for _ in range(3))),
        bounds=Bounds(
            stride=rng.choice((3, life.STRIDE)),
            rows_ahead=rng.choice((20, lane.ROWS_AHEAD)),
            batch_bytes=rng.choice((5_000, BATCH_BYTES)),
        ),
        published=published,
    )
    if rng.random() < 0.2:
        for _, touchpoint in rng.sample(published, 2):
            touchpoint["properties"] = {**touchpoint["properties"], UNSTORABLE: "1"}
    again = rng.sample(published, rng.choice((0, 2, 8)))
    actions: list[Action] = [_publish(schedule, *each) for each in (*published, *again)]
    actions += [_poison(schedule) for _ in range(rng.choice((0, 0, 1, 3)))]
    rng.shuffle(actions)
    for operation in _operations(rng, published):
        actions.insert(rng.randrange(len(actions)), _say(operation))
    for _ in range(rng.choice((0, 2, 5, 9)) * max(1, number // 100)):
        actions.insert(rng.randrange(1 + len(actions)), Fault(rng.choice(FAULTS)))
    schedule.actions = actions
    return schedule


def _publish(schedule: Schedule, channel: str, touchpoint: dict[str, Any]) -> Publish:
    value = CODEC.encode(channel, touchpoint)
    partition = schedule.rng.randrange(schedule.partitions)
    names = [f"{each['kind']}={each['value']}" for each in touchpoint["identifiers"]]
    what = f"{touchpoint['event_id']} {touchpoint['action']} of {', '.join(names)}"
    return Publish(touchpoint_topic(channel), partition, value, what, touchpoint)


def _poison(schedule: Schedule) -> Publish:
    """A record that must become a dead letter."""
    rng = schedule.rng
    channel, touchpoint = rng.choice(schedule.published)
    value = CODEC.encode(channel, touchpoint)
    bad = rng.choice((None, b"", b"\xffnonsense", value[: len(value) // 2]))
    partition = rng.randrange(schedule.partitions)
    return Publish(touchpoint_topic(channel), partition, bad, f"poison {bad!r:.40}")


def _operations(rng: random.Random, published: list[oracle.Published]) -> list[Operation | None]:
    """What operators say; None is nonsense."""
    tokens = [token.hex() for token in sorted(oracle.history_of(published)[0])]
    found: list[Operation | None] = []
    for _ in range(rng.choice((0, 0, 1, 3))):
        one, other = rng.sample(tokens, 2)
        found.append(SetWord(one, other, rng.random() < 0.5, "ann"))
    if rng.random() < 0.15:
        found.append(SetMark(rng.choice(tokens), True, "ann"))
    rules = [oracle.RULES]
    if rng.random() < 0.2:
        rules.append(oracle.other_rules(rng))
        found.append(SetRules(rules[-1], "", "ann"))
    if rng.random() < 0.2:
        erased = sorted(rng.sample(tokens, rng.choice((1, 2, 3))))
        if not _may_stay_shared(published, erased, rules):
            found.append(SetErased(erased, "ann"))
    if rng.random() < 0.1:
        found.append(None)
    rng.shuffle(found)
    return found


def _may_stay_shared(
    published: list[oracle.Published], erased: list[str], rules: list[Rules]
) -> bool:
    """Whether an erasure may leave somebody shared who would not be without the erased.

    An identity with too many links does not keep all of them, so it stays shared when some of its
    neighbours are erased. Then it depends on the order who is one customer.
    """
    first, sights = oracle.history_of(published)
    links = {frozenset(sight[:2]) for sight in sights}
    gone = {bytes.fromhex(token) for token in erased}
    for token, (kind, _) in first.items():
        number = sum(token in link for link in links)
        is_near = any(token in link and link & gone for link in links)
        if is_near and number > min(each.kind(kind).max_links for each in rules):
            return True
    return False


def _say(operation: Operation | None) -> Publish:
    if operation is None:
        return Publish(OPERATIONS, 0, b"nonsense", "an operation that makes no sense")
    what = type(operation).__name__
    return Publish(OPERATIONS, 0, encode_operation(operation), what, operation=operation)
