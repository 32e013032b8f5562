"""The command: a file in, records and rejected lines out, one clear line for everything wrong."""

import json
from pathlib import Path
from typing import Any, Self

import pytest
import typer
from typer.testing import CliRunner, Result

from touchstream.streams.cli import publish as command
from touchstream.streams.errors import TransientError
from touchstream.streams.validation import Touchpoint, validate_touchpoint

GOOD = '{"event_id":"1","occurred_at":0,"action":"x","identifiers":[{"kind":"a","value":"b"}]}\n'


class FakePublisher:
    """Validates as the real one does, and delivers at once."""

    problem: TransientError | None = None
    published: list[tuple[str, Touchpoint]]

    def __init__(self, settings: Any, *, channels: list[str], kafka: dict[str, Any]) -> None:
        FakePublisher.published = []
        self.delivered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def check_topics(self, timeout_seconds: float) -> None:
        if self.problem:
            raise self.problem

    def publish(self, channel: str, touchpoint: Touchpoint) -> None:
        validate_touchpoint(channel, touchpoint)
        self.published.append((channel, touchpoint))
        self.delivered += 1

    def flush(self, timeout_seconds: float) -> None: ...


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "Publisher", FakePublisher)
    monkeypatch.setattr(FakePublisher, "problem", None)
    return tmp_path


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    app = typer.Typer()
    app.command()(command.publish_command)
    return CliRunner().invoke(app, arguments, input=stdin)


def test_good_file_is_published() -> None:
    Path("visits.ndjson").write_text(GOOD * 3)
    result = run("--channel", "web", "visits.ndjson")
    assert (result.exit_code, result.stdout) == (0, "3 touchpoints published to web\n")
    assert not Path("visits.ndjson.rejected").exists()


def test_csv_is_published() -> None:
    Path("visits.csv").write_text("event_id,occurred_at,action,identifier.a\n1,0,x,b\n")
    assert run("--channel", "web", "visits.csv").exit_code == 0
    assert FakePublisher.published[0][1]["identifiers"][0]["value"] == "b"


def test_rejected_lines_are_kept_with_number_and_reason() -> None:
    Path("visits.ndjson").write_text(GOOD + "{\n" + GOOD.replace('"1"', '""') + GOOD)
    result = run("--channel", "web", "visits.ndjson")
    assert result.exit_code == 1
    assert "2 touchpoints published to web, 2 rejected: see visits.ndjson.rejected" in result.stdout
    rejected = Path("visits.ndjson.rejected").read_text().splitlines()
    first, second = (json.loads(line) for line in rejected)
    assert (first["line"], first["text"]) == (2, "{")
    assert (second["line"], second["reason"]) == (3, "event_id is empty")


def test_standard_input_is_read() -> None:
    assert run("--channel", "web", "-", stdin=GOOD).exit_code == 0
    assert len(FakePublisher.published) == 1


def test_rejected_standard_input_has_a_file_too() -> None:
    result = run("-c", "web", "--format", "ndjson", "-", stdin=b"\xff\n")
    assert result.exit_code == 1
    assert Path("stdin.rejected").is_file()


def test_empty_file_publishes_nothing() -> None:
    Path("empty.ndjson").touch()
    result = run("--channel", "web", "empty.ndjson")
    assert (result.exit_code, result.stdout) == (0, "0 touchpoints published to web\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--channel", "fax", "good.ndjson"), "no channel 'fax': choose one of web, chat"),
        (("--channel", "web", "none.ndjson"), "cannot read none.ndjson: No such file"),
        (("--channel", "web", "."), "cannot read .: Is a directory"),
        (("--channel", "web", "--format", "xml", "good.ndjson"), "no format 'xml'"),
        (("--channel", "web", "--format", "csv", "good.ndjson"), "the CSV header cannot be read"),
        (("--channel", "web", "--rejected", "good.ndjson", "good.ndjson"), "would overwrite"),
        (("--channel", "web", "--rejected", "no/x", "bad.ndjson"), "cannot write no/x"),
    ],
)
def test_wrong_call_is_one_clear_line(arguments: tuple[str, ...], text: str) -> None:
    Path("good.ndjson").write_text(GOOD)
    Path("bad.ndjson").write_text("{\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("touchstream publish: ")
    assert text in result.stderr and result.stderr.count("\n") == 1


def test_unreachable_kafka_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePublisher, "problem", TransientError("Kafka does not answer"))
    Path("good.ndjson").write_text(GOOD)
    result = run("--channel", "web", "good.ndjson")
    assert (result.exit_code, result.stderr) == (2, "touchstream publish: Kafka does not answer\n")


def test_help_shows_examples() -> None:
    assert "touchstream publish --channel purchase orders.csv" in run("--help").stdout
