"""The embedded stack: broker, ClickHouse and workers on one machine, all empty at the start.

    with LocalStack(settings, LocalOptions(workers=2)) as stack:
        ...  # stack.settings holds the real ports

Whatever happens inside, everything that was started is stopped: workers, ClickHouse, broker.
"""

import logging
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.broker import broker_answers, broker_arguments
from touchstream.streams.local.clickhouse_token import TOKEN_FILE, reader_token
from touchstream.streams.local.directory import DirectoryLock
from touchstream.streams.local.environment import local_settings, worker_environment
from touchstream.streams.local.extra import require_local_extra
from touchstream.streams.local.ports import accepts_connections, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.local.workers import Workers
from touchstream.streams.settings import Settings

log = logging.getLogger(__name__)
READY_SECONDS = 60.0
WATCH_SECONDS = 0.5
MARKER = "made-by-touchstream-up"
"""File in the ClickHouse directory that allows the next start to delete it."""

Prepare = Callable[[Settings], object]


@dataclass(frozen=True)
class LocalOptions:
    """Where the stack runs; a port of 0 takes a free one. Worker i has `metrics_port` + i."""

    directory: Path | None = None
    """None: `data_directory` of the settings."""
    workers: int = 2
    kafka_port: int | None = 9092
    """None: no broker is started; Kafka is where the settings say. Its topics must be as new as the
    tables, which start empty each time."""
    clickhouse_port: int = 8123
    metrics_port: int = 9464


def prepare_topics_and_tables(settings: Settings) -> None:
    """Create every topic and table, kept as long as the settings say."""
    from touchstream.streams.admin import apply_topics
    from touchstream.streams.expiry import apply_retention
    from touchstream.streams.migrations import migrate

    apply_topics(settings)
    migrate(settings)
    apply_retention(settings)


class LocalStack:
    """Runs from `with` to its end; enter it in a thread that lives that long."""

    settings: Settings
    """The settings given, adjusted to the embedded servers and their real ports."""
    workers: Workers
    metrics_ports: list[int]
    """Port of `/metrics` of each worker."""
    reader_token: str
    """Password of the user `bi`, who may only read; the same at every start."""

    def __init__(
        self,
        settings: Settings,
        options: LocalOptions | None = None,
        *,
        prepare: Prepare = prepare_topics_and_tables,
        on_restart: Callable[[str], None] = log.warning,
    ) -> None:
        """`on_restart` is told, in a thread, of each worker that ended and is started again."""
        self._options = options or LocalOptions()
        self._given = settings
        self._prepare = prepare
        self._on_restart = on_restart
        self._directory = (self._options.directory or settings.data_directory).resolve()
        self._running = ExitStack()
        self.servers: list[Child] = []
        """Broker, if it is embedded, and ClickHouse, once started."""
        self._failures: list[str] = []
        self._failed = threading.Event()

    def __enter__(self) -> "LocalStack":
        require_local_extra()
        with ExitStack() as starting:
            starting.enter_context(_exit_on_sigterm())
            starting.enter_context(DirectoryLock(self._directory))
            self._start(starting)
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def wait(self, seconds: float | None = None) -> None:
        """Stay until a server or worker fails for good (ConfigurationError) or the time is over."""
        left = float("inf") if seconds is None else seconds
        while left > 0:
            if self._failed.wait(min(WATCH_SECONDS, left)):
                raise ConfigurationError("; ".join(self._failures))
            for server in self.servers:
                if server.exit_code() is not None:
                    raise ConfigurationError(server.explain_end())
            left -= WATCH_SECONDS

    def start_workers(self) -> None:
        """Start workers under the settings as they are now; those before must have been stopped."""
        commands = self._worker_commands(self.metrics_ports)
        self.workers = Workers(commands, self._fail, self._on_restart)
        self.workers.start()

    def _start(self, running: ExitStack) -> None:
        clickhouse, *ports = choose_ports(_wanted_ports(self._options))
        self.metrics_ports = ports[: self._options.workers]
        kafka = None if self._options.kafka_port is None else ports[-1]
        self.settings = local_settings(self._given, self._directory, kafka, clickhouse)
        _empty_logs(self._directory / "logs")
        tables = _empty_tables(self._directory / "clickhouse")
        if kafka is not None:
            self._serve(running, "broker", broker_arguments(kafka), broker_answers(kafka))
        token_file = self._directory / TOKEN_FILE
        self.reader_token = reader_token(token_file)
        database = self.settings.clickhouse_database
        self._serve(
            running,
            "clickhouse",
            [
                *_clickhouse_arguments(tables, clickhouse),
                *("--database", database, "--token-file", str(token_file)),
            ],
            lambda: accepts_connections(clickhouse),
        )
        self._prepare(self.settings)
        self.start_workers()
        running.callback(lambda: self.workers.stop())

    def _serve(
        self, running: ExitStack, name: str, arguments: list[str], is_ready: Callable[[], bool]
    ) -> None:
        child = Child(Command(name, arguments, self._log(name)))
        running.callback(child.stop)
        self.servers.append(child)
        child.wait_until(is_ready, within_seconds=READY_SECONDS)

    def _worker_commands(self, metrics_ports: list[int]) -> list[Command]:
        arguments = [sys.executable, "-P", "-m", "touchstream.streams.cli", "worker"]
        return [
            Command(name, arguments, self._log(name), worker_environment(self.settings, port))
            for name, port in ((f"worker-{i}", port) for i, port in enumerate(metrics_ports))
        ]

    def _log(self, name: str) -> Path:
        return self._directory / "logs" / f"{name}.log"

    def _fail(self, reason: str) -> None:
        self._failures.append(reason)
        self._failed.set()


def _wanted_ports(options: LocalOptions) -> list[tuple[int, str]]:
    kafka, first = options.kafka_port, options.metrics_port
    return [
        (options.clickhouse_port, "--clickhouse-port"),
        *((first + i if first else 0, "--metrics-port") for i in range(options.workers)),
        *([] if kafka is None else [(kafka, "--kafka-port")]),
    ]


def _clickhouse_arguments(tables: Path, port: int) -> list[str]:
    module = "touchstream.streams.local.clickhouse"
    # -P: a file of the current directory must not shadow a package.
    return [sys.executable, "-P", "-m", module, "--path", str(tables), "--port", str(port)]


def _empty_logs(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for pattern in ("broker.log", "clickhouse.log", "worker-*.log"):  # others are not ours
        for log in folder.glob(pattern):
            log.unlink()


def _empty_tables(folder: Path) -> Path:
    """Delete the tables of the run before; refuses a folder that was not made here."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ConfigurationError(
            f"{folder} holds files that are not touchstream's: choose another directory"
        )
    if folder.exists():
        with DirectoryLock(folder):  # a ClickHouse started by hand may be using it
            shutil.rmtree(folder)
    folder.mkdir()
    (folder / MARKER).touch()
    return folder


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the `with` block like an exception, so that everything is stopped in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signals; children then die with their parent
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt stopping
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
