"""The port to a partitioned log: Kafka in production, memory in the simulator."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Protocol

from touchstream.streams.records import Headers, Record
from touchstream.streams.table import Row, Table

Entry = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record to append."""
Reading = AsyncGenerator[Sequence[Record], None]
"""Records in order, some at a time: a partition may be larger than memory."""
VALUE = "value"
"""Header of a tombstone: what it is to be read as. Without a value a record, and what its key had
before, goes when Kafka compacts the topic; this says meanwhile who wrote it."""


def value_of(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> bytes | None:
    """Value that a record is read as."""
    return value if value is not None else dict(headers).get(VALUE)


class Log(Protocol):
    """Topics of partitions; topics by their logical names."""

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Append one record batch, whole or not at all; returns the offset of its first record."""

    def read(self, topic: str, partition: int, start: int) -> Reading:
        """Read every record from offset `start` to the end of the partition.

        A tombstone is read as its header `VALUE` says.
        """


class Sink(Protocol):
    """Where rows go."""

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        """Return once every row is stored."""
