"""What a customer's life comes to: measurements, and rows of what it consists of.

Measurements can be taken back: the same one with the opposite sign. So two lives are compared by
adding one and subtracting the other.
"""

from collections import Counter

from touchstream.streams.table import Row, Table
from touchstream.streams.topics import DAY_MS

Member = tuple[str, str]
"""A dimension, and which of its members."""
Members = tuple[Member, ...]
RowKey = tuple[Table, int, str]
"""A table, and a moment and a name, which are the row's key within its customer."""
EVERYBODY: Member = ("all", "")


Measurement = tuple[str, int, int, Members, bool]
"""Measure, moment (ms), value, members, and whether it is the change of a level; then the moment is
the start of its day."""


class Ledger:
    """Measurements with their signs, and rows by table and key."""

    __slots__ = ("entries", "reopened", "rows")

    def __init__(self) -> None:
        self.entries: list[tuple[Measurement, int]] = []
        self.reopened: dict[int, int] = {}
        """Contacts that had solved an issue which came back: event key and time."""
        self.rows: dict[RowKey, tuple[Row, bool]] = {}
        """Columns between the customer's id and the version; and whether the row is no more."""

    def measure(self, measure: str, at: int, value: int, members: Members) -> None:
        """Take a measurement."""
        self.entries.append(((measure, at, value, members, False), 1))

    def change(self, measure: str, at: int, old: int, new: int, members: Members) -> None:
        """Take a measurement back and take another one in its place."""
        if old != new:
            self.entries.append(((measure, at, old, members, False), -1))
            self.entries.append(((measure, at, new, members, False), 1))

    def shift(self, level: str, day: int, by: int, member: Member = EVERYBODY) -> None:
        """Change a level from a day on."""
        self.entries.append(((level, day * DAY_MS, by, (member,), True), 1))

    def write(self, table: Table, at: int, name: str, row: Row) -> None:
        """Write a row; `at` and `name` are its key within the customer."""
        self.rows[table, at, name] = (row, False)

    def since(self, before: "Ledger") -> "Ledger":
        """What has to be added to `before` to come to this."""
        net: Counter[Measurement] = Counter()
        for entry, sign in self.entries:
            net[entry] += sign
        for entry, sign in before.entries:
            net[entry] -= sign
        found = Ledger()
        found.entries = [(entry, number) for entry, number in net.items() if number]
        found.rows = {key: row for key, row in self.rows.items() if before.rows.get(key) != row}
        found.reopened = {
            key: at for key, at in self.reopened.items() if key not in before.reopened
        }
        for key, (row, _) in before.rows.items():
            if key not in self.rows:
                found.rows[key] = (row, True)
        return found
