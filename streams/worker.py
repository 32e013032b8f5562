"""A worker process: settings in, all agents running over the partitions it is assigned."""

import asyncio
import gc
import logging
from collections.abc import Awaitable
from importlib import import_module
from typing import Any

import faust

from touchstream.streams.admin import topic_sources
from touchstream.streams.alerts import use_registry
from touchstream.streams.app import FaustApp
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.errors import EXIT_SOFTWARE, ConfigurationError
from touchstream.streams.health import Health, Limits
from touchstream.streams.health_http import serve
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.lane import Ports
from touchstream.streams.metric_push import MetricPusher, PushedGauges
from touchstream.streams.migrations import migrate
from touchstream.streams.running_time import RunningTime
from touchstream.streams.settings import Settings
from touchstream.streams.squash import Squasher
from touchstream.streams.telemetry import Telemetry
from touchstream.streams.topics import CUSTOMER, IDENTITY, OPERATIONS, TOUCHPOINTS
from touchstream.streams.watch import Watch
from touchstream.streams.watchdog import Outside, Watchdog, kafka_answers, print_stacks

log = logging.getLogger(__name__)
AGENTS = ("operate", "ingest", "stitch", "profile")
CLOSE_SECONDS = 1.0


def check_tables(settings: Settings) -> None:
    """Raises ConfigurationError when a migration is missing, TransientError without ClickHouse."""
    if migrate(settings, dry_run=True):
        raise ConfigurationError("tables are missing: run `touchstream migrate`")


class Worker(faust.Worker):
    """Faust's worker, which says when it begins to stop."""

    def __init__(self, app: faust.App, watchdog: Watchdog, **options: Any) -> None:
        super().__init__(app, **options)
        self._watchdog = watchdog

    async def stop(self) -> None:
        """Stop, in `STOP_LIMIT_SECONDS` or little more."""
        self._watchdog.stopping(EXIT_SOFTWARE if self.crashed else 0)
        await super().stop()


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises a TouchstreamError when it cannot start."""
    check_tables(settings)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    health, watchdog = watched(settings, loop)
    telemetry = Telemetry()
    sources = topic_sources(settings, (*TOUCHPOINTS, OPERATIONS, IDENTITY, CUSTOMER))
    kafka = KafkaLog(settings, health)
    writer = ClickHouseWriter(settings, telemetry, telemetry.rejected, server=health.clickhouse)
    ports = Ports(kafka, writer, telemetry, settings.partitions, sources, health)
    pusher = MetricPusher(settings, PushedGauges(telemetry.registry))
    watch = Watch(settings, kafka, writer, raised=lambda alert: telemetry.alerted(alert.kind))
    squasher = Squasher(settings)
    use_registry(settings)

    async def close() -> None:
        await asyncio.gather(
            in_time("metric push", pusher.close()),
            in_time("watch", asyncio.to_thread(watch.close)),
            in_time("squash", squasher.close()),
            in_time("ClickHouse", writer.close()),
            in_time("Kafka", kafka.close()),
        )

    app = FaustApp(settings, ports, telemetry, close)
    app.duties.add(pusher.run)
    app.duties.add(watch.run)
    app.duties.add(squasher.run)
    for name in AGENTS:
        import_module(f"touchstream.agents.{name}").attach(app)
    telemetry.show(health)
    serve(settings, telemetry.registry, health, lambda: watchdog.stuck)
    # Millions of long-lived objects and few cycles: collect rarely, and not what is there already.
    # The objects of a chunk, 100,000 and more, must not start a collection: it would find nothing.
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)
    watchdog.start()
    worker = Worker(app.faust, watchdog, loglevel=settings.log_level.upper(), loop=loop)
    worker.execute_from_commandline()


def watched(settings: Settings, loop: asyncio.AbstractEventLoop) -> tuple[Health, Watchdog]:
    """The health of what runs on a loop, and the thread that watches it."""
    process_time, loop_time = RunningTime(), RunningTime()
    limits = Limits(settings.ready_seconds, settings.stuck_seconds)
    health = Health(limits, clock=loop_time, process_clock=process_time)
    health.watch("the worker", loop, loop_time.tick)
    outside = Outside(
        kafka_answers=lambda: kafka_answers(settings),
        print_stacks=lambda: print_stacks(loop),
    )
    return health, Watchdog(health, process_time, outside)


async def in_time(name: str, closing: Awaitable[None]) -> None:
    """Close something; what does not end in time ends with the process."""
    try:
        await asyncio.wait_for(closing, CLOSE_SECONDS)
    except TimeoutError:
        log.warning("not closed in time: %s", name)
