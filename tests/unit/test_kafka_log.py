"""Appending to Kafka: which errors are waited out. Reading: in pieces, and to an orderly end."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from touchstream.streams.kafka_log import Batches, KafkaLog
from touchstream.streams.log import Entry
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings

ENTRIES: list[Entry] = [(b"key", b"value", ())]


RECORD = Record("t", 0, 0, 0, None, b"value")


class FailingLog(KafkaLog):
    """Kafka takes the append after some errors."""

    def __init__(self, *errors: KafkaError) -> None:
        super().__init__(Settings())
        self.errors = list(errors)

    async def _append_once(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 7


@pytest.mark.parametrize("error", [KafkaConnectionError(), KafkaTimeoutError()])
def test_an_append_is_tried_again_while_kafka_is_away(error: KafkaError) -> None:
    assert asyncio.run(FailingLog(error, error).append("topic", 0, ENTRIES)) == 7


@pytest.mark.parametrize("error", [MessageSizeTooLargeError(), TopicAuthorizationFailedError()])
def test_an_append_that_kafka_refuses_is_not_tried_again(error: KafkaError) -> None:
    with pytest.raises(type(error)):
        asyncio.run(FailingLog(error).append("topic", 0, ENTRIES))


class BatchedLog(KafkaLog):
    """Gives these batches, and is in a thread meanwhile."""

    def __init__(self, given: list[list[Record]]) -> None:
        super().__init__(Settings())
        self.given = given
        self.is_closed = False
        self.is_in_thread, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def batches(self, topic: str, partition: int, start: int) -> Batches:
        try:
            for batch in self.given:
                self.is_in_thread.set()
                assert self.may_go_on.wait(10)
                yield batch
        finally:
            self.is_closed = True


def test_read_gives_batches_as_they_come_and_ends() -> None:
    log = BatchedLog([[RECORD], [], [RECORD, RECORD]])

    async def sizes() -> list[int]:
        return [len(records) async for records in log.read("t", 0, 0)]

    assert (asyncio.run(sizes()), log.is_closed) == ([1, 0, 2], True)


def test_cancelled_read_closes_its_consumer_when_the_thread_has_come_back() -> None:
    """The client must not be closed while another thread is in it."""
    log = BatchedLog([[RECORD]])
    log.may_go_on.clear()

    async def main() -> None:
        task = asyncio.create_task(anext(log.read("t", 0, 0)))
        await asyncio.to_thread(log.is_in_thread.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        assert not log.is_closed
        log.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert log.is_closed
