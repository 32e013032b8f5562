"""The demo's report, checks and waiting, from sample numbers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from touchstream.streams.demo.checks import Check, misplaced
from touchstream.streams.demo.diary import Occurrence
from touchstream.streams.demo.expected import Expected
from touchstream.streams.demo.findings import Findings, Metric, Moment, Person, Speed
from touchstream.streams.demo.guide import query_lines
from touchstream.streams.demo.loading import Probe
from touchstream.streams.demo.progress import QUIET_SECONDS, Patience, Progress, wait_for
from touchstream.streams.demo.report import print_report
from touchstream.streams.errors import TransientError
from touchstream.streams.settings import Settings

AT = datetime(1997, 3, 1, 12, tzinfo=UTC)
FINDINGS = Findings(
    by_channel={"purchase": 69_659, "web": 23_176},
    identities=29_310,
    customers=25_455,
    person=Person("c0123456789abcdef", ["anonymous_id", "crm_id"], 2, 59.5, 4),
    timeline=[
        Moment(AT, "web", "page_viewed", "anonymous_id", "s-1", "/genres/[jazz]", "c9"),
        Moment(AT, "web", "searched", "anonymous_id", "s-1", "jazz", "c9"),
        Moment(AT, "purchase", "placed", "crm_id", "", "2 for $59.5", "c0123456789abcdef"),
    ],
    metrics=[
        Metric("nps", 6.25, -9.3, 21.8, 112, 8.3, 1048, "points"),
        Metric("ces", None, None, None, 0, None, 0, "points"),
        Metric("orders", 2043.0, None, None, 2043, 69659.0, 69659, "orders"),
    ],
    checks=[Check("CDNOW orders", "69,659", "69,659")],
    speed=Speed(100_000, 20.0, 2, 500.0, [0.5, 1.0, 1.5, 2.0]),
)


def printed(findings: Findings, *, terminal: bool = False) -> str:
    text = StringIO()
    print_report(Console(file=text, width=100, force_terminal=terminal), findings)
    return text.getvalue()


def test_the_report_shows_the_numbers() -> None:
    text = printed(FINDINGS)
    for part in ("69,659", "29,310", "25,455", "5,000/s", "median 1.25 s", "6.25", "2,043"):
        assert part in text
    assert "All 1 figures are right." in text
    assert "none" in text


def test_a_visit_is_one_line_of_the_timeline() -> None:
    assert "page viewed, searched: /genres/[jazz]" in printed(FINDINGS)
    assert "2 of these touchpoints came in under other customers (1)" in printed(FINDINGS)


def test_the_report_is_plain_and_narrow_without_a_terminal() -> None:
    text = printed(FINDINGS)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" in printed(FINDINGS, terminal=True)


def test_a_wrong_figure_is_named() -> None:
    text = printed(replace(FINDINGS, checks=[Check("CDNOW orders", "69,659", "69,658")]))
    assert "WRONG" in text
    assert "69,658" in text
    assert "1 of 1 figures are wrong." in text


def test_the_guide_can_be_copied() -> None:
    lines = "\n".join(query_lines(Settings(clickhouse_url="http://127.0.0.1:8124")))
    assert "curl 'http://127.0.0.1:8124/?database=touchstream'" in lines
    assert "export TOUCHSTREAM_CLICKHOUSE_URL=http://127.0.0.1:8124" in lines


class Answers:
    """Stands for a ClickHouse client: gives one answer after the other, then the last again."""

    def __init__(self, *answers: Sequence[Any]) -> None:
        self._answers = [*answers]
        self.result_rows: Sequence[Any] = []

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> "Answers":
        self.result_rows = self._answers[0]
        if len(self._answers) > 1:
            del self._answers[0]
        return self


class Time:
    """A clock that goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def patience(self) -> Patience:
        return Patience(self.pause, lambda: self.now)


TARGET = Progress(10, 10, 4, 3)


def test_waiting_ends_when_the_target_is_reached() -> None:
    client = Answers([(4, 3, 4, 4, 1)], [(10, 9, 4, 4, 2)], [(*TARGET, 3)])
    assert wait_for(client, TARGET, Time().patience()) == 1.0


def test_a_stall_says_what_is_missing() -> None:
    time = Time()
    with pytest.raises(TransientError, match="of 10 touchpoints 9 are in ClickHouse, 7 at their"):
        wait_for(Answers([(9, 7, 4, 4, 1)]), TARGET, time.patience())
    assert time.now == 60.0


def test_wrong_customers_are_left_to_the_checks_once_nothing_moves() -> None:
    time = Time()
    wait_for(Answers([(10, 10, 4, 4, 1)]), TARGET, time.patience())
    assert time.now == QUIET_SECONDS


def purchase(number: int, customer: str) -> Occurrence:
    identifiers = [{"kind": "crm_id", "value": customer}]
    touchpoint = {"event_id": str(number), "occurred_at": number, "action": "placed", "value": 1.0}
    return Occurrence("purchase", customer, {**touchpoint, "identifiers": identifiers})


@pytest.mark.parametrize(
    ("customers", "wrong"),
    [("AAB", 0), ("XXY", 0), ("AAA", 1), ("ABC", 1), ("BBB", 1), ("BAB", 2)],
)
def test_touchpoints_at_a_wrong_customer_are_counted(customers: str, wrong: int) -> None:
    expected = Expected()
    for number, crm_id in enumerate(("1", "1", "2")):
        expected.add(purchase(number, crm_id))
    rows = [("purchase", str(number), customer) for number, customer in enumerate(customers)]
    assert misplaced(Answers(rows), expected) == wrong


class Published:
    """Stands for a publisher."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.flushed = False

    def publish(self, channel: str, touchpoint: dict[str, Any]) -> None:
        self.events.append(touchpoint["event_id"])

    def flush(self) -> None:
        self.flushed = True


def test_the_probe_keeps_its_rate_and_measures_until_the_answer() -> None:
    time, publisher = Time(), Published()
    occurrences = [purchase(number, "1") for number in range(3)]
    seen = [[("purchase", str(n)) for n in range(count)] for count in (0, 1, 3, 3, 3)]
    probe = Probe(publisher, Answers(*seen), time.patience(), per_second=5.0)
    assert probe.run(occurrences) == pytest.approx([0.2, 0.2, 0.0])
    assert publisher.events == ["0", "1", "2"]
    assert publisher.flushed


def test_the_probe_gives_up_when_nothing_arrives() -> None:
    probe = Probe(Published(), Answers([]), Time().patience(), per_second=5.0)
    with pytest.raises(TransientError, match="1 touchpoints do not arrive"):
        probe.run([purchase(1, "1")])
