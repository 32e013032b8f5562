"""A worker process: settings in, all agents running over the partitions it is assigned."""

import asyncio
from importlib import import_module

import faust
from touchstream.streams.admin import topic_sources
from touchstream.streams.app import FaustApp
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.kafka_log import KafkaLog
from touchstream.streams.lane import Ports
from touchstream.streams.settings import Settings
from touchstream.streams.telemetry import Telemetry
from touchstream.streams.topics import CUSTOMER, IDENTITY, TOUCHPOINTS

AGENTS = ("ingest", "stitch", "profile")


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises a TouchstreamError when it cannot start."""
    telemetry = Telemetry()
    sources = topic_sources(settings, (*TOUCHPOINTS, IDENTITY, CUSTOMER))
    kafka = KafkaLog(settings)
    writer = ClickHouseWriter(settings, telemetry, telemetry.rejected)
    ports = Ports(kafka, writer, telemetry, settings.partitions, sources)

    async def close() -> None:
        await writer.close()
        await kafka.close()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = FaustApp(settings, ports, telemetry, close)
    for name in AGENTS:
        import_module(f"touchstream.agents.{name}").attach(app)
    telemetry.serve(settings)
    worker = faust.Worker(app.faust, loglevel=settings.log_level.upper(), loop=loop)
    worker.execute_from_commandline()
