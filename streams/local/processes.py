"""Child processes: started with a log file, waited for by a condition, stopped in order.

A child lives in its own session, so Ctrl-C reaches the parent alone, and the kernel kills it when
the thread that started it ends: start children from a thread that outlives them.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from touchstream.streams.errors import ConfigurationError

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.05
TAIL_LINES = 5
TAIL_BYTES = 4096
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Command:
    """What to run, where its output goes, and all of its variables."""

    name: str
    arguments: list[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Child:
    """A running child process."""

    def __init__(self, command: Command) -> None:
        self._command = command
        parent = os.getpid()
        with command.log.open("ab") as log:
            self._process = _start(command, log.fileno(), lambda: _die_with(parent))

    @property
    def name(self) -> str:
        """Name for messages."""
        return self._command.name

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Exit code, once it has ended."""
        return self._process.wait()

    def wait_until(self, is_ready: Callable[[], bool], *, within_seconds: float) -> None:
        """Poll until ready; raises ConfigurationError if the child ends or the time is over."""
        deadline = time.monotonic() + within_seconds
        while not is_ready():
            if self._ends_within(POLL_SECONDS):
                raise ConfigurationError(self.explain_end())
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"{self.name} was not ready after {within_seconds:g} s: see {self._command.log}"
                )

    def explain_end(self) -> str:
        """Say how the child ended, with the last lines of its log."""
        lines = tail(self._command.log)
        said = ":\n" + "\n".join(lines) if lines else ""
        return f"{self.name} ended with {self.exit_code()}, see {self._command.log}{said}"

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it still runs."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        self._process.kill()

    def stop(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        """SIGTERM, then SIGKILL for one that does not end in time."""
        self.ask_to_stop()
        if not self._ends_within(grace_seconds):
            self.kill()
            self._process.wait()

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def stop_all(children: Iterable[Child]) -> None:
    """Stop several at the same time."""
    running = [*children]
    for child in running:
        child.ask_to_stop()
    for child in running:
        child.stop()


def tail(log: Path) -> list[str]:
    """Last lines of a log that say something."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-TAIL_LINES:]


def _start(command: Command, log: int, prepare: Callable[[], None]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(command.environment),
            start_new_session=True,
            preexec_fn=prepare,
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot start {command.name} ({command.arguments[0]}): {error.strerror}"
        ) from None


def _die_with(parent: int) -> None:
    """Run in the child before exec: ask the kernel for SIGKILL when the parent ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the request
        os._exit(1)
