"""How a command ends when something is wrong: one line on stderr, exit code not 0, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from clickhouse_connect.driver.exceptions import ClickHouseError

from touchstream.streams.errors import EXIT_CONFIGURATION, ConfigurationError, TouchstreamError

EXIT_FAILURE = 1


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of ours and of ClickHouse into one line: exit code 78 for a wrong setting."""
    try:
        yield
    except (TouchstreamError, ClickHouseError) as error:
        text = str(error).partition("server response: ")[2] or str(error)
        typer.echo(f"touchstream: {' '.join(text.split())}", err=True)
        wrong = isinstance(error, ConfigurationError)
        raise typer.Exit(EXIT_CONFIGURATION if wrong else EXIT_FAILURE) from None
