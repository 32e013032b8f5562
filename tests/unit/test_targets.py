"""Targets in TOML: what a file says, what a wrong one is told, and what applying it changes."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.cli import app
from touchstream.streams.errors import EXIT_CONFIGURATION, ConfigurationError
from touchstream.streams.moments import epoch_ms
from touchstream.streams.targets import Target, compare, load_targets_text, parse_targets
from touchstream.streams.toml_table import read_toml

NPS = ['metric = "nps"', 'window = "30d"', "target = 30"]


def parsed(*lines: str) -> Target:
    (target,) = parse_targets("\n".join(["[targets.x]", *lines]), "t.toml", load_catalogue())
    return target


def refusal(*lines: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        parsed(*lines)
    return str(refused.value)


def test_shipped_example_is_right() -> None:
    targets = parse_targets(load_targets_text(), "targets.toml", load_catalogue())
    assert [(each.metric, each.window, each.direction, each.target) for each in targets] == [
        ("nps", "30d", "up", 30.0),
        ("service_level", "24h", "up", 80.0),
        ("first_response_time_p90", "24h", "down", 120.0),
        ("delivery_on_time", "7d", "up", 95.0),
        ("csat", "7d", "up", 4.2),
    ]


def test_short_target_has_defaults() -> None:
    assert parsed(*NPS) == Target(
        target_id="x",
        metric="nps",
        window="30d",
        dimension="all",
        member="",
        target=30.0,
        direction="up",
        tolerance=0.0,
        minimum_n=30,
        weight=1.0,
        valid_from=0,
        valid_to=None,
    )


def test_long_target_says_everything() -> None:
    said = parsed(
        'metric = "csat"',
        'window = "7d"',
        'dimension = "channel"',
        'member = "phone"',
        "target = 4.2",
        'direction = "down"',
        "tolerance = 0.2",
        "minimum_n = 100",
        "weight = 2.5",
        "valid_from = 2026-01-31",
        "valid_to = 2026-02-28T12:00:00+01:00",
    )
    assert (said.dimension, said.member, said.direction) == ("channel", "phone", "down")
    assert (said.tolerance, said.minimum_n, said.weight) == (0.2, 100, 2.5)
    assert said.valid_from == epoch_ms(datetime(2026, 1, 31, tzinfo=UTC))
    assert said.valid_to == epoch_ms(datetime(2026, 2, 28, 11, tzinfo=UTC))


def test_total_needs_no_sample() -> None:
    assert parsed('metric = "orders"', 'window = "7d"', "target = 100").minimum_n == 0


def test_metric_without_windows_needs_none() -> None:
    assert parsed('metric = "late_deliveries"', "target = 5").window == "now"


def test_file_without_targets_has_none() -> None:
    assert parse_targets("", "t.toml", load_catalogue()) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['metric = "npss"'], 't.toml:2: targets.x.metric "npss" is unknown: did you mean nps?'),
        (['metric = "???"'], 'targets.x.metric "???" is unknown: docs/metrics.md lists all'),
        ([], "t.toml:1: targets.x.metric is missing: a text"),
        (['metric = "nps"'], "targets.x.window is missing"),
        (['metric = "nps"', 'window = "31d"'], "t.toml:3: targets.x.window "),
        ([*NPS, 'dimension = "chanel"'], 'dimension "chanel" is unknown: did you mean channel?'),
        ([*NPS, 'dimension = "channel"'], "targets.x.member is missing"),
        ([*NPS, 'member = "phone"'], "t.toml:5: targets.x.member needs a dimension"),
        ([*NPS, "weigth = 2"], "t.toml:5: targets.x.weigth is unknown: did you mean weight?"),
        (NPS[:2], "targets.x.target must be a number of points"),
        ([*NPS[:2], "target = nan"], "t.toml:4: targets.x.target must be a number of points"),
        ([*NPS, "tolerance = -1"], "targets.x.tolerance must be 0 or more, is -1"),
        ([*NPS, "weight = inf"], "targets.x.weight must be 0 or more, is inf"),
        ([*NPS, 'direction = "left"'], "targets.x.direction must be one of up, down"),
        ([*NPS, 'valid_from = "soon"'], "targets.x.valid_from must be a date or a time"),
        (
            [*NPS, "valid_from = 2026-01-02", "valid_to = 2026-01-02"],
            "t.toml:6: targets.x.valid_to must be later than valid_from",
        ),
    ],
)
def test_mistake_is_named_with_file_line_and_key(lines: list[str], said: str) -> None:
    assert said in refusal(*lines)


def test_dimension_that_a_metric_is_not_counted_by_is_refused() -> None:
    lines = ['metric = "customers"', 'window = "now"', "target = 9", 'dimension = "queue"']
    assert "targets.x.dimension" in refusal(*lines)


def test_short_window_of_a_dimension_without_small_panes_is_refused() -> None:
    lines = [NPS[0], 'window = "1h"', "target = 3", 'dimension = "segment"', 'member = "gold"']
    assert 't.toml:3: targets.x.window "1h" is unknown: known are 24h, 7d' in refusal(*lines)


def test_metric_that_is_neither_better_up_nor_down_needs_a_direction() -> None:
    lines = ['metric = "contacts"', 'window = "24h"', "target = 100"]
    assert "targets.x.direction is missing: contacts has no better side" in refusal(*lines)
    assert parsed(*lines, 'direction = "down"').direction == "down"


def test_changes_are_what_differs() -> None:
    same, former = parsed(*NPS), parsed(*NPS, "weight = 2")
    wanted = [replace(same, target_id=name) for name in ("new", "same", "other")]
    stored = {name: replace(same, target_id=name) for name in ("same", "gone")}
    stored["other"] = replace(former, target_id="other")
    changes = compare(wanted, stored)
    assert changes._asdict() == {
        "added": ["new"],
        "changed": ["other"],
        "removed": ["gone"],
        "unchanged": ["same"],
    }


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00-01:00", datetime(2026, 1, 31, 13, tzinfo=UTC)),
    ],
)
def test_moment_without_an_offset_is_utc(text: str, moment: datetime) -> None:
    assert read_toml(f"at = {text}", "t.toml").moment("at") == moment


def test_moment_that_is_not_there_is_none() -> None:
    assert read_toml("", "t.toml").moment("at") is None


def test_check_says_what_a_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(load_targets_text())
    result = CliRunner().invoke(app, ["targets", "check", str(file)])
    assert result.exit_code == 0
    assert "at most 120" in result.output and "channel phone" in result.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[targets.x]\nmetric = 7\n", ":2: targets.x.metric must be a text, is 7"),
        (b"\xff", "is not UTF-8"),
        (None, "cannot read"),
    ],
)
def test_check_refuses_in_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "targets.toml"
    if content is not None:
        file.write_bytes(content)
    result = CliRunner().invoke(app, ["targets", "check", str(file)])
    assert result.exit_code == EXIT_CONFIGURATION
    assert said in result.stderr and result.stderr.count("\n") == 1
