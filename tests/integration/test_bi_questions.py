"""The page docs/bi.md: every question is answered on real data, and connecting works as it says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import connect
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[2] / "docs" / "bi.md").read_text()
ADA = re.findall(r"customer_id = '([0-9a-f]{32})'", PAGE)[0]
"""The customer that the page asks about."""

DATA = f"""
INSERT INTO touchpoint_facts (identity, channel, event_id, customer_id, occurred_at, action, score,
    precedence) VALUES
    ('ada-mail', 'email', '1', '{ADA}', now64(3, 'UTC') - INTERVAL 3 DAY, 'opened', NULL, 1),
    ('ada-mail', 'survey', '2', '{ADA}', now64(3, 'UTC') - INTERVAL 1 DAY, 'answered', 9, 1),
    ('ada-mail', 'survey', '2', '{ADA}', now64(3, 'UTC') - INTERVAL 1 DAY, 'answered', 1, 0),
    ('ada-cookie', 'web', '3', 'guest', now64(3, 'UTC') - INTERVAL 2 DAY, 'viewed', NULL, 1),
    ('bob-mail', 'web', '4', 'bob', now64(3, 'UTC') - INTERVAL 2 DAY, 'viewed', NULL, 1);
INSERT INTO identity_states (identity, kind, customer_id, version) VALUES
    ('ada-mail', 'email', '{ADA}', 1), ('ada-cookie', 'anonymous_id', 'guest', 1),
    ('ada-cookie', 'anonymous_id', '{ADA}', 2), ('bob-mail', 'email', 'bob', 1);
INSERT INTO identity_overrides (identity, customer_id, version) VALUES ('ada-cookie', '{ADA}', 2);
INSERT INTO customer_states (customer_id, identities, orders, revenue_e4, last_order_at, segment,
    usual_gap_days, at_risk_from, stage, lapses_at, version, is_deleted) VALUES
    ('{ADA}', ['ada-mail', 'ada-cookie'], 2, 800000, now64(3, 'UTC') - INTERVAL 40 DAY, 'business',
        10, now64(3, 'UTC') - INTERVAL 30 DAY, 'enjoy', now64(3, 'UTC') - INTERVAL 1 DAY, 1, 0),
    ('bob', ['bob-mail'], 0, 0, NULL, 'business', 0, NULL, 'consider', NULL, 1, 0),
    ('guest', ['ada-cookie'], 0, 0, NULL, '', 0, NULL, '', NULL, 2, 1);
INSERT INTO stage_visit_states (customer_id, entered_at, stage, cycle, previous, left_at, version)
VALUES ('{ADA}', now64(3, 'UTC') - INTERVAL 60 DAY, 'consider', 'buy', '',
        now64(3, 'UTC') - INTERVAL 50 DAY, 1),
    ('{ADA}', now64(3, 'UTC') - INTERVAL 50 DAY, 'enjoy', 'own', 'consider', NULL, 1),
    ('bob', now64(3, 'UTC') - INTERVAL 2 DAY, 'consider', 'buy', '', NULL, 1);
INSERT INTO issue_states (customer_id, opened_at, topic, last_contact_at, contacts, channels,
    solved, version) VALUES
    ('{ADA}', now64(3, 'UTC') - INTERVAL 9 DAY, 'delivery', now64(3, 'UTC') - INTERVAL 9 DAY, 1,
        ['chat'], true, 1),
    ('bob', now64(3, 'UTC') - INTERVAL 5 DAY, 'delivery', now64(3, 'UTC') - INTERVAL 4 DAY, 3,
        ['chat', 'phone'], true, 1);
INSERT INTO order_path_states (customer_id, ordered_at, order_key, order_id, value_e4, channels,
    campaigns, touched_at, version) VALUES
    ('{ADA}', '2026-01-10 12:00:00', 1, 'A-1', 500000, ['email', 'email', 'web'],
        ['spring', 'spring', ''], ['2026-01-08 12:00:00', '2026-01-09 12:00:00',
        '2026-01-10 11:00:00'], 1),
    ('{ADA}', '2026-03-31 12:00:00', 2, 'A-2', 300000, ['web'], ['summer'],
        ['2026-03-30 12:00:00'], 1),
    ('bob', '2026-01-31 12:00:00', 3, 'B-1', 100000, [], [], [], 1);
