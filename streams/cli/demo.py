"""`touchstream demo`: the whole pipeline with real purchases and known totals, on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from touchstream.streams.cli.errors import one_line_errors

WIDTH = 100


def demo_command(
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay up until Ctrl-C, with touchpoints of now arriving.")
    ] = False,
    directory: Annotated[
        Path, typer.Option(help="Where the embedded stack keeps logs and tables.")
    ] = Path(".touchstream/demo"),
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 2,
) -> None:
    """Run everything once with real purchases, and check every total.

    Starts a broker, ClickHouse and workers, publishes the 69,659 CDNOW purchases
    and journeys on seven more channels around them, and prints what came out:
    customers, one timeline, metrics, speed. Exit code 0 only if all is right.
    With --keep it stays up for your BI tool and says how to query it.

    Examples:

      touchstream demo

      touchstream demo --keep

      touchstream demo --workers 1 --directory /tmp/demo
    """
    from touchstream.streams.demo.run import run_demo

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with one_line_errors():
        code = run_demo(keep=keep, directory=directory, workers=workers, console=console)
    raise typer.Exit(code)
