"""`touchstream up`, `worker` and `topics apply`: the commands that start and prepare things."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.errors import EXIT_CONFIGURATION
from touchstream.streams.settings import load_settings


def up_command(
    directory: Annotated[
        Path | None, typer.Option(help="Where files and logs go.", show_default=".touchstream")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="How many workers.")] = 2,
    kafka_port: Annotated[int, typer.Option(help="Its port; 0 takes a free one.")] = 9092,
    clickhouse_port: Annotated[int, typer.Option(help="Its port; 0 takes a free one.")] = 8123,
    metrics_port: Annotated[int, typer.Option(help="/metrics of the first worker.")] = 9464,
) -> None:
    """Run broker, ClickHouse and workers on this machine until Ctrl-C.

    For trying, developing and testing: topics and tables start empty each time, and are gone when
    it stops. Everything listens on 127.0.0.1 only.

    Examples:

      touchstream up

      touchstream up --workers 1 --kafka-port 0 --clickhouse-port 0 --directory /tmp/try
    """
    from touchstream.streams.local.stack import LocalOptions, LocalStack

    options = LocalOptions(directory, workers, kafka_port, clickhouse_port, metrics_port)
    with (
        one_line_errors(EXIT_CONFIGURATION),
        LocalStack(load_settings(), options, on_restart=typer.echo) as stack,
    ):
        settings = stack.settings
        typer.echo(f"Kafka       {settings.kafka_bootstrap_servers}")
        typer.echo(
            f"ClickHouse  {settings.clickhouse_url}  database {settings.clickhouse_database}"
        )
        typer.echo(f"BI tools    user bi  password {stack.reader_token}  (may only read)")
        typer.echo(f"logs        {settings.data_directory}/logs")
        typer.echo("ready; Ctrl-C stops everything")
        sys.stdout.flush()
        try:
            stack.wait()
        except KeyboardInterrupt:
            typer.echo("stopping ...")


def worker_command() -> None:
    """Run one worker against the Kafka and ClickHouse of the settings, until SIGTERM or Ctrl-C.

    Needs nothing embedded. Topics and tables must exist: `touchstream topics apply` and
    `touchstream migrate` make them. Run as many workers as there is work, up to one a partition.

    Examples:

      TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 touchstream worker
    """
    from touchstream.streams.worker import run_worker

    with one_line_errors(EXIT_CONFIGURATION):
        run_worker(load_settings())


def topics_apply_command(
    alter: Annotated[
        bool, typer.Option("--alter", help="Also change topics that are configured otherwise.")
    ] = False,
) -> None:
    """Create the topics that are missing; says which of the others are configured otherwise.

    A shorter retention deletes records: topics that exist are changed with --alter only.

    Examples:

      touchstream topics apply

      touchstream topics apply --alter
    """
    from touchstream.streams.admin import alter_topics, apply_topics, topic_differences

    with one_line_errors(EXIT_CONFIGURATION):
        settings = load_settings()
        made = apply_topics(settings)
        for name in made:
            typer.echo(f"created {name}")
        differences = topic_differences(settings)
        if alter:
            alter_topics(settings, differences)
        for topic, key, found, wanted in differences:
            typer.echo(
                f"changed {topic}: {key} from {found} to {wanted}"
                if alter
                else f"{topic}: {key} is {found}, not {wanted}; --alter changes it"
            )
        if not made and not differences:
            typer.echo("all topics exist")
