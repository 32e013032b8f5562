"""Two live writers of one state partition on a broker: whoever wins, every input counts once.

Each writer does what a lane does: it takes the partition, applies the inputs after the marker, and
appends state and marker. It may be frozen with a batch in its hands until the other has claimed the
partition; what it appends then is a zombie's.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from brokers import KafkaCluster
from stacks import PARTITIONS, broker_alone, records_of

from touchstream.streams.changelog import CLAIM, MARKER, Changelog
from touchstream.streams.errors import OwnershipLost
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.log import Entry, Reading
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration
TOPIC, SOURCE, EPOCH_BYTES = "cx.state.stitch", 7, 4
INPUTS = 400
INPUTS_A_KEY = 10
KEYS_AT_ONCE = 3
LARGEST_CHUNK = 4
LONGEST_FREEZE = 15
"""Appends of others, after their claim."""


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaCluster | None
) -> Iterator[Settings]:
    with broker_alone(tmp_path_factory.mktemp("broker"), kafka) as settings:
        yield settings


class Progress:
    """What all writers have appended; one at a time may be frozen until others have done more."""

    def __init__(self) -> None:
        self.claims = 0
        self.appends = 0
        self.is_over = False
        self._changed = asyncio.Condition()
        self._frozen = asyncio.Lock()

    async def add(self, *, claims: int = 0, is_over: bool = False) -> None:
        async with self._changed:
            self.appends += 1
            self.claims += claims
            self.is_over |= is_over
            self._changed.notify_all()

    async def freeze(self, appends: int) -> None:
        """Return when another has claimed the partition and appended so many times more."""
        if self._frozen.locked():
            return
        async with self._frozen, self._changed:
            claims = self.claims
            await self._changed.wait_for(lambda: self.claims > claims or self.is_over)
            end = self.appends + appends
            await self._changed.wait_for(lambda: self.appends >= end or self.is_over)


class FreezingLog:
    """A writer's connection; now and then a batch is held until another writer has gone on."""

    def __init__(self, settings: Settings, progress: Progress, rng: random.Random) -> None:
        self._log = KafkaLog(settings)
        self._progress = progress
        self._rng = rng

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        is_claim = entries[0][0] == CLAIM
        if not is_claim and self._rng.random() < 0.1:
            await self._progress.freeze(self._rng.randint(0, LONGEST_FREEZE))
        offset = await self._log.append(topic, partition, entries)
        await self._progress.add(claims=int(is_claim))
        return offset

    def read(self, topic: str, partition: int, start: int) -> Reading:
        return self._log.read(topic, partition, start)

    async def close(self) -> None:
        await self._log.close()


def key_of(number: int) -> bytes:
    """A few keys are in use at a time, then never again: what is wrong then stays wrong."""
    return b"key %d" % (number // INPUTS_A_KEY + number % KEYS_AT_ONCE)


def counted(inputs: int) -> dict[bytes, bytes]:
    """The truth: how many of the inputs have each key."""
    return {key: b"%d" % n for key, n in Counter(map(key_of, range(inputs))).items()}


def changes(state: dict[bytes, bytes], numbers: range) -> dict[bytes, bytes]:
    new = Counter(map(key_of, numbers))
    return {key: b"%d" % (int(state.get(key, 0)) + n) for key, n in new.items()}


class Writer:
    """One process as far as the partition is concerned."""

    def __init__(
        self, settings: Settings, partition: int, progress: Progress, rng: random.Random
    ) -> None:
        self._log = FreezingLog(settings, progress, rng)
        self._changelog = Changelog(self._log, TOPIC, partition, SOURCE)
        self._progress = progress
        self._rng = rng
        self.times_lost = 0

    async def run(self) -> None:
        """Take the partition again and again until all inputs are applied."""
        while self._next < INPUTS:
            try:
                await self._changelog.take()
                assert self._changelog.image.values == counted(self._next)
                await self._apply()
            except OwnershipLost:
                self.times_lost += 1
        await self._progress.add(is_over=True)
        await self._log.close()

    @property
    def _next(self) -> int:
        return self._changelog.image.applied + 1

    async def _apply(self) -> None:
        """Apply chunks of inputs; ends for no reason now and then, as an assignment does."""
        while self._next < INPUTS and self._rng.random() > 0.05:
            end = min(INPUTS, self._next + self._rng.randint(1, LARGEST_CHUNK))
            chunk = range(self._next, end)
            await self._changelog.append(changes(self._changelog.image.values, chunk), end - 1)


async def race(settings: Settings, partition: int) -> list[int]:
    """Two writers to the end; how often each lost the partition while it wrote."""
    progress = Progress()
    seeds = (2 * partition, 2 * partition + 1)
    writers = [Writer(settings, partition, progress, random.Random(seed)) for seed in seeds]
    await asyncio.wait_for(asyncio.gather(*(writer.run() for writer in writers)), 120)
    return [writer.times_lost for writer in writers]


async def restored(settings: Settings, partition: int) -> Changelog:
    """The partition as the next owner finds it, once it has written over what zombies left."""
    log = KafkaLog(settings)
    changelog = Changelog(log, TOPIC, partition, SOURCE)
    await changelog.take()
    await log.close()
    return changelog


def last_values(settings: Settings, partition: int) -> dict[bytes, bytes]:
    """The last value of each key, whoever wrote it: what compaction leaves."""
    records = records_of(KafkaLog(settings), TOPIC, partition, 0)
    last = {record.key: (record.value or b"")[EPOCH_BYTES:] for record in records if record.key}
    return {key: value for key, value in last.items() if key not in (CLAIM, MARKER)}


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_two_live_writers_count_every_input_once(settings: Settings, partition: int) -> None:
    times_lost = asyncio.run(race(settings, partition))
    assert min(times_lost) > 0, "each must have been the zombie at least once"
    owner = asyncio.run(restored(settings, partition))
    assert (owner.image.values, owner.image.applied) == (counted(INPUTS), INPUTS - 1)
    assert last_values(settings, partition) == counted(INPUTS)
