"""Mistakes that the simulator must catch: each breaks one rule of the product while it lasts."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from touchstream.agents import activity, profile, stitch
from touchstream.agents.activity import Customer
from touchstream.agents.resolution import Token
from touchstream.streams.changelog import CLAIM, Changelog, Image
from touchstream.streams.clickhouse import Failure, failure_of
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.lane import Lane
from touchstream.streams.lanes import Lanes, Work
from touchstream.streams.records import Record
from touchstream.streams.table import Row, Table

Mutation = Callable[[], AbstractContextManager[object]]


def acknowledge_before_state() -> AbstractContextManager[object]:
    """A chunk is acknowledged when it is computed, before rows and state are stored."""

    async def save(
        self: Lanes,
        lane: Lane,
        queue: "asyncio.Queue[Work]",
        computed: "asyncio.Queue[Work]",
    ) -> None:
        while True:
            work = await computed.get()
            work.acknowledge()
            await lane.save()
            queue.task_done()

    return patch.object(Lanes, "_save", save)


def skip_the_position_check() -> AbstractContextManager[object]:
    """What was sent again after a crash is taken again."""
    mutation = ExitStack()
    for module in (stitch, profile):
        mutation.enter_context(patch.object(module, "is_new", lambda value, state: True))
    return mutation


def ignore_the_epoch() -> AbstractContextManager[object]:
    """State of a writer that had lost the partition is taken for the owner's."""
    read = Image.read

    def read_all_alike(self: Image, record: Record) -> None:
        if record.key not in (None, CLAIM) and record.value:
            record = record._replace(value=self.epoch.to_bytes(4, "big") + record.value[4:])
        read(self, record)

    return patch.object(Image, "read", read_all_alike)


def drop_the_arrival() -> AbstractContextManager[object]:
    """A move takes an identity's activity out and sends it nowhere."""
    return patch.object(activity, "_arrival", lambda target, message: None)


def move_without_waiting() -> AbstractContextManager[object]:
    """A move takes what is there, though more is still to arrive."""

    def has_arrived(customer: Customer, identity: Token) -> bool:
        return identity in customer.identities

    return patch.object(activity, "has_arrived", has_arrived)


def flush_without_waiting() -> AbstractContextManager[object]:
    """The writer says that rows are stored when they are only on their way."""

    async def insert(self: ClickHouseWriter, rows: Mapping[Table, Sequence[Row]]) -> None:
        if any(rows.values()):
            (self._open or self._new_group()).add(rows)

    return patch.object(ClickHouseWriter, "insert", insert)


def take_a_lost_insert_for_stored() -> AbstractContextManager[object]:
    """The writer gives up a block that ClickHouse does not take for now."""

    async def once(self: ClickHouseWriter, table: Table, rows: list[Row]) -> Exception | None:
        error = await self._insert_once(table, rows)
        is_bad = error is not None and failure_of(error) is Failure.DATA
        return error if is_bad else None

    return patch.object(ClickHouseWriter, "_insert_with_retries", once)


def state_before_rows() -> AbstractContextManager[object]:
    """State and marker are stored first, the rows afterwards."""
    save = Lane.save

    async def reversed_save(self: Lane) -> None:
        if self.changelog and self._unsaved.chunks:
            await self.changelog.append(self._unsaved.changes, self._unsaved.applied)
        await save(self)

    return patch.object(Lane, "save", reversed_save)


def messages_without_waiting() -> AbstractContextManager[object]:
    """A chunk goes on while its messages are only on their way."""
    append = Lane._append

    async def send(self: Lane, topic: str, partition: int, entries: Sequence[Any]) -> None:
        sending = asyncio.ensure_future(append(self, topic, partition, entries))
        sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    return patch.object(Lane, "_append", send)


def overlook_a_claim() -> AbstractContextManager[object]:
    """Who takes a partition does not look whether others wrote before its claim landed."""

    async def take(self: Changelog) -> None:
        await self._read_on()
        self._epoch = self.image.epoch + 1
        claim = (CLAIM, self._epoch.to_bytes(4, "big"), ())
        offset = await self._log.append(self.topic, self.partition, [claim])
        self.image.epoch, self.image.end = self._epoch, offset + 1
        await self._repair()

    return patch.object(Changelog, "take", take)


def begin_where_the_consumer_does() -> AbstractContextManager[object]:
    """The committed offset is taken for the truth, the marker is not looked at."""

    missing = Lane.missing

    def missing_later(self: Lane, records: Sequence[Record], known: int) -> int | None:
        return missing(self, records, known) if self._computed >= 0 else None

    return patch.object(Lane, "missing", missing_later)


def overlook_what_was_not_fetched() -> AbstractContextManager[object]:
    """A gap in the offsets of a chunk is taken for one."""
    missing = Lane.missing

    def missing_first(self: Lane, records: Sequence[Record], known: int) -> int | None:
        return missing(self, records[:1], known) if self._computed < 0 else None

    return patch.object(Lane, "missing", missing_first)


NAMED: tuple[Mutation, ...] = (
    acknowledge_before_state,
    skip_the_position_check,
    ignore_the_epoch,
    drop_the_arrival,
    flush_without_waiting,
)
"""Those that must be caught whatever else is."""
MORE: tuple[Mutation, ...] = (
    move_without_waiting,
    take_a_lost_insert_for_stored,
    state_before_rows,
    messages_without_waiting,
    overlook_a_claim,
    begin_where_the_consumer_does,
    overlook_what_was_not_fetched,
)
MUTATIONS = NAMED + MORE
