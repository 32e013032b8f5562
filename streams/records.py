"""The nouns of the pipeline: what is read from a log, what is written to one, and its position."""

from struct import Struct
from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]


class Record(NamedTuple):
    """One record as it was read from a partition of a topic (logical name, without prefix)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Message(NamedTuple):
    """A record to append to a partition of a topic (logical name)."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Position(NamedTuple):
    """Where an internal record comes from: its input record, and its number among its outputs.

    `source` identifies the upstream topic as it exists now (a hash of Kafka's topic id), so that a
    topic that was deleted and created again does not look like a replay of its predecessor.
    """

    source: int
    partition: int
    offset: int
    sequence: int


_POSITION = Struct(">QIQI")
POSITION_BYTES = _POSITION.size


def frame(position: tuple[int, int, int, int], body: bytes) -> bytes:
    """Value of an internal record: its position, then its body."""
    return _POSITION.pack(*position) + body


def position_of(value: bytes) -> Position:
    """Position of an internal record; raises struct.error when the value is too short."""
    return Position._make(_POSITION.unpack_from(value))
