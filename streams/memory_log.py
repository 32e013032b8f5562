"""A log in memory: deterministic, for tests and the simulator; no Kafka needed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from touchstream.streams.log import Entry, Reading, value_of
from touchstream.streams.records import Headers, Record
from touchstream.streams.table import Row, Table


class MemoryLog:
    """Partitions are lists; offsets are indexes."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.headers: dict[tuple[str, int, int], Headers] = {}
        self.clock_ms = 0

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Append a batch."""
        return self.extend(topic, partition, entries)

    def extend(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Append a batch at once; returns the offset of its first record."""
        records = self.partitions[topic, partition]
        base = len(records)
        for offset, (key, value, headers) in enumerate(entries, base):
            records.append(Record(topic, partition, offset, self.clock_ms, key, value))
            if headers:
                self.headers[topic, partition, offset] = headers
        return base

    async def read(self, topic: str, partition: int, start: int) -> Reading:
        """Read from `start` to the end as it is now."""
        yield self.read_now(topic, partition, start)

    def read_now(self, topic: str, partition: int, start: int) -> list[Record]:
        """Read at once."""
        return [self._read(record) for record in self.partitions[topic, partition][start:]]

    def _read(self, record: Record) -> Record:
        headers = self.headers.get((record.topic, record.partition, record.offset), ())
        return record._replace(value=value_of(record.value, headers))


class MemorySink:
    """Keeps rows as ReplacingMergeTree would show them: by key, the highest version."""

    def __init__(self) -> None:
        self.rows: dict[Table, list[Row]] = defaultdict(list)

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> None:
        """Keep the rows."""
        for table, new in rows.items():
            self.rows[table].extend(new)

    def latest(
        self, table: Table, key: Sequence[str], version: str
    ) -> dict[Row, dict[str, object]]:
        """Rows of a table by key, the one with the highest version (the last of equals)."""
        found: dict[Row, dict[str, object]] = {}
        for row in self.rows[table]:
            named = dict(zip(table.column_names, row, strict=True))
            at = tuple(named[column] for column in key)
            if at not in found or named[version] >= found[at][version]:
                found[at] = named
        return found
