"""One state partition over a log in memory: claims, batches, gaps, repairs and restores."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.streams.changelog import CLAIM, MARKER, Changelog, Image
from touchstream.streams.errors import OwnershipLost
from touchstream.streams.log import Entry, Reading
from touchstream.streams.memory_log import MemoryLog

T = TypeVar("T")
TOPIC, SOURCE, EPOCH_BYTES = "cx.state.test", 7, 4


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


class RetryingLog(MemoryLog):
    """Appends state batches twice, as a client does whose first answer was lost."""

    def __init__(self, answered: int) -> None:
        super().__init__()
        self.answered = answered

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        offset = self.extend(topic, partition, entries)
        if entries[0][0] == CLAIM:
            return offset
        return (offset, self.extend(topic, partition, entries))[self.answered]


class RecordingLog(MemoryLog):
    """Remembers how it was used, and runs `before_append` once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Entry]] = []
        self.records_read = 0
        self.before_append: Coroutine[Any, Any, None] | None = None

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        first, self.before_append = self.before_append, None
        if first:
            await first
        self.batches.append(list(entries))
        return await super().append(topic, partition, entries)

    async def read(self, topic: str, partition: int, start: int) -> Reading:
        """One record at a time."""
        async for records in super().read(topic, partition, start):
            self.records_read += len(records)
            for record in records:
                yield [record]


def changelog(log: MemoryLog, source: int = SOURCE) -> Changelog:
    return Changelog(log, TOPIC, 0, source)


def taken(log: MemoryLog, source: int = SOURCE) -> Changelog:
    writer = changelog(log, source)
    run(writer.take())
    return writer


def image_of(log: MemoryLog, source: int = SOURCE) -> Image:
    """What a reader makes of the log."""
    image = Image(source)
    for record in log.read_now(TOPIC, 0, 0):
        image.read(record)
    return image


def compacted(log: MemoryLog) -> dict[bytes, bytes]:
    """Last value of every key, whoever wrote it: what compaction leaves."""
    last = {r.key: (r.value or b"")[EPOCH_BYTES:] for r in log.partitions[TOPIC, 0] if r.key}
    return {key: value for key, value in last.items() if key not in (CLAIM, MARKER)}


def usurped(log: MemoryLog) -> tuple[Changelog, Changelog]:
    """A writer that has lost its partition without knowing it, and the owner."""
    stale = taken(log)
    run(stale.append({b"a": b"true a", b"b": b"true b"}, 10))
    return stale, taken(log)


def write_stale(stale: Changelog, changes: dict[bytes, bytes], applied: int = 99) -> None:
    with pytest.raises(OwnershipLost):
        run(stale.append(changes, applied))


def test_every_taking_claims_a_higher_epoch() -> None:
    log = MemoryLog()
    for _ in range(3):
        taken(log)
    claims = [record.value or b"" for record in log.partitions[TOPIC, 0] if record.key == CLAIM]
    assert [int.from_bytes(claim, "big") for claim in claims] == [1, 2, 3]


def test_state_and_marker_are_appended_as_one_batch() -> None:
    log = RecordingLog()
    writer = taken(log)
    run(writer.append({b"a": b"1", b"b": b"2"}, 5))
    assert [key for key, _, _ in log.batches[-1]] == [MARKER, b"a", b"b"]
    assert len(log.batches) == 2  # the claim and this one


def test_appended_changes_are_kept_in_memory() -> None:
    writer = taken(MemoryLog())
    run(writer.append({b"a": b"1"}, 5))
    assert (writer.image.values, writer.image.applied) == ({b"a": b"1"}, 5)


def test_failed_append_keeps_nothing_in_memory() -> None:
    class Down(MemoryLog):
        async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
            if entries[0][0] != CLAIM:
                raise ConnectionError
            return await super().append(topic, partition, entries)

    writer = taken(Down())
    with pytest.raises(ConnectionError):
        run(writer.append({b"a": b"1"}, 5))
    assert (writer.image.values, writer.image.applied) == ({}, -1)


CHANGES = st.dictionaries(
    st.sampled_from([b"a", b"b", b"c", b"d"]), st.binary(max_size=3), max_size=4
)


@given(st.lists(CHANGES, max_size=8))
def test_restored_state_equals_the_writers(chunks: list[dict[bytes, bytes]]) -> None:
    log = MemoryLog()
    writer = taken(log)
    for applied, changes in enumerate(chunks):
        run(writer.append(changes, applied))
    restored = taken(log).image
    assert restored.values == writer.image.values
    assert restored.applied == writer.image.applied == len(chunks) - 1


