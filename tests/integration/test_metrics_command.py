"""`touchstream metrics` as a user calls it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from touchstream.schemas import load_metrics_text
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.cli.queries import metrics_command
from touchstream.streams.clickhouse import connect
from touchstream.streams.customer_tables import PANES
from touchstream.streams.definitions import metric_definitions
from touchstream.streams.metric_docs import render_catalogue
from touchstream.streams.metric_push import MetricPush, Pushed, PushedGauges
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row

pytestmark = pytest.mark.integration

NOON = 1_767_268_800
AT = ("--as-of", "2026-01-01T12:00:30")
MORE = """
[measures.signed]
on = ["web.signed_petition"]
help = "Petition signed"

[metrics.promoters_and_passives]
family = "advocacy and loyalty"
help = "Share of recommendation answers of 7 and more"
numerator = { promoter = 1, passive = 1 }
denominator = "promoter.n"
factor = 100
unit = "percent"
direction = "up"

[metrics.signatures]
family = "advocacy and loyalty"
help = "Petitions signed"
numerator = "signed"
unit = "signatures"
direction = "up"
"""


@pytest.fixture
def settings(clickhouse_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_URL", clickhouse_settings.clickhouse_url)
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_DATABASE", clickhouse_settings.clickhouse_database)
    return clickhouse_settings


@pytest.fixture
def filled(settings: Settings) -> Iterator[Settings]:
    migrate(settings)
    put(settings, "csat", "channel", "web", NOON, 4, 16_000)
    put(settings, "csat", "queue", "billing", NOON, 4, 16_000)
    put(settings, "csat", "account", "acme", NOON, 4, 16_000)
    yield settings


def put(
    settings: Settings, measure: str, dimension: str, member: str, at: int, n: int, total: int
) -> None:
    """Store the panes of measurements at one moment."""
    client = connect(settings, dedicated_pool=True)
    steps = {"minute": 60, "hour": 3600, "day": 86_400}
    rows: list[Row] = [
        (measure, dimension, member, resolution, at // step * step, 0, n, total, 0, {}, 1)
        for resolution, step in steps.items()
        if resolution != "minute" or dimension != "account"
    ]
    client.insert(
        PANES.name, rows, column_names=PANES.column_names, column_type_names=PANES.column_types
    )
    client.close()


def call(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(metrics_command)
    return CliRunner().invoke(app, list(arguments))


def cells(result: Result, metric: str) -> list[list[str]]:
    """Cells of the lines of a metric, after its name."""
    assert result.exit_code == 0, result.output
    lines = [line.split("│")[2:-1] for line in result.output.splitlines() if "│" in line]
    return [[cell.strip() for cell in line[1:]] for line in lines if line[0].strip() == metric]


def test_without_options_the_last_day_and_what_stands_now(filled: Settings) -> None:
    result = call(*AT)
    assert cells(result, "csat") == [["24h", "4", "4", "4", "4", "points"]]
    assert cells(result, "customers") == [["now", "0", "0", "-", "-", "customers"]]
    assert "all channels, 24h, now to 2026-01-01 12:00:30 UTC" in result.output


def test_one_metric_is_shown_in_all_its_windows(filled: Settings) -> None:
    found = cells(call("--metric", "csat", *AT), "csat")
    assert [line[0] for line in found] == ["5m", "1h", "24h", "7d", "30d", "90d", "all"]
    assert {line[1] for line in found} == {"4"}
    assert [line[0] for line in cells(call("--metric", "buyers", *AT), "buyers")] == [
        *("24h", "7d", "30d", "90d", "all")
    ]


def test_members_of_a_dimension(filled: Settings) -> None:
    asked = ("--metric", "csat", "--window", "1h", *AT)
    values = ["4", "4", "4", "4", "points"]
    assert cells(call(*asked, "--dimension", "queue"), "csat") == [["billing", *values]]
    assert cells(call(*asked, "--channel", "web"), "csat") == [values]
    whole = call("--metric", "csat", "--window", "24h", "--dimension", "account", *AT)
    assert cells(whole, "csat") == [["acme", *values]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as-of", "yesterday"], "--as-of yesterday is not an ISO 8601 time: 2026-01-31T12:00"),
        (["--metric", "csta"], "no metric csta: did you mean csat?"),
        (["--window", "12h"], "no window 12h: did you mean 1h?"),
        (["--window", "week"], "no window week: choose one of 5m, 1h, 24h, 7d, 30d, 90d, all, now"),
        (["--dimension", "chanel"], "no dimension chanel: did you mean channel?"),
        (
            ["--metric", "retention", "--window", "1h"],
            "retention has no window 1h: choose one of 24h, 7d, 30d, 90d, all",
        ),
        (
            ["--metric", "retention", "--dimension", "queue"],
            "retention is not given by queue: choose one of all, segment, account",
        ),
        (["--dimension", "account", "--window", "5m"], "by account there are windows from 24h on"),
        (["--dimension", "queue", "--channel", "web"], "--channel does not go with another"),
    ],
)
def test_a_mistake_is_one_line_that_helps(arguments: list[str], said: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_a_push_stores_what_the_view_says_and_returns_what_is_shown(filled: Settings) -> None:
    push = MetricPush(filled)
    earlier = datetime.now(UTC).replace(microsecond=0)
    put(filled, "csat", "channel", "web", int(earlier.timestamp()), 4, 16_000)
    shown = push.push(earlier)
    assert Pushed("csat", "5m", "channel", "web", 4, 4.0) in shown
    assert Pushed("nps", "5m", "all", "", 0, None) in shown
    assert {each.dimension for each in shown} == {"all", "channel"}
    client = connect(filled, dedicated_pool=True)
    for as_of in (earlier, earlier + timedelta(hours=1)):
        push.push(as_of)
        pushed = client.query("SELECT * FROM metrics_pushed ORDER BY ALL").result_rows
        moment = f"{as_of:%Y-%m-%d %H:%M:%S}"
        view = client.query(f"SELECT * FROM metrics_at(as_of = '{moment}') ORDER BY ALL")
        assert pushed == view.result_rows
    assert not [row for row in pushed if row[2:5] == ("5m", "channel", "web")]
    client.close()
    push.close()


def test_a_metric_that_is_added_to_the_file_is_everywhere(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.toml"
    path.write_text(load_metrics_text() + MORE)
    catalogue = load_catalogue(path)
    assert {"promoters_and_passives", "signatures"} <= {
        row[0] for row in metric_definitions(catalogue).rows
    }
    more = settings.model_copy(update={"metrics_file": path})
    migrate(more)
    now = datetime.now(UTC)
    for measure, n, total in (("promoter", 10, 3), ("passive", 10, 2), ("signed", 7, 7)):
        put(more, measure, "channel", "web", int(now.timestamp()), n, total)
    monkeypatch.setenv("TOUCHSTREAM_METRICS_FILE", str(path))
    asked = ("--window", "24h")
    assert cells(call(*asked), "promoters_and_passives")[0][:2] == ["10", "50"]
    assert cells(call(*asked), "signatures")[0][:2] == ["7", "7"]
    registry = CollectorRegistry()
    push = MetricPush(more)
    PushedGauges(registry).show(push.push(now), now, 0.1)
    push.close()
    for member, dimension in (("web", "channel"), ("", "all")):
        labels = {"window": "5m", "dimension": dimension, "member": member}
        shares, signatures = (
            registry.get_sample_value("touchstream_metric_value", {"metric": metric, **labels})
            for metric in ("promoters_and_passives", "signatures")
        )
        assert (shares, signatures) == (50, 7)
    page = render_catalogue(catalogue)
    assert "Share of recommendation answers of 7 and more" in page
    assert "Petition signed" in page
