"""Topics on the broker: created with their settings, checked, and identified."""

import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import Future
from hashlib import blake2b
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.retention import load_retention
from touchstream.streams.settings import Settings
from touchstream.streams.topics import TopicSpec, topic_specs

TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.1


class MissingTopicsError(ConfigurationError):
    """A topic that the broker asked does not know, or does not know yet."""


class Difference(NamedTuple):
    """An existing topic that is not configured as the settings say."""

    topic: str
    key: str
    found: str
    wanted: str


def admin_client(settings: Settings) -> AdminClient:
    """Administrative client; no connection is made yet."""
    quiet = {"log_level": 0, "socket.connection.setup.timeout.ms": 5000}
    return AdminClient({**kafka_config(settings), **quiet})


def apply_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; returns their names, changes no topic that exists.

    Raises TransientError when Kafka cannot be reached and ConfigurationError when a topic exists
    with another number of partitions.
    """
    client = admin_client(settings)
    existing = partition_counts(client, settings)
    wanted = wanted_topics(settings)
    wrong = {
        n: existing[n]
        for n in wanted
        if existing.get(n, settings.partitions) != settings.partitions
    }
    if wrong:
        raise ConfigurationError(
            f"topics exist with another number of partitions: {wrong}; set TOUCHSTREAM_PARTITIONS"
            " to that number, or use another TOUCHSTREAM_TOPIC_PREFIX"
        )
    missing = [
        NewTopic(name, settings.partitions, settings.replication_factor, config=spec.config)
        for name, spec in wanted.items()
        if name not in existing
    ]
    if missing:
        for created in client.create_topics(missing).values():
            _result(created, settings)
        _wait_until_known(client, settings, wanted)
    return [topic.topic for topic in missing]


def _wait_until_known(client: AdminClient, settings: Settings, names: Collection[str]) -> None:
    """Created topics reach the brokers one by one; whoever comes next must find them."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while unknown := set(names) - set(partition_counts(client, settings)):
        if time.monotonic() > deadline:
            raise TransientError(f"Kafka has created topics but does not show them: {unknown}")
        time.sleep(POLL_SECONDS)


def topic_differences(settings: Settings) -> list[Difference]:
    """Compare existing topics with the settings; changes none."""
    client = admin_client(settings)
    wanted = wanted_topics(settings)
    existing = partition_counts(client, settings)
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted if name in existing]
    found = client.describe_configs(resources) if resources else {}
    differences = []
    for resource, described in found.items():
        entries = _result(described, settings)
        for key, value in wanted[resource.name].config.items():
            has = entries[key].value if key in entries else "not known to the broker"
            if has != value:
                differences.append(Difference(resource.name, key, has, value))
    return differences


def alter_topics(settings: Settings, differences: Collection[Difference]) -> None:
    """Configure topics as the settings say; what they do not name stays as it is."""
    changes = defaultdict(list)
    for topic, key, _, wanted in differences:
        entry = ConfigEntry(key, wanted, incremental_operation=AlterConfigOpType.SET)
        changes[topic].append(entry)
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for topic, entries in changes.items()
    ]
    client = admin_client(settings)
    altered = client.incremental_alter_configs(resources) if resources else {}
    for each in altered.values():
        _result(each, settings)


def wanted_topics(settings: Settings) -> dict[str, TopicSpec]:
    """Every topic by its name on the broker."""
    specs = topic_specs(load_retention(settings).topics, settings.replication_factor)
    return {settings.topic_prefix + spec.name: spec for spec in specs}


def partition_counts(client: AdminClient, settings: Settings) -> dict[str, int]:
    """Number of partitions of every topic; raises TransientError when Kafka does not answer."""
    try:
        topics = client.list_topics(timeout=TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise unreachable(settings, error) from None
    return {name: len(topic.partitions) for name, topic in topics.items()}


def topic_sources(settings: Settings, topics: Collection[str]) -> dict[str, int]:
    """A number for each topic as it exists now, from Kafka's topic id.

    A topic that was deleted and created again has another number, so that its records are not
    taken for replays of its predecessor's. Created topics reach the brokers one by one, so one that
    a broker does not know is asked for again for 10 seconds; then a MissingTopicsError says so.
    """
    client = admin_client(settings)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return _sources(client, settings, topics)
        except MissingTopicsError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _sources(client: AdminClient, settings: Settings, topics: Collection[str]) -> dict[str, int]:
    names = TopicCollection([settings.topic_prefix + topic for topic in topics])
    described = client.describe_topics(names, request_timeout=TIMEOUT_SECONDS)
    prefix = len(settings.topic_prefix)
    return {
        name[prefix:]: _source(name, str(_result(found, settings).topic_id))
        for name, found in described.items()
    }


def _source(name: str, topic_id: str) -> int:
    digest = blake2b(f"{name}\0{topic_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _result(future: "Future[Any]", settings: Settings) -> Any:
    try:
        return future.result()
    except KafkaException as error:
        code = error.args[0].name()
        if code == "TOPIC_ALREADY_EXISTS":
            return None
        if code == "UNKNOWN_TOPIC_OR_PART":
            raise MissingTopicsError("topics are missing: run `touchstream topics apply`") from None
        if code.startswith("_"):
            raise unreachable(settings, error) from None
        raise ConfigurationError(f"Kafka refused: {error.args[0].str()}") from None


def unreachable(settings: Settings, error: KafkaException) -> TransientError:
    """The error that says where Kafka was looked for."""
    return TransientError(
        f"Kafka does not answer at {settings.kafka_bootstrap_servers}: start it, or set"
        f" TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS ({error.args[0].str()})"
    )