@given(st.lists(CHANGES, max_size=8))
def test_size_follows_the_values(chunks: list[dict[bytes, bytes]]) -> None:
    log = MemoryLog()
    writer = taken(log)
    for changes in chunks:
        run(writer.append(changes, 1))
    size = sum(len(key) + len(value) for key, value in writer.image.values.items())
    assert writer.image.size_bytes == taken(log).image.size_bytes == size


def test_removed_key_stays_removed_after_a_restore() -> None:
    log = MemoryLog()
    writer = taken(log)
    run(writer.append({b"a": b"1", b"b": b"2"}, 1))
    run(writer.append({b"a": b""}, 2))
    assert taken(log).image.values == {b"b": b"2"}


def test_removed_key_is_forgotten_when_kafka_compacts_the_topic() -> None:
    log = MemoryLog()
    writer = taken(log)
    run(writer.append({b"k": b"v"}, 1))
    run(writer.append({b"k": b""}, 2))
    stored = log.partitions[TOPIC, 0]
    assert [each.value for each in stored if each.key == b"k"][-1] is None
    assert image_of(log).values == {}


def test_stale_removal_is_repaired_over() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    run(owner.append({b"k": b"v"}, 11))
    write_stale(stale, {b"k": b""})
    run(owner.append({}, 12))
    assert image_of(log).values[b"k"] == b"v"
    assert compacted(log)[b"k"].endswith(b"v")


def test_marker_read_later_does_not_go_back() -> None:
    log = MemoryLog()
    writer = taken(log)
    run(writer.append({}, 5))
    run(writer.append({}, 3))
    assert taken(log).image.applied == 5


def test_marker_of_another_source_does_not_count() -> None:
    log = MemoryLog()
    run(taken(log).append({b"a": b"1"}, 5))
    recreated = taken(log, source=8)
    assert (recreated.image.applied, recreated.image.values) == (-1, {b"a": b"1"})


def test_marker_of_the_own_source_survives_markers_of_another() -> None:
    log = MemoryLog()
    run(taken(log).append({}, 5))
    run(taken(log, source=8).append({}, 70))
    assert taken(log).image.applied == 5


def test_stale_records_are_ignored_on_reading() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"a": b"stale", b"new": b"stale"})
    image = image_of(log)
    assert (image.values, image.applied) == (owner.image.values, 10)


def test_record_before_a_claim_still_counts() -> None:
    log = MemoryLog()
    _, owner = usurped(log)
    assert owner.image.values == {b"a": b"true a", b"b": b"true b"}


def test_owner_repairs_over_stale_records_on_its_next_append() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"a": b"stale"})
    run(owner.append({b"b": b"newer b"}, 11))
    assert compacted(log) == owner.image.values == {b"a": b"true a", b"b": b"newer b"}


def test_repair_removes_a_key_that_only_the_stale_writer_had() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"new": b"stale"})
    run(owner.append({}, 11))
    assert compacted(log)[b"new"] == b""


def test_owners_new_value_wins_over_a_stale_one_of_the_same_key() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"a": b"stale"})
    run(owner.append({b"a": b"newer a"}, 11))
    assert compacted(log)[b"a"] == owner.image.values[b"a"] == b"newer a"


def test_taking_repairs_over_stale_records() -> None:
    log = MemoryLog()
    stale, _ = usurped(log)
    write_stale(stale, {b"a": b"stale"})
    taken(log)
    assert compacted(log) == {b"a": b"true a", b"b": b"true b"}


def test_state_repaired_on_taking_can_be_restored() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"a": b"stale"}, applied=99)
    taken(log)
    image = image_of(log)
    assert (image.values, image.applied) == (owner.image.values, 10)


def test_nothing_is_repaired_that_the_owner_has_written_over_itself() -> None:
    log = RecordingLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"a": b"stale"})
    log.batches.clear()
    run(owner.append({b"a": b"newer a"}, 11))
    assert len(log.batches) == 1


def test_late_claim_of_a_lower_epoch_takes_nothing() -> None:
    log = MemoryLog()
    _, owner = usurped(log)
    log.extend(TOPIC, 0, [(CLAIM, b"\x00\x00\x00\x01", ()), (b"a", b"\x00\x00\x00\x01stale", ())])
    run(owner.append({b"b": b"newer b"}, 11))
    assert owner.image.values == image_of(log).values == {b"a": b"true a", b"b": b"newer b"}


