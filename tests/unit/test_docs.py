"""README and docs: links lead somewhere, snippets run, settings and commands exist."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from pydantic import SecretStr

from touchstream.streams.clickhouse import connect
from touchstream.streams.dead_letters import Reason
from touchstream.streams.migrations import migrate
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import PREFIX, Settings
from touchstream.streams.topics import CHANNELS
from touchstream.streams.touchpoint_files import FileFormat, read_touchpoints
from touchstream.streams.validation import validate_touchpoint

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    ROOT / "deploy" / "secrets" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
SHELL_TOOLS = {"source", "docker", "openssl", "chmod"}
"""What snippets may call besides make and touchstream."""
NO_SETTINGS = {PREFIX + "CONFIG", PREFIX + "SECRETS_DIR"}
"""Variables that say where settings are."""


class Snippet(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    topic: str
    text: str


def snippets(*languages: str) -> list[Snippet]:
    fence = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Snippet(page.name, match[1], match[2] or "", match[3])
        for page in PAGES
        for match in fence.finditer(page.read_text())
        if match[1] in languages
    ]


def shell_words() -> Iterator[tuple[str, list[str]]]:
    """Every command of every shell snippet, cut into words."""
    for snippet in snippets("bash", "sh", "console", "shell"):
        for line in snippet.text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in shlex.split(line, comments=True):
                if word in ("|", "&&"):
                    yield snippet.page, words
                    words = []
                else:
                    words.append(word)
            if words:
                yield snippet.page, words


def python_snippets() -> list[Snippet]:
    return snippets("python")


def named(snippet: Snippet) -> str:
    return snippet.page


def test_the_table_of_settings_is_complete_and_its_defaults_are_true() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    documented = dict(re.findall(r"^\| `(TOUCHSTREAM_\w+)` \| ([^|]*) \|", text, re.MULTILINE))
    expected = {
        PREFIX + name.upper(): _shown(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert documented == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_named_is_a_setting(page: Path) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NO_SETTINGS
    used = set(re.findall(r"TOUCHSTREAM_[A-Z][A-Z_]*", page.read_text()))
    assert used - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_by_path_exist(page: Path) -> None:
    text = page.read_text()
    paths = re.findall(
        r"`((?:streams|agents|schemas|deploy|docs|tests|requirements)/[\w./-]*)`", text
    )
    assert [path for path in paths if "NNNN" not in path and not (ROOT / path).exists()] == []


def test_shell_snippets_use_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = []
    for page, words in shell_words():
        match words:
            case ["make", *wanted]:
                known = {word for word in wanted if not re.match(r"[A-Z]+=", word)} <= targets
            case ["touchstream", *arguments]:
                known = _is_command(arguments)
            case [tool, *_]:
                known = tool in SHELL_TOOLS
            case _:
                known = False
        if not known:
            unknown.append(f"{page}: {' '.join(words)}")
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_text_exist(page: Path) -> None:
    for quoted in re.findall(r"`touchstream ([a-z][^`]*)`", page.read_text()):
        assert _is_command(shlex.split(quoted)), f"touchstream {quoted}"


@pytest.mark.parametrize("snippet", python_snippets(), ids=named)
def test_python_snippets_run_and_publish(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = _Broker()
    defaults = Publisher.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "connect", lambda config: broker)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    exec(compile(snippet.text, snippet.page, "exec"), {"__name__": "snippet"})

    assert broker.topics
    assert broker.flushed


@pytest.mark.parametrize("snippet", snippets("json", "csv"), ids=named)
def test_example_files_are_valid(snippet: Snippet) -> None:
    channel = snippet.topic
    assert channel in CHANNELS
    kind = FileFormat.CSV if snippet.language == "csv" else FileFormat.NDJSON
    for line in read_touchpoints(channel, kind, snippet.text.encode().splitlines(keepends=True)):
        assert line.touchpoint is not None, line.reason
        validate_touchpoint(channel, line.touchpoint)


def test_every_reason_for_a_dead_letter_is_explained() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("### TouchstreamDeadLetters\n")[2].partition("\n### ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert documented == [str(reason) for reason in Reason]


@pytest.mark.integration
def test_sql_snippets_are_answered(clickhouse_settings: Settings) -> None:
    queries = [snippet.text for snippet in snippets("sql")]
    queries += [words[2] for _, words in shell_words() if words[:2] == ["touchstream", "query"]]
    assert len(queries) > 4
    migrate(clickhouse_settings)
    client = connect(clickhouse_settings, dedicated_pool=True)
    try:
        for query in queries:
            client.query(query)
    finally:
        client.close()


class _Broker:
    """Stands in for confluent-kafka's producer and delivers everything at once."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.flushed = False

    def produce(
        self, topic: str, *, value: bytes, key: bytes, on_delivery: Callable[[Any, Any], None]
    ) -> None:
        self.topics.append(topic)
        on_delivery(None, None)

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        self.flushed = True
        return 0

    def list_topics(self, topic: str | None = None, *, timeout: float) -> Any:
        raise AssertionError("no snippet lists topics")


def _shown(default: object) -> str:
    """A default as the table shows it."""
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None:
        return "none"
    if default == "":
        return "empty"
    return f"`{json.dumps(default) if isinstance(default, bool) else default}`"


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def _is_command(words: list[str]) -> bool:
    """Whether the words begin with a command and have no option that it does not know."""
    from touchstream.streams.cli import app

    command: Any = typer.main.get_command(app)
    for depth, word in enumerate(words):
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            rest = words[depth:]
            break
        command = found
    else:
        rest = []
    known = {option for parameter in command.params for option in parameter.opts}
    options = {word.partition("=")[0] for word in rest if word.startswith("--")}
    return not hasattr(command, "commands") and options <= known | {"--help"}
