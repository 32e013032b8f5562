"""The nouns of the pipeline: what is read from a log, what is written to one, and its position."""

from typing import NamedTuple


class Record(NamedTuple):
    """One record as it was read from a partition of a topic (logical name, without prefix)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Position(NamedTuple):
    """Where an internal record comes from: its input record, and its number among its outputs.

    `source` identifies the upstream topic as it exists now (a hash of Kafka's topic id), so that a
    topic that was deleted and created again does not look like a replay of its predecessor.
    """

    source: int
    partition: int
    offset: int
    sequence: int


class Message(NamedTuple):
    """A record to append: logical topic, partition, key, value, and headers if any."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
