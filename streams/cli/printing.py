"""Printing what others wrote: nothing that a terminal would obey reaches it."""

from datetime import UTC, datetime, timedelta

import typer
from rich.table import Table
from rich.text import Text

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
