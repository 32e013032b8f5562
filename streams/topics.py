"""Every topic, declared once: its name, its retention, and which partition a key belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

CHANNELS = (
    "web",
    "chat",
    "phone",
    "social",
    "survey",
    "purchase",
    "email",
    "sms",
    "in_person",
    "employee",
)

IDENTITY = "cx.identity"
CUSTOMER = "cx.customer"
DEAD_LETTER = "touchpoints.dead-letter"
OPERATIONS = "cx.operations"
"""What operators say: identity rules, and their word on two identities. All in partition 0, so that
there is one order; kept for ever, because it is the audit."""
ALERTS = "cx.alerts"
"""What somebody should look at, in Avro: `schemas/alert.v1.avsc`."""


def touchpoint_topic(channel: str) -> str:
    """Name of the topic that platform teams publish `channel` to."""
    return f"touchpoints.{channel}"


def state_topic(agent: str) -> str:
    """Name of the compacted changelog of an agent's state."""
    return f"cx.state.{agent}"


TOUCHPOINTS = tuple(touchpoint_topic(channel) for channel in CHANNELS)
STATES = (state_topic("stitch"), state_topic("profile"))

RETENTION_DAYS: Mapping[str, int] = {
    "touchpoints": 7,
    "internal": 7,
    "alerts": 7,
    "dead_letters": 30,
}
"""Days that records are kept, by group of topics; the names are those of the retention file."""
DAY_MS = 86_400_000
BATCH_BYTES = 8 << 20
"""Largest record batch that touchstream writes; `max.message.bytes` of its topics is above it."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic to create: logical name and topic configuration."""

    name: str
    config: dict[str, str]


def topic_specs(days: Mapping[str, int] = RETENTION_DAYS, replicas: int = 1) -> list[TopicSpec]:
    """All topics in creation order; `days` that records are kept, for each group.

    Of three replicas two must have a record before it counts.
    """
    room = {"max.message.bytes": str(BATCH_BYTES + (1 << 20))}
    if replicas >= 3:
        room["min.insync.replicas"] = "2"
    compacted = {
        **room,
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": "3600000",
        # What was erased from state is gone from the disk within a day.
        "max.compaction.lag.ms": str(DAY_MS),
    }

    def kept(group: str, *names: str) -> list[TopicSpec]:
        config = {**room, "retention.ms": str(days[group] * DAY_MS)}
        return [TopicSpec(name, config) for name in names]

    return [
        *kept("touchpoints", *TOUCHPOINTS),
        *kept("internal", IDENTITY, CUSTOMER),
        *kept("alerts", ALERTS),
        TopicSpec(OPERATIONS, {**room, "retention.ms": "-1"}),
        *kept("dead_letters", DEAD_LETTER),
        *(TopicSpec(name, compacted) for name in STATES),
    ]


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key whose bytes are already uniformly distributed (a keyed hash)."""
    return int.from_bytes(key[:8], "big") % partitions
