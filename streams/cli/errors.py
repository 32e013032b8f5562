"""How a command ends when something is wrong: one line on stderr, exit code not 0, no traceback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from clickhouse_connect.driver.exceptions import ClickHouseError

from touchstream.streams.errors import ConfigurationError, TouchstreamError

EXIT_FAILURE = 1


def quiet_clickhouse_client() -> None:
    """It logs what it raises, and without a logging setup that is a second line on stderr."""
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


@contextmanager
def one_line_errors(exit_configuration: int = EXIT_FAILURE) -> Iterator[None]:
    """Turn errors of ours and of ClickHouse into one line.

    A ConfigurationError exits with `exit_configuration`: supervisors of long-running commands want
    to know that starting again does not help.
    """
    quiet_clickhouse_client()
    try:
        yield
    except (TouchstreamError, ClickHouseError) as error:
        text = str(error).partition("server response: ")[2] or str(error)
        typer.echo(f"touchstream: {' '.join(text.split())}", err=True)
        wrong = isinstance(error, ConfigurationError)
        raise typer.Exit(exit_configuration if wrong else EXIT_FAILURE) from None
