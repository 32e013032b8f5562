"""Prometheus samples of what lanes and the writer report."""

import re
from collections import Counter
from collections.abc import Mapping

import pytest
from prometheus_client import generate_latest

from touchstream.agents.identifiers import tokens_of
from touchstream.agents.ingest import Ingest
from touchstream.streams.changelog import Changelog
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.dead_letters import Reason
from touchstream.streams.health import Health
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.memory_log import MemoryLog, MemorySink
from touchstream.streams.records import Message, Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.tables import FACTS
from touchstream.streams.telemetry import Telemetry

PLACE = {"agent": "ingest", "topic": "touchpoints.web", "partition": "3"}
SETTINGS = Settings()
CODEC = TouchpointCodec(max_payload_bytes=4096)
INGEST = Ingest(CODEC, tokens_of(SETTINGS), SETTINGS)


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(clock=lambda: 1234.5)


def sample(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(f"touchstream_{name}", labels)


def lane(telemetry: Telemetry, *, stateful: bool = False) -> Lane:
    log = MemoryLog()
    ports = Ports(log, MemorySink(), telemetry, 4, {"touchpoints.web": 1})
    changelog = Changelog(log, "cx.state.ingest", 3, 1) if stateful else None
    if changelog:
        changelog.image.keep({b"key": b"value", b"k": b"v"})
    return Lane(INGEST, "touchpoints.web", 3, ports, changelog)


def outcome(messages: int = 0, counts: Mapping[tuple[str, str], int] = {}) -> Outcome:  # noqa: B006
    sent = [Message("cx.identity", 0, b"", b"")] * messages
    return Outcome(sent, {}, {}, Counter(counts), 0, [], [])


def test_records_are_counted_in_and_out(telemetry: Telemetry) -> None:
    for _ in range(2):
        telemetry.chunk_done(lane(telemetry), outcome(messages=7), 10, 0.1)
    topic = {"agent": "ingest", "topic": "touchpoints.web"}
    assert sample(telemetry, "records_in_total", **topic) == 20
    assert sample(telemetry, "records_out_total", agent="ingest") == 14


@pytest.mark.parametrize(
    ("counted", "name", "labels"),
    [
        (("touchpoints", "web"), "touchpoints", {"channel": "web"}),
        (("dead_letters", "truncated"), "dead_letters", {"agent": "ingest", "reason": "truncated"}),
        (("moves", ""), "agent_events", {"agent": "ingest", "event": "moves"}),
        (("replayed", ""), "agent_events", {"agent": "ingest", "event": "replayed"}),
        (("refused", "unique"), "refused_links", {"reason": "unique"}),
        (("alerts", "shared"), "alerts", {"alert": "shared"}),
        (("junk", "email"), "junk_identifiers", {"kind": "email"}),
    ],
)
def test_counts_of_a_chunk_have_their_metric(
    telemetry: Telemetry, counted: tuple[str, str], name: str, labels: dict[str, str]
) -> None:
    telemetry.chunk_done(lane(telemetry), outcome(counts={counted: 5}), 10, 0.1)
    assert sample(telemetry, f"{name}_total", **labels) == 5


def test_duration_of_a_chunk_is_observed(telemetry: Telemetry) -> None:
    telemetry.chunk_done(lane(telemetry), outcome(), 10, 0.2)
    assert sample(telemetry, "chunk_seconds_sum", agent="ingest") == pytest.approx(0.2)
    assert sample(telemetry, "chunk_seconds_bucket", agent="ingest", le="0.1") == 0
    assert sample(telemetry, "chunk_seconds_bucket", agent="ingest", le="0.25") == 1


def test_sizes_of_components_are_observed_one_by_one(telemetry: Telemetry) -> None:
    done = outcome()
    done.observations.extend(("component_identities", size) for size in (1, 2, 2, 40))
    telemetry.chunk_done(lane(telemetry), done, 10, 0.1)
    assert sample(telemetry, "component_identities_sum", agent="ingest") == 45
    bucket = "component_identities_bucket"
    counts = [sample(telemetry, bucket, agent="ingest", le=le) for le in ("1.0", "2.0")]
    assert [*counts, sample(telemetry, "component_identities_count", agent="ingest")] == [1, 3, 4]


def test_repair_is_timed_from_its_cause_to_the_durable_chunk(telemetry: Telemetry) -> None:
    done = outcome()
    done.caused_at.extend((1_234_000, 1_232_500))
    telemetry.chunk_done(lane(telemetry), done, 10, 0.1)
    assert sample(telemetry, "repair_seconds_sum", agent="ingest") == pytest.approx(0.5 + 2.0)
    assert sample(telemetry, "repair_seconds_count", agent="ingest") == 2


def test_progress_is_the_time_of_the_last_chunk(telemetry: Telemetry) -> None:
    telemetry.chunk_done(lane(telemetry), outcome(), 10, 0.1)
    assert sample(telemetry, "last_progress_timestamp_seconds", **PLACE) == 1234.5


def test_size_of_state_is_shown(telemetry: Telemetry) -> None:
    telemetry.chunk_done(lane(telemetry, stateful=True), outcome(), 10, 0.1)
    assert sample(telemetry, "state_keys", **PLACE) == 2
    assert sample(telemetry, "state_bytes", **PLACE) == 10


def test_agent_without_state_shows_no_size(telemetry: Telemetry) -> None:
    telemetry.chunk_done(lane(telemetry), outcome(), 10, 0.1)
    assert sample(telemetry, "state_keys", **PLACE) is None


def test_lag_is_what_was_said_last(telemetry: Telemetry) -> None:
    for records in (500, 20):
        telemetry.lag("ingest", "touchpoints.web", 3, records)
    assert sample(telemetry, "lag_records", **PLACE) == 20


def test_held_partition_is_shown(telemetry: Telemetry) -> None:
    assert sample(telemetry, "held", **PLACE) is None
    telemetry.hold("ingest", "touchpoints.web", 3)
    assert sample(telemetry, "held", **PLACE) == 1


def test_forgotten_partition_has_no_gauges(telemetry: Telemetry) -> None:
    telemetry.lag("ingest", "touchpoints.web", 3, 500)
    telemetry.hold("ingest", "touchpoints.web", 3)
    telemetry.chunk_done(lane(telemetry, stateful=True), outcome(), 10, 0.1)
    telemetry.forget("ingest", "touchpoints.web", 3)
    gauges = ("lag_records", "last_progress_timestamp_seconds", "held", "state_keys", "state_bytes")
    assert [sample(telemetry, gauge, **PLACE) for gauge in gauges] == [None] * 5


def test_forgetting_leaves_other_partitions_and_the_counters(telemetry: Telemetry) -> None:
    telemetry.lag("ingest", "touchpoints.web", 2, 500)
    telemetry.chunk_done(lane(telemetry), outcome(), 10, 0.1)
    telemetry.forget("ingest", "touchpoints.web", 3)
    assert sample(telemetry, "lag_records", **{**PLACE, "partition": "2"}) == 500
    topic = {"agent": "ingest", "topic": "touchpoints.web"}
    assert sample(telemetry, "records_in_total", **topic) == 10


def test_partition_that_never_said_anything_can_be_forgotten(telemetry: Telemetry) -> None:
    telemetry.forget("ingest", "touchpoints.web", 3)
    assert sample(telemetry, "lag_records", **PLACE) is None


def test_insert_is_counted_and_timed(telemetry: Telemetry) -> None:
    telemetry.inserted(FACTS, 300, 0.4)
    table = {"table": "touchpoint_facts"}
    assert sample(telemetry, "rows_total", **table) == 300
    assert sample(telemetry, "insert_seconds_sum", **table) == pytest.approx(0.4)


def test_retry_is_counted(telemetry: Telemetry) -> None:
    telemetry.retried(FACTS, ConnectionError())
    assert sample(telemetry, "insert_retries_total", table="touchpoint_facts") == 1


def test_rejected_row_is_counted_and_its_values_stay_out_of_the_log(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.rejected(FACTS, ("ann@example.com",), ValueError("odd"))
    assert sample(telemetry, "rejected_rows_total", table="touchpoint_facts") == 1
    assert "touchpoint_facts" in caplog.text and "ann@example.com" not in caplog.text


def test_readiness_and_ages_are_those_of_the_moment(telemetry: Telemetry) -> None:
    now = [100.0]
    health = Health(clock=lambda: now[0])
    health.assigned([("touchpoints.web", 3)])
    telemetry.show(health)
    assert sample(telemetry, "ready") == 1
    health.received(("touchpoints.web", 3))
    health.clickhouse.failed()
    now[0] += 7
    assert sample(telemetry, "ready") == 0
    ages = {name: sample(telemetry, "age_seconds", waiting_for=name) for name in health.ages()}
    assert ages == {"progress": 7, "commit": 0, "insert": 7, "append": 0, "loop": 0}


LABELS = {"agent", "topic", "partition", "table", "channel", "reason", "event", "le"}
LABELS |= {"alert", "kind", "waiting_for"}


def chunk_with_everything() -> Outcome:
    """A touchpoint that is accepted, with junk, and one of each easy kind that is rejected."""
    ann = {"kind": "email", "value": "ann@example.com", "verified": False}
    junk = {"kind": "ticket of ann@example.com", "value": "unknown", "verified": False}
    touchpoint = {
        "event_id": "event-17",
        "occurred_at": 0,
        "action": "page_viewed",
        "identifiers": [ann, junk],
    }
    values = [CODEC.encode("web", touchpoint), None, b"ann@example.com"]
    records = [
        Record("touchpoints.web", 3, n, 0, b"ann@example.com", value)
        for n, value in enumerate(values)
    ]
    return run_chunk(INGEST, records, {}, source=1, partitions=4)


def test_no_label_carries_an_identifier(telemetry: Telemetry) -> None:
    done = chunk_with_everything()
    telemetry.chunk_done(lane(telemetry, stateful=True), done, 3, 0.1)
    telemetry.lag("ingest", "touchpoints.web", 3, 1)
    shown = re.findall(r'="([^"]*)"', generate_latest(telemetry.registry).decode())
    assert Reason.NULL_VALUE in shown and "web" in shown
    token = tokens_of(SETTINGS).token("email", "ann@example.com").hex()
    for text in ("ann@example.com", "event-17", token):
        assert not any(text in value for value in shown)


def test_labels_are_few_and_known(telemetry: Telemetry) -> None:
    telemetry.chunk_done(lane(telemetry, stateful=True), chunk_with_everything(), 3, 0.1)
    telemetry.inserted(FACTS, 1, 0.1)
    ours = [m for m in telemetry.registry.collect() if m.name.startswith("touchstream_")]
    assert {name for metric in ours for s in metric.samples for name in s.labels} <= LABELS


def test_every_metric_has_a_help_text(telemetry: Telemetry) -> None:
    ours = [m for m in telemetry.registry.collect() if m.name.startswith("touchstream_")]
    assert len(ours) >= 21
    assert all(metric.documentation for metric in ours)
