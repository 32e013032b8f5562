"""Appending to Kafka: which errors are waited out."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.log import Entry
from touchstream.streams.settings import Settings

ENTRIES: list[Entry] = [(b"key", b"value", ())]


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
