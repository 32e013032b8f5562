"""Printing what others wrote: nothing that a terminal would obey reaches it."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import typer
from clickhouse_connect.driver.client import Client
from rich.table import Table
from rich.text import Text

from touchstream.streams.cli.queries import Format, show

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def say(line: str, *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line), err=err
    )


def moment(ms: int) -> datetime:
    """A time in milliseconds, to be shown."""
    return EPOCH + timedelta(milliseconds=ms)


def titled(title: str) -> Table:
    """A table under a title, which is text and no markup."""
    return Table(title=Text(title), title_justify="left")


def print_query(client: Client, sql: str, parameters: dict[str, Any], output: Format) -> None:
    """Print the rows of a query as a table, as JSON or as CSV with a header."""
    if output == "table":
        result = client.query(sql, parameters=parameters)
        show(Table(), result.column_names, result.result_rows)
        return
    array = {"output_format_json_array_of_rows": 1} if output == "json" else {}
    name = "CSVWithNames" if output == "csv" else "JSONEachRow"
    rows = client.raw_query(sql, parameters=parameters, fmt=name, settings=array)
    sys.stdout.write(rows.decode(errors="replace"))
