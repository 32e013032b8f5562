"""An exclusive lock on a directory: the second process that asks is refused, naming the holder."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from touchstream.streams.errors import ConfigurationError

LOCK_FILE = "touchstream.lock"


class DirectoryLock:
    """Holds `directory` from `with` to its end; the kernel releases it if the process dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[str] | None = None

    def __enter__(self) -> "DirectoryLock":
        file = _open(self._directory)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise ConfigurationError(
                f"{self._directory} is in use by process {holder}: "
                "stop that process or choose another directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: removing it would let two processes lock two files of the same name.
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(directory: Path) -> IO[str]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return (directory / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to the directory {directory} ({error.strerror}): choose another one"
        ) from None


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"
