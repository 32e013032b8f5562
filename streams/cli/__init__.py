"""The `touchstream` command: thin shells over the package, one clear line for every mistake."""

from typing import Annotated

import typer

from touchstream.streams.cli.demo import demo_command
from touchstream.streams.cli.doctor import doctor_command
from touchstream.streams.cli.publish import publish_command
from touchstream.streams.cli.queries import (
    customers_show_command,
    metrics_command,
    migrate_command,
    query_command,
)
from touchstream.streams.cli.run import topics_apply_command, up_command, worker_command

app = typer.Typer(
    name="touchstream",
    help="Stitch touchpoints of every channel into one customer and rolling CX metrics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
topics = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
customers = typer.Typer(help="The single customer view.", no_args_is_help=True)
app.add_typer(topics, name="topics")
app.add_typer(customers, name="customers")

app.command("demo")(demo_command)
app.command("up")(up_command)
app.command("worker")(worker_command)
app.command("publish")(publish_command)
app.command("query")(query_command)
app.command("metrics")(metrics_command)
customers.command("show")(customers_show_command)
app.command("migrate")(migrate_command)
topics.command("apply")(topics_apply_command)
app.command("doctor")(doctor_command)


@app.callback(invoke_without_command=True)
def before_every_command(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Stitch touchpoints of every channel into one customer and rolling CX metrics."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"touchstream {version_of('touchstream')}")
        raise typer.Exit


def main() -> None:
    """Entry point of the command."""
    app()
