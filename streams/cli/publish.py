"""`touchstream publish`: a file of touchpoints in, records on a channel's topic out.

Every line is either delivered, or written to the file of rejected lines with its number and reason.
Exit code 0: all delivered; 1: some rejected; 2: nothing can be said of what was not yet delivered.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Annotated, BinaryIO, NamedTuple, Self, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from touchstream.streams.errors import ConfigurationError, TouchstreamError
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import load_settings
from touchstream.streams.topics import CHANNELS
from touchstream.streams.touchpoint_files import FileFormat, guess_format, read_touchpoints
from touchstream.streams.touchpoint_lines import Line
from touchstream.streams.validation import InvalidTouchpoint


class Outcome(NamedTuple):
    """How many lines went where."""

    accepted: int
    rejected: int


def publish_command(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="The file, or - for stdin.")],
    channel: Annotated[str, typer.Option("--channel", "-c", help=f"One of {', '.join(CHANNELS)}.")],
    file_format: Annotated[
        str, typer.Option("--format", "-f", help="auto, ndjson or csv.")
    ] = "auto",
    rejected: Annotated[
        Path | None,
        typer.Option(help="Where rejected lines go, as NDJSON.", show_default="FILE.rejected"),
    ] = None,
    wait_seconds: Annotated[
        float, typer.Option(min=0.1, help="How long Kafka may take to answer or to acknowledge.")
    ] = 10.0,
) -> None:
    """Publish touchpoints from a file, or from standard input (-).

    Lines are NDJSON, or CSV with a header: the fields of the channel's schema,
    identifier.<kind>, identifier.<kind>.verified, consent.<purpose> and
    properties.<name>. Times are ISO-8601 with an offset or Z, a date alone
    (midnight UTC), or epoch milliseconds.

    \b
    Examples:
      touchstream publish --channel purchase orders.csv
      touchstream publish --channel web --rejected bad.ndjson visits.ndjson
      zcat chats.ndjson.gz | touchstream publish --channel chat -
    """
    try:
        _check_words(channel, file_format)
        with Rejected(_rejected_path(source, rejected)) as bad:
            outcome = _publish(source, channel, file_format, bad, wait_seconds)
    except TouchstreamError as error:
        typer.echo(f"touchstream publish: {error}", err=True)
        raise typer.Exit(2) from None
    where = f", {outcome.rejected} rejected: see {bad.path}" if outcome.rejected else ""
    typer.echo(f"{outcome.accepted} touchpoints published to {channel}{where}")
    if outcome.rejected:
        raise typer.Exit(1)


def _check_words(channel: str, file_format: str) -> None:
    if channel not in CHANNELS:
        raise ConfigurationError(f"no channel {channel!r}: choose one of {', '.join(CHANNELS)}")
    if file_format not in ("auto", *FileFormat):
        raise ConfigurationError(f"no format {file_format!r}: choose auto, ndjson or csv")


def _rejected_path(source: str, named: Path | None) -> Path:
    path = named or Path("stdin.rejected" if source == "-" else f"{source}.rejected")
    if source != "-" and path.resolve() == Path(source).resolve():
        raise ConfigurationError(f"--rejected would overwrite {source}: choose another file")
    return path


class Rejected:
    """The file of rejected lines; made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def add(self, line: Line, reason: str) -> None:
        """Write one line with its number and reason."""
        record = {"line": line.number, "reason": reason, "text": line.text}
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            self._file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise ConfigurationError(f"cannot write {self.path}: {error.strerror}") from None
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()


def _publish(
    source: str, channel: str, file_format: str, rejected: Rejected, wait_seconds: float
) -> Outcome:
    limits = {"message.timeout.ms": int(wait_seconds * 1000), "log_level": 0}
    with ExitStack() as stack:
        file = _open(source, stack)
        publisher = stack.enter_context(
            Publisher(load_settings(), channels=[channel], kafka=limits)
        )
        publisher.check_topics(wait_seconds)
        progress = stack.enter_context(Meter(_size(file)))
        lines = progress.watch(file)
        first = next(lines, b"")
        chosen = guess_format(source, first) if file_format == "auto" else FileFormat(file_format)
        for line in read_touchpoints(channel, chosen, chain([first], lines)):
            _publish_line(publisher, channel, line, rejected)
        publisher.flush(wait_seconds + 1)
    return Outcome(publisher.delivered, rejected.count)


def _publish_line(publisher: Publisher, channel: str, line: Line, rejected: Rejected) -> None:
    if line.touchpoint is None:
        rejected.add(line, line.reason)
        return
    try:
        publisher.publish(channel, line.touchpoint)
    except InvalidTouchpoint as error:
        rejected.add(line, f"{error.field} {error.problem}")


def _open(source: str, stack: ExitStack) -> BinaryIO:
    if source == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(source).open("rb"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}") from None


def _size(file: BinaryIO) -> int | None:
    if not file.seekable():
        return None
    start = file.tell()
    size = file.seek(0, 2) - start
    file.seek(start)
    return size


class Meter:
    """A progress bar on standard error, shown on terminals only."""

    def __init__(self, total_bytes: int | None) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("publishing"), BarColumn(), TextColumn("{task.fields[lines]} lines"))
        self._bar = Progress(
            *columns,
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("publishing", total=total_bytes, lines=0)

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the lines on and move the bar, every thousand of them."""
        read_bytes = 0
        number = 0
        for number, line in enumerate(lines, 1):
            read_bytes += len(line)
            if number % 1000 == 0:
                self._bar.update(self._task, completed=read_bytes, lines=number)
            yield line
        self._bar.update(self._task, completed=read_bytes, lines=number)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
