"""Alerts: bytes that any consumer of Confluent's framing reads, ids that follow from the cause.

And the command that follows them, and the loop that looks for what is due.
"""

import asyncio
import json
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException
from fastavro import parse_schema, schemaless_reader
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from touchstream.streams import alerts
from touchstream.streams.alerts import (
    Alert,
    alert_about,
    alert_id,
    alert_row,
    decode_alert,
    encode_alert,
    load_alert_schema,
    use_registry,
)
from touchstream.streams.cli import alerts as command
from touchstream.streams.cli import app
from touchstream.streams.cli.alerts import follow_alerts, line_of
from touchstream.streams.codec import framing
from touchstream.streams.customer_tables import ALERTS as ALERT_ROWS
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import ConfigurationError, PoisonError, TransientError
from touchstream.streams.memory_log import MemoryLog, MemorySink
from touchstream.streams.records import Record
from touchstream.streams.registry import id_of
from touchstream.streams.settings import Settings
from touchstream.streams.watch import Watch, churn_risk, target_missed

FROZEN = "c381e60f0c829d9e"
"""Hash of everything but the docs."""
SETTINGS = Settings()
RECORD = Record("cx.customer", 3, 77, 1_700_000_000_000, b"k", b"v")
ALERT = alert_about(
    "churn_risk",
    "Silent for long.",
    cause=("c1", "2026-01-01"),
    raised_at=1_700_000_000_000,
    customer="c1",
    identity="1f",
    evidence={"days": 90, "sure": True, "share": 0.25, "nothing": None},
    source=RECORD,
)
BARE = alert_about("target_missed", "Why.", cause=(), raised_at=0)


# Bytes


def test_schema_is_frozen() -> None:
    def bare(schema: Any) -> Any:
        if isinstance(schema, dict):
            return {key: bare(value) for key, value in schema.items() if key != "doc"}
        return [bare(each) for each in schema] if isinstance(schema, list) else schema

    text = json.dumps(bare(load_alert_schema()), sort_keys=True)
    assert blake2b(text.encode(), digest_size=8).hexdigest() == FROZEN


def test_every_field_of_the_schema_has_a_doc() -> None:
    assert [each["name"] for each in load_alert_schema()["fields"] if not each.get("doc")] == []


def test_fields_of_the_struct_are_those_of_the_schema() -> None:
    names = {each["name"] for each in load_alert_schema()["fields"]}
    assert names == set(Alert.__struct_fields__)


@pytest.mark.parametrize("alert", [ALERT, BARE], ids=["full", "bare"])
def test_alert_comes_back_as_it_went(alert: Alert) -> None:
    assert decode_alert(encode_alert(alert)) == alert


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_any_text_comes_back(reason: str, evidence: dict[str, str]) -> None:
    alert = alert_about("k", reason, cause=(), raised_at=1, evidence=evidence)
    assert decode_alert(encode_alert(alert)) == alert


def test_alert_is_plain_avro_behind_five_bytes() -> None:
    value = encode_alert(ALERT)
    assert value[:5] == framing(id_of(load_alert_schema()))
    found: Any = schemaless_reader(BytesIO(value[5:]), parse_schema(load_alert_schema()), None)
    assert found["raised_at"].isoformat() == "2023-11-14T22:13:20+00:00"
    assert found["evidence"] == {"days": "90", "sure": "true", "share": "0.25"}
    place = (found["source_topic"], found["source_partition"], found["source_offset"])
    assert place == ("cx.customer", 3, 77)


class Registry:
    def __init__(self, url: str | None) -> None:
        self.url = url

    def schema_id(self, subject: str, schema: dict[str, Any]) -> int:
        assert (subject, schema) == ("dev.cx.alerts-value", load_alert_schema())
        return 7


def test_registry_gives_the_id_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_framed_with", [])
    monkeypatch.setattr(alerts, "connect_registry", Registry)
    use_registry(Settings(schema_registry_url="http://registry", topic_prefix="dev."))
    value = encode_alert(ALERT)
    assert value[:5] == framing(7)
    assert decode_alert(value) == ALERT


def test_without_a_registry_the_id_follows_from_the_schema() -> None:
    use_registry(SETTINGS)
    assert encode_alert(ALERT)[:5] == framing(id_of(load_alert_schema()))


