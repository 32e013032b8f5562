"""A stage is a deterministic state machine over one partition's log; `run_chunk` runs it, purely.

State after record n is a function of records 0..n. A stage reads no clock, no randomness, no other
partition; time comes from the records. Outputs depend on the input record, never on where a chunk
ended. That one rule gives replay, exactly-once results and simulation tests.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from touchstream.streams.effects import Effects
from touchstream.streams.errors import PoisonError
from touchstream.streams.records import Message, Record
from touchstream.streams.state import State
from touchstream.streams.table import Row, Table


class Stage(Protocol):
    """What an agent decides, record by record."""

    @property
    def name(self) -> str:
        """Name of the agent, of its state topic and of its metrics."""

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Take one record; a PoisonError must be raised before state or effects are touched."""

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """Rows for the state that the chunk has changed: absolute values with their version."""


@dataclass(frozen=True)
class Outcome:
    """What a chunk changes: to be delivered, made durable and acknowledged, in this order."""

    messages: list[Message]
    rows: dict[Table, list[Row]]
    changes: dict[bytes, bytes]
    counts: Counter[tuple[str, str]]
    applied: int
    """Offset of the last record applied."""
    observations: list[tuple[str, float]]
    caused_at: list[int]
    """When the records were written that made an identity change its customer, ms."""
    rejected_last: int = 0
    """Number of records at the end of the chunk that were all rejected."""

    @property
    def state_bytes(self) -> int:
        """Size of the changed keys and values."""
        return sum(len(key) + len(value) for key, value in self.changes.items())


def run_chunk(
    stage: Stage,
    records: Sequence[Record],
    values: Mapping[bytes, bytes],
    *,
    source: int,
    partitions: int,
) -> Outcome:
    """Apply the records of one partition to its values, changing nothing but the outcome."""
    state, effects = State(values), Effects(source, partitions)
    rejected_last = 0
    for record in records:
        effects.begin(record)
        try:
            stage.apply(record, state, effects)
            rejected_last = 0
        except PoisonError as error:
            effects.dead_letter(error)
            rejected_last += 1
    stage.project(records[0].partition, state, effects)
    return Outcome(
        effects.messages,
        effects.rows,
        state.encode_changes(),
        effects.counts,
        records[-1].offset,
        effects.observations,
        effects.caused_at,
        rejected_last,
    )
