"""One partition followed from its beginning by every worker, for what all of them must know.

`start` returns when everything that is there has been applied; then a thread goes on. What cannot
be read or applied ends the process: a worker must not go on without knowing what the others know.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from touchstream.streams.errors import EXIT_SOFTWARE, ConfigurationError, TransientError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings

log = logging.getLogger(__name__)
START_SECONDS = 30.0
POLL_SECONDS = 0.5


class Follower:
    """Applies every record of a partition, in order."""

    def __init__(
        self,
        settings: Settings,
        place: tuple[str, int],
        apply: Callable[[Record], object],
        *,
        end_process: Callable[[int], object] = os._exit,
        connect: Callable[[dict[str, Any]], Consumer] = Consumer,
    ) -> None:
        """`place` is logical topic and partition; `apply` is called in the thread, too."""
        self._settings = settings
        self._topic, self._partition = place
        self._apply = apply
        self._end_process = end_process
        self._connect = connect
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Apply what is there, then follow; raises when it cannot be read."""
        consumer = self._connect(follower_config(self._settings))
        try:
            name = self._settings.topic_prefix + self._topic
            consumer.assign([TopicPartition(name, self._partition, OFFSET_BEGINNING)])
            self._read_to_end(consumer)
        except BaseException:
            consumer.close()
            raise
        name = f"follower-{self._topic}"
        self._thread = threading.Thread(target=self._follow, args=(consumer,), name=name)
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Stop following; returns when the thread has ended."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _read_to_end(self, consumer: Consumer) -> None:
        while (message := consumer.poll(START_SECONDS)) is not None:
            if self._take(message):
                return
        raise TransientError(
            f"Kafka said nothing of {self._topic} for {START_SECONDS:g} s: is"
            f" {self._settings.kafka_bootstrap_servers} up?"
        )

    def _follow(self, consumer: Consumer) -> None:
        try:
            while not self._stopping.is_set():
                message = consumer.poll(POLL_SECONDS)
                if message is not None:  # a message without a value is falsy
                    self._take(message)
        except BaseException:
            log.exception("stopping: topic=%s partition=%d", self._topic, self._partition)
            self._end_process(EXIT_SOFTWARE)
        finally:
            consumer.close()

    def _take(self, message: Message) -> bool:
        """Apply a record; returns whether this is the end of the partition."""
        error = message.error()
        if error is None:
            self._apply(self._record(message))
            return False
        code = error.code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise ConfigurationError("topics are missing: run `touchstream topics apply`")
        if code != KafkaError._PARTITION_EOF and (error.fatal() or not error.retriable()):
            raise TransientError(f"reading {self._topic} failed: {error}")
        return bool(code == KafkaError._PARTITION_EOF)

    def _record(self, message: Message) -> Record:
        offset: Any = message.offset()
        at_ms = message.timestamp()[1]
        key, value = message.key(), message.value()
        return Record(self._topic, self._partition, offset, at_ms, key, value)


def follower_config(settings: Settings) -> dict[str, Any]:
    """Configuration of a consumer that joins no group and says where a partition ends."""
    return {
        **kafka_config(settings),
        "group.id": f"{settings.group}-follower",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
