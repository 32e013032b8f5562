"""A ClickHouse table as agents see it."""

from dataclasses import dataclass
from typing import Any

Row = tuple[Any, ...]

TEXT = "String"
WORD = "LowCardinality(String)"
MOMENT = "DateTime64(3, 'UTC')"
MAYBE_MOMENT = "Nullable(DateTime64(3, 'UTC'))"


@dataclass(frozen=True, eq=False)
class Table:
    """A table that agents insert into; rows are tuples in the order of `columns`."""

    name: str
    columns: tuple[tuple[str, str], ...]
    last: bool = False
    """Whether its rows are stored after those of other tables that came with them or before."""

    @property
    def column_names(self) -> list[str]:
        """Names in row order."""
        return [name for name, _ in self.columns]

    @property
    def column_types(self) -> list[str]:
        """ClickHouse types in row order."""
        return [kind for _, kind in self.columns]