def test_stale_marker_is_repaired_over() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    write_stale(stale, {}, applied=99)
    run(owner.append({}, 11))
    markers = [record.value or b"" for record in log.partitions[TOPIC, 0] if record.key == MARKER]
    assert int.from_bytes(markers[-1][-8:], "big") == 11


def test_higher_epoch_in_the_gap_is_loss_of_ownership() -> None:
    stale, _ = usurped(MemoryLog())
    with pytest.raises(OwnershipLost, match=r"cx\.state\.test\[0\]"):
        run(stale.append({b"a": b"stale"}, 99))


def test_lost_write_stays_out_of_the_losers_memory() -> None:
    stale, _ = usurped(MemoryLog())
    write_stale(stale, {b"a": b"stale"})
    assert (stale.image.values[b"a"], stale.image.applied) == (b"true a", 10)


def test_loser_may_take_the_partition_back() -> None:
    log = MemoryLog()
    stale, owner = usurped(log)
    run(owner.append({b"a": b"newer a"}, 11))
    run(stale.take())
    run(stale.append({b"b": b"newer b"}, 12))
    assert stale.image.values == compacted(log) == {b"a": b"newer a", b"b": b"newer b"}


@pytest.mark.parametrize("answered", [0, 1])  # the offset of which of the two is answered
def test_retried_batch_is_harmless(answered: int) -> None:
    log = RetryingLog(answered)
    writer = taken(log)
    for applied in range(3):
        run(writer.append({b"a": b"%d" % applied, b"%d" % applied: b"x"}, applied))
    assert writer.image.values == image_of(log).values == compacted(log)
    assert writer.image.applied == image_of(log).applied == 2


def test_batch_that_arrives_again_after_a_later_one_is_written_over() -> None:
    log = RecordingLog()
    writer = taken(log)
    run(writer.append({b"a": b"old"}, 1))
    run(writer.append({b"a": b"true"}, 2))
    log.extend(TOPIC, 0, log.batches[1])  # a request that was given up and sent again
    assert image_of(log).values == {b"a": b"true"}
    assert image_of(log).applied == 2
    run(writer.append({b"b": b"new"}, 3))
    assert writer.image.values == taken(log).image.values == {b"a": b"true", b"b": b"new"}
    assert compacted(log) == {b"a": b"true", b"b": b"new"}


def test_claim_that_does_not_land_where_expected_is_repeated_higher() -> None:
    log = RecordingLog()
    first, second = changelog(log), changelog(log)
    log.before_append = second.take()  # another writer claims between our reading and our claim
    run(first.take())
    with pytest.raises(OwnershipLost):
        run(second.append({}, 1))
    run(first.append({b"a": b"1"}, 1))
    assert image_of(log).values == {b"a": b"1"}


def test_taking_again_reads_only_what_is_new() -> None:
    log = RecordingLog()
    writer = taken(log)
    run(writer.append({b"a": b"1"}, 1))
    log.records_read = 0
    run(writer.take())
    assert log.records_read == 0


@pytest.mark.parametrize(
    "entry", [(None, b"\x00\x00\x00\x09x", ()), (b"a", None, ()), (b"a", b"\x00\x00", ())]
)
def test_record_that_no_writer_wrote_is_ignored(entry: Entry) -> None:
    log = MemoryLog()
    writer = taken(log)
    run(writer.append({b"a": b"1"}, 1))
    log.extend(TOPIC, 0, [entry])
    run(writer.append({b"b": b"2"}, 2))
    assert taken(log).image.values == writer.image.values == {b"a": b"1", b"b": b"2"}


class FailingLog(MemoryLog):
    """Refuses the append after the next `left`."""

    left = -1

    async def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        self.left -= 1
        if self.left == -1:
            raise ConnectionError
        return await super().append(topic, partition, entries)


def test_repair_that_failed_is_made_when_the_partition_is_taken_anew() -> None:
    log = FailingLog()
    stale, owner = usurped(log)
    write_stale(stale, {b"a": b"stale"})
    log.left = 1  # the owner's own batch lands, its repair does not
    with pytest.raises(ConnectionError):
        run(owner.append({b"b": b"new b"}, 11))
    run(owner.take())
    assert compacted(log)[b"a"] == b"true a"