VALUE = encode_alert(ALERT)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NULL_VALUE),
        (b"", Reason.BAD_FRAMING),
        (b'{"alert": "shared"}', Reason.BAD_FRAMING),
        (VALUE[:-1], Reason.TRUNCATED),
        (VALUE[:20], Reason.TRUNCATED),
        (VALUE + b"\0", Reason.WRONG_TYPE),
        (VALUE.replace(b"Silent", b"\xff\xff\xff\xff\xff\xff"), Reason.WRONG_TYPE),
    ],
)
def test_what_is_no_alert_is_poison(value: bytes | None, reason: Reason) -> None:
    with pytest.raises(PoisonError) as refused:
        decode_alert(value)
    assert refused.value.reason == reason


# Ids and rows


def test_id_has_32_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(alert_id("k", "a"))) == 16


def test_same_cause_has_the_same_id_whatever_else_is_said() -> None:
    other = alert_about("churn_risk", "Else.", cause=("c1", "2026-01-01"), raised_at=5)
    assert other.alert_id == ALERT.alert_id


def test_other_kinds_and_causes_have_other_ids() -> None:
    causes = [("k", "a", "bc"), ("k", "ab", "c"), ("k", "abc"), ("ka", "bc"), ("k", "a", "bc", "")]
    assert len({alert_id(*each) for each in causes}) == len(causes)


def test_row_has_the_columns_of_the_table_and_the_identity_in_the_evidence() -> None:
    row = dict(zip(ALERT_ROWS.column_names, alert_row(ALERT), strict=True))
    assert row == {
        "alert_id": ALERT.alert_id,
        "kind": "churn_risk",
        "raised_at": 1_700_000_000_000,
        "customer_id": "c1",
        "reason": "Silent for long.",
        "evidence": {"identity": "1f", "days": "90", "sure": "true", "share": "0.25"},
    }


def test_row_without_a_customer_has_an_empty_one() -> None:
    assert alert_row(BARE)[3:] == ("", "Why.", {})


# The command


class FakeConsumer:
    """Plays messages, then Ctrl-C."""

    def __init__(self, *messages: Any, partitions: int = 2, error: Any = None) -> None:
        self.messages = list(messages)
        self.metadata = SimpleNamespace(error=error, partitions=dict.fromkeys(range(partitions)))
        self.assigned: list[tuple[str, int, int]] = []
        self.closed = False

    def __call__(self, config: dict[str, Any]) -> Any:
        assert config["enable.auto.commit"] is False
        return self

    def list_topics(self, name: str, timeout: float) -> Any:
        return SimpleNamespace(topics={name: self.metadata})

    def assign(self, places: Any) -> None:
        self.assigned = [(each.topic, each.partition, each.offset) for each in places]

    def poll(self, timeout: float) -> Any:
        if not self.messages:
            raise KeyboardInterrupt
        return self.messages.pop(0)

    def close(self) -> None:
        self.closed = True


class FakeMessage:
    def __init__(
        self, value: bytes | None, error: KafkaError | None = None, partition: int = 1
    ) -> None:
        self._value, self._error, self._partition = value, error, partition

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> KafkaError | None:
        return self._error

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return 9


def end(partition: int = 1) -> FakeMessage:
    return FakeMessage(None, KafkaError(KafkaError._PARTITION_EOF), partition)


def followed(consumer: FakeConsumer, **options: Any) -> list[Alert]:
    found = []
    with pytest.raises(KeyboardInterrupt):
        for alert in follow_alerts(SETTINGS, connect=consumer, **options):
            found.append(alert)
    assert consumer.closed
    return found


def test_alerts_of_all_partitions_are_followed() -> None:
    bare = FakeMessage(encode_alert(BARE), partition=0)
    consumer = FakeConsumer(end(0), end(1), FakeMessage(VALUE), None, bare)
    assert followed(consumer) == [ALERT, BARE]
    assert consumer.assigned == [("cx.alerts", 0, OFFSET_END), ("cx.alerts", 1, OFFSET_END)]


def test_alerts_are_followed_from_the_beginning_if_asked() -> None:
    consumer = FakeConsumer(FakeMessage(VALUE))
    assert followed(consumer, from_beginning=True) == [ALERT]
    assert {offset for *_, offset in consumer.assigned} == {OFFSET_BEGINNING}


def test_what_was_there_before_the_end_is_not_new() -> None:
    consumer = FakeConsumer(end(0), FakeMessage(VALUE), end(1), FakeMessage(encode_alert(BARE)))
    assert followed(consumer) == [BARE]


def test_error_that_passes_is_waited_for() -> None:
    away = FakeMessage(None, KafkaError(KafkaError._TRANSPORT, "", False, True))
    assert followed(FakeConsumer(end(), away, FakeMessage(VALUE))) == [ALERT]


def test_what_is_no_alert_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    consumer = FakeConsumer(end(), FakeMessage(b"{}"), FakeMessage(VALUE))
    assert followed(consumer) == [ALERT]
    assert "left out cx.alerts[1] offset 9: bad_framing" in capsys.readouterr().err