INSERT INTO metric_panes (metric, dimension, member, resolution, start, n, total, squares, version)
SELECT pane.1, pane.2, pane.3, resolution,
    toStartOfInterval(now('UTC') - INTERVAL 5 DAY, INTERVAL 1 DAY), 10, pane.4, 10, 1
FROM (SELECT arrayJoin([('nps', 'channel', 'web', 4), ('nps', 'channel', 'phone', -2),
    ('first_contact_resolved', 'queue', 'billing', 7)]) AS pane,
    arrayJoin(['day', 'hour', 'minute']) AS resolution);
INSERT INTO target_states (target_id, metric, window, dimension, member, target, direction,
    tolerance, minimum_n, weight, valid_from, version) VALUES
    ('nps-web', 'nps', '30d', 'channel', 'web', 50, 'up', 2, 5, 1, '2026-01-01 00:00:00', 1)
"""


class Question(NamedTuple):
    """One query of the page."""

    heading: str
    sql: str


def sections() -> Iterator[tuple[str, str]]:
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        yield heading, text


def blocks(language: str) -> list[Question]:
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Question(title, sql) for title, text in sections() for sql in fence.findall(text)]


QUESTIONS = {question.heading: question.sql for question in blocks("sql")}
HEADCOUNT = "Customers by channel and week"
COLUMNS = {
    "Touchpoints by channel and day": "day channel touchpoints",
    "Customers by channel and week": "week channel customers",
    "The timeline of a customer": "occurred_at channel action campaign value currency score topic"
    " resolved",
    "Customers by segment": "segment customers net_revenue csat",
    "NPS by channel in the last 30 days": "channel n value low high",
    "NPS day by day, over 30 days each": "day n nps",
    "The funnel": "rank stage customers stage_before customers_before percent",
    "Campaigns by attributed revenue": "channel campaign orders revenue",
    "Customers at risk by value": "customer_id net_revenue orders last_order_at usual_gap_days"
    " churn_risk last_nps",
    "First-contact resolution by queue": "queue n value low high",
    "Issues by topic": "topic issues percent_solved_at_once contacts percent_switched",
    "Retention by cohort": "cohort months_later buyers share",
    "Paths to orders": "path orders revenue days",
    "Stages before customers lapsed": "from_stage visits customers percent_of_all_that_left",
    "Gaps to targets": "target_id metric window target value low high n gap unit status",
}


@pytest.fixture(scope="module")
def settings(clickhouse_url: str) -> Iterator[Settings]:
    database = f"test_{uuid4().hex[:12]}"
    found = Settings(clickhouse_url=clickhouse_url, clickhouse_database=database)
    migrate(found)
    client = connect(found, dedicated_pool=True)
    for statement in DATA.split(";\n"):
        client.command(statement)
    yield found
    client.command(f"DROP DATABASE {database}")
    client.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    opened = connect(settings, dedicated_pool=True)
    yield opened
    opened.close()


def answer(client: Client, heading: str) -> list[dict[str, Any]]:
    result = client.query(QUESTIONS[heading])
    return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]


def only(client: Client, heading: str, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in answer(client, heading)]


def test_every_question_has_one_query() -> None:
    assert [question.heading for question in blocks("sql")] == list(COLUMNS)


def test_every_question_has_a_time() -> None:
    table = dict(sections())["How long it takes"]
    assert re.findall(r"^\| (.+) \| [\d,]+ \|$", table, re.MULTILINE) == list(COLUMNS)


@pytest.mark.parametrize("heading", COLUMNS)
def test_questions_are_answered(client: Client, heading: str) -> None:
    rows = answer(client, heading)
    assert rows
    assert " ".join(rows[0]) == COLUMNS[heading]


def test_touchpoints_are_counted_once_with_the_customer_of_today(client: Client) -> None:
    days = only(client, "Touchpoints by channel and day", "channel", "touchpoints")
    assert days == [("email", 1), ("web", 2), ("survey", 1)]
    # in one week or in two
    found = {row["channel"]: row["customers"] for row in answer(client, HEADCOUNT)}
    assert found == {"email": 1, "survey": 1, "web": 2}
    sql = "SELECT uniqExact(customer_id) FROM touchpoints WHERE identity LIKE 'ada%'"
    assert client.query(sql).result_rows == [(1,)]


def test_a_timeline_has_what_was_seen_before_the_merge(client: Client) -> None:
    assert only(client, "The timeline of a customer", "channel", "score") == [
        ("email", None),
        ("web", None),
        ("survey", 9.0),
    ]


def test_segments_and_risk_say_what_customers_are_worth(client: Client) -> None:
    found = {row["segment"]: row["customers"] for row in answer(client, "Customers by segment")}
    assert found == {"business": 2, "buyer": 1, "repeat buyer": 1, "at risk": 1, "lapsed": 1}
    assert only(client, "Customers at risk by value", "customer_id", "churn_risk") == [(ADA, 4.0)]


def test_metrics_have_values_with_intervals(client: Client) -> None:
    nps = answer(client, "NPS by channel in the last 30 days")
    assert [(row["channel"], row["n"], row["value"]) for row in nps] == [
        ("web", 10, 40.0),
        ("phone", 10, -20.0),
    ]
    assert all(row["low"] < row["value"] < row["high"] for row in nps)
    days = only(client, "NPS day by day, over 30 days each", "n", "nps")
    assert days[-1] == (20, 10.0)
    queues = only(client, "First-contact resolution by queue", "queue", "value")
    assert queues == [("billing", 70.0)]
    gaps = only(client, "Gaps to targets", "target_id", "gap", "status")
    assert gaps == [("nps-web", -10.0, "at risk")]


def test_journeys_paths_and_cohorts_are_counted(client: Client) -> None:
    assert only(client, "The funnel", "stage", "customers")[0] == ("consider", 2)
    assert only(client, "Stages before customers lapsed", "from_stage", "visits") == [("enjoy", 1)]
    assert only(client, "Campaigns by attributed revenue", "campaign", "revenue") == [
        ("spring", pytest.approx(30.0)),
        ("summer", pytest.approx(30.0)),
    ]
    found = {row["path"]: row["orders"] for row in answer(client, "Paths to orders")}
    assert found == {"email > web": 1, "web": 1, "": 1}
    cohorts = only(client, "Retention by cohort", "months_later", "buyers", "share")
    assert cohorts == [(0, 2, 1.0), (2, 1, 0.5)]
    topics = only(client, "Issues by topic", "issues", "percent_solved_at_once", "percent_switched")
    assert topics == [(2, 50.0, 50.0)]


def test_raw_touchpoints_are_there_once_with_the_customer_of_then(client: Client) -> None:
    sql = "SELECT event_id, customer_id_then, score FROM touchpoints_raw ORDER BY event_id"
    assert [tuple(row) for row in client.query(sql).result_rows] == [
        ("1", ADA, None),
        ("2", ADA, 9.0),
        ("3", "guest", None),
        ("4", "bob", None),
    ]


def test_every_view_of_the_table_exists(client: Client) -> None:
    table = dict(sections())["Views"]
    named = set(re.findall(r"`(\w+)(?:\(\w+ = \.\.\.\))?`", re.sub(r"\| [^|`]*\|$", "|", table)))
    sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
    there = {str(row[0]) for row in client.query(sql).result_rows}
    assert named - there == set()
    assert "customers" in named


def test_python_connects_as_the_page_says(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = blocks("py")
    host, _, port = settings.clickhouse_url.removeprefix("http://").partition(":")
    code = snippet.sql.replace("8123", port).replace("127.0.0.1", host)
    code = code.replace('"touchstream"', f'"{settings.clickhouse_database}"')
    exec(compile(code, "docs/bi.md", "exec"), {"__name__": "snippet"})
    assert "('web', 2)" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_is_answered_as_the_page_says(settings: Settings) -> None:
    (snippet,) = [block for block in blocks("text") if block.sql.startswith("curl ")]
    command = snippet.sql.replace("http://127.0.0.1:8123", settings.clickhouse_url)
    command = command.replace("=touchstream", f"={settings.clickhouse_database}")
    command = command.replace("curl ", "curl --silent --show-error --fail --noproxy '*' ", 1)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["customer_id"], float(first["revenue"])) == (ADA, 80.0)
