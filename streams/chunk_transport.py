"""A Faust transport that hands an agent one event for each fetched run of records of one partition.

Plain Faust moves one record at a time through channel, queue, event and acknowledgement, and costs
a hundred times more. Here an event's value is a `Chunk` of raw aiokafka records, its offset the
last one's. A partition is not polled until its chunk is computed; what arrives meanwhile makes the
next chunk larger, and that is the back-pressure. Registered for broker URLs `chunk://host:port`.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiokafka.errors import IllegalStateError, InvalidSessionTimeoutError
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AiokafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AiokafkaTransport
from faust.types import TP, ConsumerMessage, Message
from mode import Service

from touchstream.streams.errors import EXIT_CONFIGURATION, EXIT_SOFTWARE

log = logging.getLogger(__name__)
SCHEME = "chunk"
POLL_WHILE_BUSY_SECONDS = 0.02
"""How soon a partition whose chunk was computed is polled again."""

WATCH_SECONDS = 1.0
"""Time between two looks at how the group is doing."""

SEEK_SHARE = 0.8
"""Of `broker_request_timeout`: how long Kafka may take to say what is committed."""

FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch when there is nothing new."""


@dataclass(frozen=True)
class Chunk:
    """A run of aiokafka records of one partition, and where it ended when they were fetched."""

    records: list[Any]
    highwater: int


def end_process(reason: BaseException) -> None:
    """Say why, and end."""
    log.critical("the consumer failed: %r", reason, exc_info=reason)
    os._exit(EXIT_SOFTWARE)


class ConsumerObserver:
    """What the consumer tells of itself; here to nobody."""

    def polled(self) -> None:
        """Kafka was asked for records."""

    def received(self, tp: TP) -> None:
        """A chunk was fetched."""

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """Kafka knows these offsets."""


class BriskThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, which waits less for quiet partitions and notices what went wrong.

    One fetch is under way at a time. Faust lets the broker hold it for 1.5 s while the partitions
    it asks for are quiet, and a partition that was busy meanwhile waits as long.
    """

    @Service.timer(WATCH_SECONDS)
    async def _watch_group(self) -> None:
        await self.check_group()

    async def check_group(self) -> None:
        """End the process when it cannot be a member of its group: Faust would not ask."""
        coordinator = self._consumer._coordinator if self._consumer else None
        try:
            if coordinator:
                coordinator.check_errors()
        except Exception as error:
            await self.consumer.crash(error)

    def _create_worker_consumer(self, transport: Any) -> Any:
        client = super()._create_worker_consumer(transport)
        client._fetch_max_wait_ms = FETCH_WAIT_MS
        return client

    async def crash(self, exc: BaseException) -> None:
        """A commit failed, or the thread: what is acknowledged is durable, so just begin again."""
        if self.app.should_stop:
            log.warning("the consumer failed while the worker stopped: %r", exc)
        else:
            end_process(exc)


class ChunkConsumer(AiokafkaConsumer):
    """Faust's consumer, by chunks; one chunk of a partition is computed at a time."""

    observer = ConsumerObserver()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._busy: set[TP] = set()
        self._held: set[TP] = set()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BriskThread:
        return BriskThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109  Faust's signature
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield a chunk for each idle partition that has records."""
        try:
            records, active = await self._wait_next_records(timeout)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, self.consumer_stopped_errors):
                raise
            await self.crash(error)
            return
        self.observer.polled()
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._give_back()
            return
        for tp, run in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if run and (active is None or tp in active):
                self._busy.add(tp)
                self.observer.received(tp)
                yield tp, self._chunk(tp, run, generation)

    async def _give_back(self) -> None:
        """What was fetched during a rebalance is fetched again.

        Where a partition has gone meanwhile there is nothing to give back; Faust seeks once more
        before it goes on with those that it has then.
        """
        try:
            await self.perform_seek()
        except IllegalStateError as error:
            log.info("a partition has gone during a rebalance: %s", error)

    async def perform_seek(self) -> None:
        """Go to what is committed; ends the process when Kafka does not say that in time.

        Faust gives up after `broker_request_timeout`, and takes that for the end of the worker: it
        would keep its partitions and never fetch again.
        """
        seconds = SEEK_SHARE * self.app.conf.broker_request_timeout
        try:
            await asyncio.wait_for(super().perform_seek(), seconds)
        except TimeoutError as error:
            if not self.app.should_stop:
                await self.crash(error)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109  Faust's signature
    ) -> Any:
        idle = (active_partitions or set()) - self._busy - self._held
        if self._busy:
            timeout = POLL_WHILE_BUSY_SECONDS
        if not idle:
            await self.sleep(timeout)
            return {}
        return await super()._getmany(idle, timeout)

    def _chunk(self, tp: TP, run: list[Any], generation: int) -> ConsumerMessage:
        last = run[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            cast(Any, Chunk(run, self.highwater(tp))),
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )

    @property
    def thread_loop(self) -> asyncio.AbstractEventLoop:
        """Event loop of the thread that talks to Kafka."""
        return self._thread.thread_loop

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        is_committed = bool(await super()._commit(offsets))
        if is_committed:
            self.observer.committed(offsets)
        return is_committed

    def committed_to(self, tp: TP) -> int:
        """Offset before which everything of a partition is committed."""
        return self._committed_offset[tp] or 0

    def release(self, tp: TP) -> None:
        """The chunk is computed: its partition may be polled again."""
        self._busy.discard(tp)

    def hold(self, tp: TP) -> None:
        """Do not poll this partition any more, as long as it is ours."""
        self._held.add(tp)

    def acknowledge(self, message: Message) -> bool:
        """The chunk is durable; returns whether there is something new to commit."""
        return bool(super().ack(message))

    def ack(self, message: Message) -> bool:
        """Nothing: Faust acknowledges chunks that it skips around a rebalance."""
        return False

    async def seek_back(self, tp: TP, offset: int) -> None:
        """Abandon the partition's chunk in work and read again from `offset`."""
        await self.seek(tp, offset)
        self._busy.discard(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Chunks in work are abandoned; their partitions are read again by whoever gets them."""
        self._busy.clear()
        self._held.clear()
        await super().on_partitions_revoked(revoked)

    async def crash(self, reason: BaseException) -> None:
        """End the process: Faust would go on without a consumer, alive and doing nothing."""
        if isinstance(reason, InvalidSessionTimeoutError):
            log.critical(
                "Kafka refuses TOUCHSTREAM_SESSION_TIMEOUT_SECONDS: choose one between its"
                " group.min.session.timeout.ms (6 seconds by default) and"
                " group.max.session.timeout.ms"
            )
            os._exit(EXIT_CONFIGURATION)
        end_process(reason)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets between two chunks are no gap."""

    def _new_offset(self, tp: TP) -> int | None:
        """The end of the last chunk acknowledged; chunks of a partition come in order.

        Faust's own arithmetic stalls on chunks (50,000 records processed, 4,000 committed).
        """
        acknowledged = self._acked[tp]
        if not acknowledged:
            return None
        last: int = max(acknowledged)
        acknowledged.clear()
        self._acked_index[tp].clear()
        return last + 1


class ChunkTransport(AiokafkaTransport):
    """The aiokafka transport with the chunking consumer."""

    Consumer = ChunkConsumer


def register() -> None:
    """Make `chunk://` known to Faust."""
    TRANSPORTS.aliases[SCHEME] = f"{ChunkTransport.__module__}:{ChunkTransport.__name__}"