def test_missing_topic_says_what_to_do() -> None:
    consumer = FakeConsumer(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    with pytest.raises(ConfigurationError, match="touchstream topics apply"):
        next(follow_alerts(SETTINGS, connect=consumer))


def test_broker_that_is_away_is_named() -> None:
    class Away(FakeConsumer):
        def list_topics(self, name: str, timeout: float) -> Any:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9092"):
        next(follow_alerts(SETTINGS, connect=Away()))


def test_error_that_does_not_pass_ends_it() -> None:
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    consumer = FakeConsumer(FakeMessage(None, refused))
    with pytest.raises(TransientError, match=r"reading cx\.alerts failed"):
        next(follow_alerts(SETTINGS, connect=consumer))


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The command sees two alerts, then Ctrl-C."""
    asked: list[bool] = []

    def follow(settings: Settings, *, from_beginning: bool) -> Iterator[Alert]:
        asked.append(from_beginning)
        yield ALERT
        yield BARE
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "follow_alerts", follow)
    return asked


def run(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["alerts", *arguments])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_command_prints_a_line_each_until_ctrl_c(streamed: list[bool]) -> None:
    assert run("--from-beginning") == [line_of(ALERT), line_of(BARE)]
    assert line_of(ALERT) == "2023-11-14 22:13:20  churn_risk  c1  Silent for long."
    assert streamed == [True]


def test_command_prints_one_kind_only(streamed: list[bool]) -> None:
    assert run("--kind", "target_missed") == [line_of(BARE)]


def test_command_stops_at_its_limit(streamed: list[bool]) -> None:
    assert run("--limit", "1") == [line_of(ALERT)]


def test_command_prints_json(streamed: list[bool]) -> None:
    assert [json.loads(line) for line in run("--json")] == [
        msgspec.to_builtins(ALERT),
        msgspec.to_builtins(BARE),
    ]


# What is due


def test_churn_risk_names_the_customer_and_the_silence() -> None:
    row = {
        "customer_id": "c1",
        "since": "2026-01-31 00:00:00.000",
        "ordered": "2025-11-01 09:00:00.000",
        "orders": 2,
        "usual_gap_days": 90,
    }
    alert = churn_risk(row, 5)
    assert alert.alert_id == alert_id("churn_risk", "c1", "2026-01-31 00:00:00.000")
    assert (alert.customer_id, alert.raised_at) == ("c1", 5)
    assert alert.reason == "No order since 2025-11-01, which is longer than the usual 90 days."


MISS = {
    "target_id": "calls",
    "metric": "service_level",
    "window": "24h",
    "dimension": "channel",
    "member": "phone",
    "direction": "up",
    "target": 80.0,
    "n": 400,
    "value": 61.25,
    "low": 56.4,
    "high": 65.9,
    "unit": "percent",
}


def test_missed_target_says_by_how_much_and_has_one_id_a_day() -> None:
    morning, evening, next_day = (day * 86_400_000 + hour * 3_600_000 for day, hour in DAYS)
    first = target_missed(MISS, morning)
    assert first.reason == (
        "service_level of channel phone (24h) is 61.25, below the target of 80 percent."
    )
    assert first.evidence["day"] == "2026-01-01"
    assert target_missed(MISS, evening).alert_id == first.alert_id
    assert target_missed(MISS, next_day).alert_id != first.alert_id


DAYS = [(20_454, 8), (20_454, 23), (20_455, 0)]


def test_missed_target_without_an_interval_has_none_in_its_evidence() -> None:
    alert = target_missed({**MISS, "low": None, "high": None, "direction": "down"}, 0)
    assert "low" not in alert.evidence
    assert ", above the target" in alert.reason


class Rounds(Watch):
    """Counts rounds; the second one fails, the third one is the last."""

    rounds = 0
    closed = False

    async def watch_once(self) -> list[Alert]:
        self.rounds += 1
        if self.rounds == 2:
            raise OSError("away")
        if self.rounds == 3:
            raise asyncio.CancelledError
        return []

    def close(self) -> None:
        self.closed = True


def test_watch_goes_on_after_a_failure_until_it_is_cancelled() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    watch = Rounds(Settings(watch_seconds=3), MemoryLog(), MemorySink(), sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch.run())
    assert (watch.rounds, watch.closed, slept) == (3, True, [3.0, 3.0])


def test_watch_of_no_seconds_never_looks() -> None:
    watch = Rounds(Settings(watch_seconds=0), MemoryLog(), MemorySink())
    asyncio.run(watch.run())
    assert watch.rounds == 0
