"""Topics as `touchstream topics apply` makes them for production, as the brokers describe them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from brokers import KafkaCluster
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

from touchstream.streams.admin import apply_topics, topic_sources
from touchstream.streams.settings import Settings
from touchstream.streams.topics import IDENTITY

DAY_MS = 24 * 60 * 60 * 1000
CHANNELS = ("web", "chat", "phone", "social", "survey", "purchase", "email", "sms")
KEPT_DAYS = {
    **{f"touchpoints.{channel}": 7 for channel in (*CHANNELS, "in_person", "employee")},
    **{"cx.identity": 7, "cx.customer": 7, "cx.alerts": 7, "touchpoints.dead-letter": 30},
}
Configs = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    folder, careless = tmp_path_factory.mktemp("kafka"), {"min.insync.replicas": "1"}
    with KafkaCluster(folder, brokers=3, properties=careless) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def settings(cluster: KafkaCluster) -> Settings:
    settings = cluster.settings(Settings(partitions=2))
    apply_topics(settings)
    return settings


@pytest.fixture(scope="module")
def configs(cluster: KafkaCluster, settings: Settings) -> Configs:
    """Configuration of every topic, by its logical name."""
    client, prefix = cluster.admin(), settings.topic_prefix
    names = [name for name in client.list_topics(timeout=10).topics if name.startswith(prefix)]
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    found = {each.name: done.result() for each, done in client.describe_configs(asked).items()}
    return {
        name.removeprefix(prefix): {key: str(entry.value) for key, entry in entries.items()}
        for name, entries in found.items()
    }


def test_there_are_all_topics(configs: Configs) -> None:
    others = {"cx.operations", "cx.state.stitch", "cx.state.profile"}
    assert set(configs) == {*KEPT_DAYS, *others}


@pytest.mark.parametrize("topic", KEPT_DAYS)
def test_records_are_deleted_after_their_days(configs: Configs, topic: str) -> None:
    assert configs[topic]["cleanup.policy"] == "delete"
    assert int(configs[topic]["retention.ms"]) == KEPT_DAYS[topic] * DAY_MS


def test_operations_are_kept_for_ever(configs: Configs) -> None:
    kept = configs["cx.operations"]
    assert (kept["cleanup.policy"], kept["retention.ms"]) == ("delete", "-1")


@pytest.mark.parametrize("topic", ["cx.state.stitch", "cx.state.profile"])
def test_state_is_compacted_after_an_hour(configs: Configs, topic: str) -> None:
    kept = configs[topic]
    assert (kept["cleanup.policy"], kept["min.compaction.lag.ms"]) == ("compact", "3600000")
    assert int(kept["max.compaction.lag.ms"]) == DAY_MS


def test_a_batch_of_8_mib_fits_everywhere(configs: Configs) -> None:
    assert {config["max.message.bytes"] for config in configs.values()} == {str(9 << 20)}


def test_two_replicas_of_three_must_have_a_record(
    cluster: KafkaCluster, settings: Settings, configs: Configs
) -> None:
    assert {config["min.insync.replicas"] for config in configs.values()} == {"2"}
    assert {config["unclean.leader.election.enable"] for config in configs.values()} == {"false"}
    topics = cluster.admin().list_topics(timeout=10).topics
    for name in configs:
        partitions = topics[settings.topic_prefix + name].partitions.values()
        assert [len(partition.replicas) for partition in partitions] == [3, 3]


def test_a_topic_that_is_created_again_is_another_source(
    cluster: KafkaCluster, settings: Settings
) -> None:
    before = topic_sources(settings, [IDENTITY])
    assert topic_sources(settings, [IDENTITY]) == before
    name = settings.topic_prefix + IDENTITY
    cluster.delete_topics(name)
    cluster.wait_until_forgotten(name)
    assert apply_topics(settings) == [name]
    assert topic_sources(settings, [IDENTITY]) != before


def test_topics_that_are_only_being_created_are_waited_for(
    cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cluster.settings(Settings(partitions=2))
    waiting, sleep = Event(), time.sleep

    def sleep_and_say_so(seconds: float) -> None:
        waiting.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep_and_say_so)
    with ThreadPoolExecutor(1) as pool:
        asked_early = pool.submit(topic_sources, settings, [IDENTITY])
        assert waiting.wait(10)
        apply_topics(settings)
        assert asked_early.result() == topic_sources(settings, [IDENTITY])
