"""What a chunk wants done outside: records to append, rows to insert, dead letters, and counts."""

from collections import Counter, defaultdict
from collections.abc import Hashable

from touchstream.streams.alerts import NOTHING, Evidence, alert_about, alert_row, encode_alert
from touchstream.streams.customer_tables import ALERTS as ALERT_ROWS
from touchstream.streams.dead_letters import dead_letter_headers, dead_letter_row, kept_value
from touchstream.streams.errors import PoisonError
from touchstream.streams.positions import frame, input_position
from touchstream.streams.records import Message, Record
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import DEAD_LETTERS
from touchstream.streams.topics import ALERTS, DEAD_LETTER, partition_of


class Effects:
    """Collects the effects of the records of one chunk; each message gets its position."""

    __slots__ = (
        "_inserts",
        "_cause",
        "_partitions",
        "_record",
        "_sequence",
        "_source",
        "_upserts",
        "caused_at",
        "counts",
        "messages",
        "observations",
    )

    def __init__(self, source: int, partitions: int) -> None:
        """`source` identifies the input topic; `partitions` is the number every topic has."""
        self.messages: list[Message] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.observations: list[tuple[str, float]] = []
        self.caused_at: list[int] = []
        self._inserts: defaultdict[Table, list[Row]] = defaultdict(list)
        self._upserts: defaultdict[Table, dict[Hashable, Row]] = defaultdict(dict)
        self._source = source
        self._partitions = partitions
        self._record: Record | None = None
        self._cause = b""
        self._sequence = 0

    def begin(self, record: Record) -> None:
        """What follows is caused by `record`."""
        self._record = record
        self._cause = input_position(self._source, record.partition, record.offset)
        self._sequence = 0

    def send(self, topic: str, key: bytes, body: bytes) -> None:
        """Append an internal record to the partition of its key."""
        self.send_to(topic, partition_of(key, self._partitions), key, body)

    def broadcast(self, topic: str, key: bytes, body: bytes) -> None:
        """Append an internal record to every partition."""
        for partition in range(self._partitions):
            self.send_to(topic, partition, key, body)

    def send_to(self, topic: str, partition: int, key: bytes, body: bytes) -> None:
        """Append an internal record to a partition."""
        value = frame(self._cause, self._sequence, body)
        self._sequence += 1
        self.messages.append(Message(topic, partition, key, value))

    def insert(self, table: Table, row: Row) -> None:
        """Insert a row into ClickHouse."""
        self._inserts[table].append(row)

    def upsert(self, table: Table, key: Hashable, row: Row) -> None:
        """Insert a row that replaces this chunk's earlier rows of the same key."""
        self._upserts[table][key] = row

    @property
    def rows(self) -> dict[Table, list[Row]]:
        """All rows by table."""
        rows = {table: list(found) for table, found in self._inserts.items()}
        for table, found in self._upserts.items():
            rows.setdefault(table, []).extend(found.values())
        return rows

    def count(self, name: str, label: str = "", number: int = 1) -> None:
        """Count something for Prometheus."""
        self.counts[name, label] += number

    def observe(self, name: str, value: float) -> None:
        """Measure something for Prometheus."""
        self.observations.append((name, value))

    def repaired(self, caused_at: int) -> None:
        """An identity has changed its customer, because of a record written at `caused_at` (ms)."""
        self.caused_at.append(caused_at)

    def alert(
        self,
        kind: str,
        reason: str,
        *,
        cause: tuple[str, ...],
        customer: str | None = None,
        identity: str | None = None,
        evidence: Evidence = NOTHING,
    ) -> None:
        """Tell whoever watches: a record on `cx.alerts`, a row and a count.

        The id follows from kind and cause, so that a replay replaces what it raised before.
        """
        record = self._record
        assert record is not None
        alert = alert_about(
            kind,
            reason,
            cause=cause,
            raised_at=record.timestamp_ms,
            customer=customer,
            identity=identity,
            evidence=evidence,
            source=record,
        )
        partition = record.partition % self._partitions
        self.messages.append(Message(ALERTS, partition, None, encode_alert(alert)))
        self.insert(ALERT_ROWS, alert_row(alert))
        self.count("alerts", kind)

    def dead_letter(self, error: PoisonError) -> None:
        """Reject the current record: its bytes to the dead-letter topic and to ClickHouse."""
        record = self._record
        assert record is not None
        headers = dead_letter_headers(record, error)
        partition = record.partition % self._partitions
        letter = Message(DEAD_LETTER, partition, record.key, kept_value(record), headers)
        self.messages.append(letter)
        self.insert(DEAD_LETTERS, dead_letter_row(record, error, self._source))
        self.count("dead_letters", error.reason)
