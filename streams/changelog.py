"""Durable state of one partition: one record batch a chunk, one writer, no transactions.

Each batch carries the changed keys and a marker with the input offset applied; a batch is stored
whole or not at all, so state and position move together. The marker names the input topic as it
exists now, because a topic that is created again starts over. On taking the partition a writer
claims it with a higher epoch, and each of its batches must land right after the one before. A gap
means another writer: with a lower epoch its records are repaired over, with a higher one the
partition is lost. Records of an epoch below a claim before them are ignored on reading. So is a
batch that arrives once more after a later one (a broker without idempotent producers may store a
request that was given up): its marker, which comes first, lies behind. A writer whose append failed
must take the partition anew before it goes on. A key that is removed gets a tombstone, so that
Kafka forgets it.
"""

from collections.abc import Mapping
from contextlib import aclosing
from struct import Struct

from touchstream.streams.errors import OwnershipLost
from touchstream.streams.log import VALUE, Entry, Log
from touchstream.streams.records import Record

CLAIM = b"\x00claim"
MARKER = b"\x00applied"
_EPOCH = Struct(">I")
_APPLIED = Struct(">Qq")


def state_of(key: bytes | None, value: bytes | None) -> tuple[bytes, bytes] | None:
    """Key and value of state in a record of a changelog; None for what is no state."""
    if key is None or key in (CLAIM, MARKER):
        return None
    return key, (value or b"")[_EPOCH.size :]


class Image:
    """What a changelog partition says, read record by record."""

    def __init__(self, source: int) -> None:
        """`source` identifies the input topic as it exists now; markers of another do not count."""
        self.values: dict[bytes, bytes] = {}
        self.source = source
        self.applied = -1
        """Offset of the last input record applied."""
        self.epoch = 0
        self.end = 0
        """Offset after the last record read."""
        self.size_bytes = 0
        """Size of all keys and values."""
        self.overwritten: set[bytes] = set()
        """Keys whose last record is not the truth: of a former writer, or of a repeated batch."""
        self._is_repeated = False
        """Whether the batch at hand was read before, and later ones since."""

    def read(self, record: Record) -> None:
        """Take the next record of the changelog."""
        key, value = record.key, record.value
        self.end = record.offset + 1
        if key is None or value is None or len(value) < _EPOCH.size:
            return
        epoch = _EPOCH.unpack_from(value)[0]
        if key == CLAIM:
            self.epoch = max(self.epoch, epoch)
            return
        is_true = epoch >= self.epoch
        if is_true and key == MARKER:
            self._mark(value[_EPOCH.size :])
        if not is_true or self._is_repeated:
            self.overwritten.add(key)
            return
        self.overwritten.discard(key)
        if key != MARKER:
            self.keep({key: value[_EPOCH.size :]})

    def _mark(self, value: bytes) -> None:
        source, applied = _APPLIED.unpack(value)
        ours = source == self.source
        self._is_repeated = ours and applied < self.applied
        if ours:
            self.applied = max(self.applied, applied)

    def keep(self, changes: Mapping[bytes, bytes]) -> None:
        """Take new values; an empty one removes its key."""
        for key, value in changes.items():
            known = self.values.pop(key, None)
            if known is not None:
                self.size_bytes -= len(key) + len(known)
            if value:
                self.values[key] = value
                self.size_bytes += len(key) + len(value)


class Changelog:
    """The single writer of one state partition."""

    def __init__(self, log: Log, topic: str, partition: int, source: int) -> None:
        """`topic` is the state topic; `source` identifies the input topic."""
        self.image = Image(source)
        self.topic = topic
        self.partition = partition
        self._log = log
        self._epoch = 0

    async def take(self) -> None:
        """Read to the end and become the writer; cheap when nobody else wrote meanwhile.

        Raises OwnershipLost when another claims the partition before all is repaired.
        """
        image = self.image
        while True:
            await self._read_on()
            self._epoch = image.epoch + 1
            claim = (CLAIM, _EPOCH.pack(self._epoch), ())
            offset = await self._log.append(self.topic, self.partition, [claim])
            if offset == image.end:
                break
        image.epoch, image.end = self._epoch, offset + 1
        await self._repair()

    async def append(self, changes: Mapping[bytes, bytes], applied: int) -> None:
        """Make changes and marker durable together, then keep them in memory.

        Raises OwnershipLost when another worker has claimed the partition.
        """
        await self._append_next(self._entries(changes, applied))
        self.image.keep(changes)
        self.image.applied = applied

    async def _append_next(self, entries: list[Entry]) -> None:
        offset = await self._log.append(self.topic, self.partition, entries)
        if offset == self.image.end:
            self.image.end = offset + len(entries)
            return
        await self._read_on()
        if self.image.epoch > self._epoch:
            raise OwnershipLost(self.topic, self.partition)
        await self._repair()

    async def _repair(self) -> None:
        """Append true values over what a former writer wrote after it had lost the partition."""
        image = self.image
        while image.overwritten:
            repaired = set(image.overwritten)
            true = {key: image.values.get(key, b"") for key in repaired - {MARKER}}
            await self._append_next(self._entries(true, image.applied))
            image.overwritten -= repaired

    async def _read_on(self) -> None:
        async with aclosing(self._log.read(self.topic, self.partition, self.image.end)) as reading:
            async for records in reading:
                for record in records:
                    self.image.read(record)

    def _entries(self, changes: Mapping[bytes, bytes], applied: int) -> list[Entry]:
        epoch = _EPOCH.pack(self._epoch)
        marker = _APPLIED.pack(self.image.source, applied)
        return [
            (MARKER, epoch + marker, ()),
            *(
                (key, epoch + value, ()) if value else (key, None, ((VALUE, epoch),))
                for key, value in changes.items()
            ),
        ]
