"""`python -m touchstream.streams.local.clickhouse --path DIR --port N`: ClickHouse on loopback.

chDB behind ClickHouse's HTTP interface, for trying, developing and testing. Two users: `default`
without a password, and `bi`, who may only read and whose token is in a file. Prints one line when
it is ready; ends with code 78 and one line on stderr if the directory or the port belongs to
somebody else.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.clickhouse_token import TOKEN_FILE, reader_token
from touchstream.streams.local.directory import DirectoryLock
from touchstream.streams.local.extra import require_local_extra
from touchstream.streams.local.ports import bind_loopback

if TYPE_CHECKING:
    from touchstream.streams.local.clickhouse_engine import Engine

GRACE_SECONDS = 3.0
SESSION_CHECK_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="touchstream.streams.local.clickhouse")
    parser.add_argument("--path", type=Path, required=True, help="directory of the tables")
    parser.add_argument("--port", type=int, required=True, help="loopback port; 0: any free one")
    parser.add_argument("--database", default="touchstream", help="what the user bi may read")
    parser.add_argument("--token-file", type=Path, help="of bi; default: in the directory")
    options = parser.parse_args(arguments)
    try:
        return run(options.path, options.port, options.database, options.token_file)
    except ConfigurationError as error:
        print(f"clickhouse: {error}", file=sys.stderr)
        return os.EX_CONFIG


def run(directory: Path, port: int, database: str, token_file: Path | None) -> int:
    """Take port and directory, then serve; `bi` may read `database`."""
    require_local_extra()
    # The engine takes its time zone from the process, and DateTime literals from there.
    os.environ["TZ"] = "UTC"
    time.tzset()
    with bind_loopback(port, "--port") as listener, DirectoryLock(directory):
        # Not at the top: without the extra there must be one line, not a traceback.
        from touchstream.streams.local.clickhouse_engine import Engine

        token = reader_token(token_file or directory / TOKEN_FILE)
        engine = Engine(directory, database)
        try:
            asyncio.run(serve(engine, token, listener))
        finally:
            engine.close()
    return os.EX_OK


async def serve(engine: "Engine", token: str, listener: socket.socket) -> None:
    """Answer requests until a signal; running calls get a few seconds to end."""
    from aiohttp import web

    from touchstream.streams.local.clickhouse_http import make_runner

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = make_runner(engine, token, GRACE_SECONDS)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    print(f"listening on {listener.getsockname()}", flush=True)
    while not await _happens(stopped, within_seconds=SESSION_CHECK_SECONDS):
        await asyncio.to_thread(engine.sessions.close_idle)
    await runner.cleanup()


async def _happens(event: asyncio.Event, *, within_seconds: float) -> bool:
    try:
        async with asyncio.timeout(within_seconds):
            return await event.wait()
    except TimeoutError:
        return False


if __name__ == "__main__":
    sys.exit(main())
