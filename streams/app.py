"""The Faust app of a worker: agents over chunks, one lane a partition, our own delivery rules.

Raw bytes in, one agent a topic set with concurrency 1, no Faust tables, nothing acknowledged by
Faust itself: a chunk is acknowledged by its lane, when it is durable.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import faust
from faust.types import TP

from touchstream.streams import chunk_transport
from touchstream.streams.chunk_transport import Chunk, ChunkConsumer, ConsumerObserver
from touchstream.streams.duties import Duties
from touchstream.streams.errors import EXIT_SOFTWARE
from touchstream.streams.lane import Ports
from touchstream.streams.lanes import Lanes, Work
from touchstream.streams.records import Place, Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Stage
from touchstream.streams.telemetry import Telemetry

log = logging.getLogger(__name__)
STOP_SECONDS = 4.0
"""How long chunks in work may take to be finished when a worker stops."""
FETCH_BYTES = 4 << 20
"""Most that is fetched of a partition at once; it also bounds a chunk."""

METADATA_MAX_AGE_MS = 5_000
"""How old the consumer's knowledge of leaders may be. aiokafka does not ask anew when it looks for
a first offset at a broker that leads no more, and meanwhile fetches nothing from that broker."""


class App(Protocol):
    """What an agent attaches itself to."""

    @property
    def settings(self) -> Settings:
        """Settings of the worker."""

    def run(self, stage: Stage, topics: Sequence[str], *, stateful: bool = True) -> None:
        """Run a stage over all partitions of the topics that this worker is assigned."""

    def on_stop(self, stop: Callable[[], object]) -> None:
        """Call `stop` when the worker stops."""


class FaustApp(ConsumerObserver):
    """Stages as Faust agents."""

    def __init__(
        self,
        settings: Settings,
        ports: Ports,
        telemetry: Telemetry,
        close: Callable[[], Awaitable[None]],
        *,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        """`close` is awaited when the last chunk is done."""
        chunk_transport.register()
        (settings.data_directory / "faust").mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.faust = faust.App(settings.group, **faust_settings(settings))
        limit = settings.dead_letter_limit
        self.lanes = Lanes(ports, self, end_process, dead_letter_limit=limit)
        self.duties = Duties()
        self._health = ports.health
        self._telemetry = telemetry
        self._close = close
        self._end_process = end_process
        self._agents: dict[str, str] = {}
        self._stops: list[Callable[[], object]] = []
        self.faust.on_partitions_revoked.connect(self._on_revoked)
        self.faust.on_partitions_assigned.connect(self._on_assigned)
        self.faust.on_before_shutdown.connect(self._on_shutdown)

    def run(self, stage: Stage, topics: Sequence[str], *, stateful: bool = True) -> None:
        """Run a stage as a Faust agent."""
        names = [self.settings.topic_prefix + topic for topic in topics]
        self._agents.update(dict.fromkeys(topics, stage.name))
        raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes}
        raw |= {"key_serializer": "raw", "value_serializer": "raw"}

        async def agent(chunks: Any) -> None:
            with self._guard(stage.name):
                async for chunk in chunks.noack().events():
                    place, work = self._work(chunk)
                    self.lanes.put(stage, stateful, place, work)

        self.faust.agent(self.faust.topic(*names, **raw), name=stage.name)(agent)

    @contextmanager
    def _guard(self, agent: str) -> Iterator[None]:
        """End the process however the body of an agent ends, unless the worker stops.

        Faust would start the agent again without the chunk it had, and commit the next one.
        """
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if not self.faust.should_stop:
                self._end(agent)
            raise
        except BaseException:
            self._end(agent)
            raise
        if not self.faust.should_stop:
            self._end(agent)

    def _end(self, agent: str) -> None:
        try:
            log.critical("stopping before acknowledgement: agent=%s", agent, exc_info=True)
        finally:  # with no memory left, even the log fails
            self._end_process(EXIT_SOFTWARE)

    def on_stop(self, stop: Callable[[], object]) -> None:
        """Call `stop`, in a thread, when the last chunk is done."""
        self._stops.append(stop)

    async def seek_back(self, place: Place, offset: int) -> None:
        """Read a partition again from `offset`."""
        topic, partition = place
        tp = TP(self.settings.topic_prefix + topic, partition)
        self._health.abandoned(place)
        await self._consumer.seek_back(tp, offset)

    def polled(self) -> None:
        """The consumer has asked for records."""
        self._health.polled()

    def received(self, tp: TP) -> None:
        """The consumer has a chunk."""
        self._health.received(self._place(tp))

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """Kafka knows these offsets."""
        for tp, offset in offsets.items():
            self._health.committed(self._place(tp), offset)

    @property
    def _consumer(self) -> ChunkConsumer:
        return cast(ChunkConsumer, self.faust.consumer)

    def _work(self, event: Any) -> tuple[Place, Work]:
        chunk: Chunk = event.value
        topic, partition = place = self._place(event.message.tp)
        records = [
            Record(topic, partition, r.offset, r.timestamp, r.key, r.value) for r in chunk.records
        ]
        self._lag(topic, partition, chunk.highwater - records[0].offset)

        def acknowledge() -> None:
            self._lag(topic, partition, chunk.highwater - records[-1].offset - 1)
            self._health.stored(place)
            if self._consumer.acknowledge(event.message):
                self._health.acknowledged(place, records[-1].offset + 1)

        def release() -> None:
            self._health.computed(place)
            self._consumer.release(event.message.tp)

        def hold(rejected: int) -> None:
            self._health.computed(place)
            self._health.held(place, rejected)
            self._telemetry.hold(self._agents[topic], topic, partition)
            self._consumer.hold(event.message.tp)
            log.error(
                "not read any more: topic=%s partition=%d rejected_in_a_row=%d",
                topic,
                partition,
                rejected,
            )

        committed = self._consumer.committed_to(event.message.tp)
        return place, Work(records, acknowledge, release, hold, committed)

    def _lag(self, topic: str, partition: int, records: int) -> None:
        self._telemetry.lag(self._agents[topic], topic, partition, records)

    def _place(self, tp: TP) -> Place:
        return tp.topic[len(self.settings.topic_prefix) :], tp.partition

    async def _on_revoked(self, app: Any, /, *tps: Any, **kwargs: Any) -> None:
        self._follow_consumer()
        places = [self._place(tp) for tp in tps[0]]
        await self.duties.revoke(places)
        await self.lanes.revoke(places)
        self._health.revoked(places)
        for topic, partition in places:
            self._telemetry.forget(self._agents[topic], topic, partition)

    def _follow_consumer(self) -> None:
        """Hear of what the consumer does, from before it has its first partition."""
        self._consumer.observer = self
        self._health.watch("the consumer", self._consumer.thread_loop)

    async def _on_assigned(self, app: Any, /, *tps: Any, **kwargs: Any) -> None:
        places = [self._place(tp) for tp in tps[0]]
        self._health.assigned(places)
        self.lanes.assign(places)
        self.duties.assign(places)

    async def _on_shutdown(self, app: Any, /, *args: Any, **kwargs: Any) -> None:
        await self.duties.stop()
        await self.lanes.stop(STOP_SECONDS)
        for stop in self._stops:
            await asyncio.to_thread(stop)
        await self._close()


def faust_settings(settings: Settings) -> dict[str, Any]:
    """Faust's own settings: no web server, no tables, no leader topic, no topic creation."""
    return {
        "broker": broker_urls(settings.kafka_bootstrap_servers),
        "broker_credentials": credentials(settings),
        "broker_session_timeout": settings.session_timeout_seconds,
        "broker_request_timeout": 2 * settings.session_timeout_seconds,
        "broker_rebalance_timeout": settings.rebalance_timeout_seconds,
        "broker_heartbeat_interval": settings.session_timeout_seconds / 4,
        "broker_commit_interval": 1.0,
        "broker_max_poll_records": settings.chunk_records,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": FETCH_BYTES,
        "consumer_metadata_max_age_ms": METADATA_MAX_AGE_MS,
        "datadir": settings.data_directory / "faust",
        "stream_wait_empty": False,
        "table_standby_replicas": 0,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "topic_partitions": settings.partitions,
        "topic_replication_factor": settings.replication_factor,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
    }


def broker_urls(servers: str) -> list[str]:
    """One URL a server, for our transport; Faust does not split `host:port,host:port` itself."""
    return [f"{chunk_transport.SCHEME}://{server.strip()}" for server in servers.split(",")]


def credentials(settings: Settings) -> Any:
    """Faust's credentials for the security protocol; None for plain text."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if settings.kafka_security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.kafka_password.get_secret_value(),
        ssl_context=context,
    )
