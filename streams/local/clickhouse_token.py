"""The token of `bi`, the embedded ClickHouse's reader: made once, kept in a file of its owner."""

import os
import secrets
from pathlib import Path

from touchstream.streams.errors import ConfigurationError

TOKEN_FILE = "clickhouse-bi.token"
SHORTEST_TOKEN = 16


def reader_token(file: Path) -> str:
    """The reader's token; makes it, for its owner's eyes only, if the file is not there."""
    try:
        if not file.exists():
            _write_privately(file, secrets.token_urlsafe(24) + "\n")
        file.chmod(0o600)
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot keep the token of `bi` in {file} ({error})") from None
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(f"{file} holds no token: delete it, the next start makes one")
    return token


def _write_privately(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as target:
        target.write(text)
    part.replace(file)
