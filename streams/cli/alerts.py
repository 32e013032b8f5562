"""`touchstream alerts`: follow `cx.alerts`, a line for each alert."""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from touchstream.streams.admin import unreachable
from touchstream.streams.alerts import Alert, decode_alert
from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.printing import moment, say
from touchstream.streams.errors import (
    EXIT_CONFIGURATION,
    ConfigurationError,
    PoisonError,
    TransientError,
)
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.settings import Settings, load_settings
from touchstream.streams.topics import ALERTS

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 10.0
Connect = Callable[[dict[str, Any]], Consumer]


def alerts_command(
    kind: Annotated[str, typer.Option(help="Only alerts of this kind, such as churn_risk.")] = "",
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="First those that are there already.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each as a line of JSON.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many; 0: at Ctrl-C.")] = 0,
) -> None:
    """Follow alerts as they are raised, until Ctrl-C.

    Alerts are kept in Kafka for 7 days; the view alerts has them all.

    Examples:

      touchstream alerts

      touchstream alerts --kind churn_risk --from-beginning --json --limit 10
    """
    with one_line_errors(EXIT_CONFIGURATION):
        try:
            alerts = follow_alerts(load_settings(), from_beginning=from_beginning)
            wanted = (alert for alert in alerts if kind in ("", alert.kind))
            for alert in islice(wanted, limit or None):
                say(json.dumps(msgspec.to_builtins(alert)) if as_json else line_of(alert))
                sys.stdout.flush()
        except KeyboardInterrupt:
            return


def line_of(alert: Alert) -> str:
    """Time, kind, customer or identity, and reason."""
    who = alert.customer_id or alert.identity or "-"
    return f"{moment(alert.raised_at):%Y-%m-%d %H:%M:%S}  {alert.kind}  {who}  {alert.reason}"


def follow_alerts(
    settings: Settings, *, from_beginning: bool = False, connect: Connect = Consumer
) -> Iterator[Alert]:
    """Every alert as it comes in; what is none is left out, and said on stderr.

    A partition's records before its first end are old ones: some brokers take the start of the last
    batch for the end.
    """
    consumer, at_end = connect(_config(settings)), set[int | None]()
    try:
        consumer.assign(_places(consumer, settings, from_beginning))
        while True:
            message = consumer.poll(POLL_SECONDS)
            if message is None:
                continue
            partition, error = message.partition(), message.error()
            if error is None:
                if from_beginning or partition in at_end:
                    yield from _alert_of(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(partition)
            elif error.fatal() or not error.retriable():
                raise TransientError(f"reading {ALERTS} failed: {error}")
    finally:
        consumer.close()


def _alert_of(message: Any) -> Iterator[Alert]:
    try:
        yield decode_alert(message.value())
    except PoisonError as problem:
        place = f"{ALERTS}[{message.partition()}] offset {message.offset()}"
        say(f"touchstream: left out {place}: {problem}", err=True)


def _places(consumer: Consumer, settings: Settings, beginning: bool) -> list[TopicPartition]:
    name = settings.topic_prefix + ALERTS
    try:
        topic = consumer.list_topics(name, timeout=TIMEOUT_SECONDS).topics[name]
    except KafkaException as error:
        raise unreachable(settings, error) from None
    if topic.error is not None or not topic.partitions:
        raise ConfigurationError(f"Kafka has no topic {name}: run `touchstream topics apply`")
    start = OFFSET_BEGINNING if beginning else OFFSET_END
    return [TopicPartition(name, number, start) for number in topic.partitions]


def _config(settings: Settings) -> dict[str, Any]:
    return {
        **kafka_config(settings),
        "group.id": f"{settings.group}-alerts",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "log_level": 0,
    }
