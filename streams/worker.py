"""A worker process: settings in, all agents running over the partitions it is assigned."""

import asyncio
import gc
from importlib import import_module

import faust

from touchstream.streams.admin import topic_sources
from touchstream.streams.alerts import use_registry
from touchstream.streams.app import FaustApp
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.lane import Ports
from touchstream.streams.metric_push import MetricPusher, PushedGauges
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings
from touchstream.streams.telemetry import Telemetry
from touchstream.streams.topics import CUSTOMER, IDENTITY, OPERATIONS, TOUCHPOINTS
from touchstream.streams.watch import Watch

AGENTS = ("operate", "ingest", "stitch", "profile")


def check_tables(settings: Settings) -> None:
    """Raises ConfigurationError when a migration is missing, TransientError without ClickHouse."""
    if migrate(settings, dry_run=True):
        raise ConfigurationError("tables are missing: run `touchstream migrate`")


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises a TouchstreamError when it cannot start."""
    check_tables(settings)
    telemetry = Telemetry()
    sources = topic_sources(settings, (*TOUCHPOINTS, OPERATIONS, IDENTITY, CUSTOMER))
    kafka = KafkaLog(settings)
    writer = ClickHouseWriter(settings, telemetry, telemetry.rejected)
    ports = Ports(kafka, writer, telemetry, settings.partitions, sources)
    pusher = MetricPusher(settings, PushedGauges(telemetry.registry))
    watch = Watch(settings, kafka, writer, raised=lambda alert: telemetry.alerted(alert.kind))
    use_registry(settings)

    async def close() -> None:
        await pusher.close()
        await asyncio.to_thread(watch.close)
        await writer.close()
        await kafka.close()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = FaustApp(settings, ports, telemetry, close)
    app.duties.add(pusher.run)
    app.duties.add(watch.run)
    for name in AGENTS:
        import_module(f"touchstream.agents.{name}").attach(app)
    telemetry.serve(settings)
    # Millions of long-lived objects and few cycles: collect rarely, and not what is there already.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    worker = faust.Worker(app.faust, loglevel=settings.log_level.upper(), loop=loop)
    worker.execute_from_commandline()
