"""What must hold all the time.

(d) no version goes backwards, and no version stands for two different rows;
(e) no committed offset, and no state, is ahead of what is stored.

Nothing here uses the code whose work it checks: changelogs are read by a few lines of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from struct import Struct

from simulator.broker import Broker, Place
from simulator.clickhouse import ClickHouse, StoredTable
from simulator.findings import Findings
from simulator.group import Group
from simulator.ledger import Ledger

from touchstream.agents.activity import decode_customer_state
from touchstream.agents.customer_messages import customer_name
from touchstream.agents.evidence import decode_vertex
from touchstream.agents.panes import PANE, decode_pane, pane_rows
from touchstream.agents.profile import VIEW
from touchstream.agents.turn import VERTEX
from touchstream.streams.changelog import CLAIM, MARKER
from touchstream.streams.customer_tables import CUSTOMERS, PANES
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import DEAD_LETTERS, IDENTITIES
from touchstream.streams.topics import CUSTOMER, DEAD_LETTER, IDENTITY, state_topic

_EPOCH = Struct(">I")
_APPLIED = Struct(">Qq")
_CAUSE = Struct(">QIQ")
READERS = {state_topic("stitch"): IDENTITY, state_topic("profile"): CUSTOMER}
"""What the owner of a state topic reads."""
NEVER = -1


class Durable:
    """State of one partition as its next owner will find it, batch by batch."""

    def __init__(self) -> None:
        self.epoch = 0
        self.applied = -1
        self.values: dict[bytes, bytes] = {}
        self.versions: dict[bytes, int] = {}

    def take(self, key: bytes, value: bytes) -> bool:
        """Take a record; whether its writer was the owner."""
        epoch = _EPOCH.unpack_from(value)[0]
        if key == CLAIM:
            self.epoch = max(self.epoch, epoch)
        return bool(key != CLAIM and epoch >= self.epoch)


class Checks:
    """Watches everything that is stored, and keeps the ledger."""

    def __init__(
        self,
        broker: Broker,
        clickhouse: ClickHouse,
        group: Group,
        sources: Mapping[str, int],
    ) -> None:
        self.findings = Findings()
        self.ledger = Ledger()
        self._broker, self._clickhouse, self._sources = broker, clickhouse, sources
        self._caused: set[tuple[int, int, int]] = set()
        """Records that have caused one on `cx.identity`: source, partition, offset."""
        self.letters: Counter[tuple[str, int, int]] = Counter()
        """Dead letters in their topic, by the place of the record."""
        self.durable: dict[Place, Durable] = defaultdict(Durable)
        self._sure: dict[Place, int] = {}
        """Offset up to which outputs were looked for."""
        clickhouse.on_row = self.on_row
        group.on_commit = self.on_commit

    def on_batch(self, place: Place, base: int) -> None:
        """A batch was stored in a topic."""
        topic = place[0]
        if topic in READERS:
            if not self._broker.is_repeating:
                self._on_state(place, base)
        elif topic == IDENTITY:
            for record in self._broker.log.partitions[place][base:]:
                self._caused.add(_CAUSE.unpack_from(record.value or b""))
        elif topic == DEAD_LETTER:
            for offset in range(base, self._broker.end(place)):
                headers = dict(self._broker.log.headers[(*place, offset)])
                number, at = int(headers["partition"]), int(headers["offset"])
                self.letters[headers["topic"].decode(), number, at] += 1

    def on_row(self, stored: StoredTable, row: Row, known: Row | None) -> None:
        """A row was stored in ClickHouse."""
        if known is None or row == known or stored.table is DEAD_LETTERS:
            return
        if stored.version_of(row) == stored.version_of(known):
            key = stored.key_of(row)
            text = f"{stored.table.name} {key}: {difference(stored, known, row)}"
            self.findings.add("d", f"one version, two rows: {text}")

    def _on_state(self, place: Place, base: int) -> None:
        durable = self.durable[place]
        for record in self._broker.log.read_now(*place, base):
            key, value = record.key or b"", record.value or b""
            if not durable.take(key, value):
                continue
            if key == MARKER:
                self._on_marker(place, durable, _APPLIED.unpack(value[_EPOCH.size :])[1])
            else:
                self._on_value(place, durable, key, value[_EPOCH.size :])

    def _on_marker(self, place: Place, durable: Durable, applied: int) -> None:
        if applied < durable.applied:
            self.findings.add(
                "d", f"marker of {place} goes from {durable.applied} back to {applied}"
            )
        durable.applied = applied

    def _on_value(self, place: Place, durable: Durable, key: bytes, value: bytes) -> None:
        if not value:
            durable.values.pop(key, None)
            return
        durable.values[key] = value
        version = self._version(place, key, value)
        if version is None:
            return
        if version < durable.versions.get(key, 0):
            before = durable.versions[key]
            self.findings.add(
                "d", f"{key!r} in {place} goes from version {before} back to {version}"
            )
        durable.versions[key] = version

    def _version(self, place: Place, key: bytes, value: bytes) -> int | None:
        """Version of a value, whose rows must be stored already; None when it has none."""
        if READERS[place[0]] == IDENTITY:
            if key[:1] != VERTEX:
                return None
            vertex = decode_vertex(value)
            if vertex.customer is not None:
                self._is_stored(IDENTITIES, (key[1:].hex(),), vertex.version)
            return vertex.version
        if key[:1] == VIEW:
            customer = decode_customer_state(value)
            self._is_stored(CUSTOMERS, (customer_name(key[1:]),), customer.version)
            return customer.version
        if key[:1] == PANE:
            pane = decode_pane(value)
            rows = self._clickhouse.tables[PANES]
            for row in pane_rows(key, pane, list(pane.sums)[:1], place[1]):
                self._is_stored(PANES, rows.key_of(row), rows.version_of(row))
            return sum(changes for *_, changes in pane.sums.values())
        return None

    def _is_stored(self, table: Table, key: Row, version: int) -> None:
        stored = self._clickhouse.tables[table]
        row = stored.rows.get(key)
        there = NEVER if row is None else stored.version_of(row)
        if there < version:
            self.findings.add("e", f"state has {key} at {version}, {table.name} at {there}")

    def on_commit(self, place: Place, offset: int) -> None:
        """The group takes a committed offset: everything before it must be stored."""
        for state, topic in READERS.items():
            if place[0] == topic:
                applied = self.durable[state, place[1]].applied
                if offset > applied + 1:
                    self.findings.add(
                        "e", f"{place} committed at {offset}, its state at {applied + 1}"
                    )
        for before in range(self._sure.get(place, 0), offset):
            self._is_dealt_with(place, before)
        self._sure[place] = max(offset, self._sure.get(place, 0))

    def _is_dealt_with(self, place: Place, offset: int) -> None:
        """What a record from outside leads to must be stored."""
        publish = self.ledger.at(place, offset)
        if publish is None:
            return
        at = (self._sources[place[0]], place[1], offset)
        if publish.is_poison:
            key = (place[0], *at)
            if key not in self._clickhouse.tables[DEAD_LETTERS].rows:
                self.findings.add(
                    "e", f"{place} committed past {offset}, no dead letter in ClickHouse"
                )
            if not self.letters[place[0], place[1], offset]:
                self.findings.add(
                    "e", f"{place} committed past {offset}, no dead letter in its topic"
                )
        elif at not in self._caused and not self.ledger.may_be_suppressed(publish):
            self.findings.add("e", f"{place} committed past {offset}, but it has led to nothing")

    def all_is_processed(self) -> None:
        """Whatever was written to a topic must be dealt with, as if all were committed."""
        for place in list(self._broker.log.partitions):
            if place[0] in self._sources:
                self.on_commit(place, self._broker.end(place))
        self.findings.raise_first()


def difference(stored: StoredTable, one: Row, other: Row) -> str:
    """Columns in which two rows differ."""
    names = stored.columns
    pairs = zip(names, one, other, strict=True)
    return ", ".join(f"{name} {a!r} or {b!r}" for name, a, b in pairs if a != b)
