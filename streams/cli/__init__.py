"""The `touchstream` command: thin shells over the package, one clear line for every mistake."""

from typing import Annotated

import typer

from touchstream.streams.cli.alerts import alerts_command
from touchstream.streams.cli.demo import demo_command
from touchstream.streams.cli.doctor import doctor_command
from touchstream.streams.cli.erase import erase_command
from touchstream.streams.cli.export import export_command
from touchstream.streams.cli.identity import (
    identity_explain_command,
    identity_refused_command,
    identity_show_command,
)
from touchstream.streams.cli.identity_rules import (
    identity_dry_run_command,
    identity_rules_apply_command,
    identity_rules_check_command,
    identity_rules_show_command,
)
from touchstream.streams.cli.identity_words import (
    identity_allow_command,
    identity_deny_command,
    identity_share_command,
    identity_unshare_command,
)
from touchstream.streams.cli.migrate import migrate_command
from touchstream.streams.cli.publish import publish_command
from touchstream.streams.cli.queries import (
    customers_show_command,
    metrics_command,
    query_command,
)
from touchstream.streams.cli.reconcile import reconcile_command
from touchstream.streams.cli.run import topics_apply_command, up_command, worker_command
from touchstream.streams.cli.squash import squash_command
from touchstream.streams.cli.targets import (
    targets_apply_command,
    targets_check_command,
    targets_show_command,
)

app = typer.Typer(
    name="touchstream",
    help="Stitch touchpoints of every channel into one customer and rolling CX metrics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
topics = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
customers = typer.Typer(help="The single customer view.", no_args_is_help=True)
targets = typer.Typer(help="Where metrics should be, and where they are.", no_args_is_help=True)
identities = typer.Typer(help="Who is one customer, and why.", no_args_is_help=True)
rules = typer.Typer(help="The identity rules.", no_args_is_help=True)
app.add_typer(topics, name="topics")
app.add_typer(targets, name="targets")
app.add_typer(customers, name="customers")
app.add_typer(identities, name="identity")
identities.add_typer(rules, name="rules")

app.command("demo")(demo_command)
app.command("up")(up_command)
app.command("worker")(worker_command)
app.command("publish")(publish_command)
app.command("query")(query_command)
app.command("metrics")(metrics_command)
app.command("reconcile")(reconcile_command)
app.command("squash")(squash_command)
app.command("alerts")(alerts_command)
app.command("erase")(erase_command)
app.command("export")(export_command)
customers.command("show")(customers_show_command)
identities.command("show")(identity_show_command)
identities.command("explain")(identity_explain_command)
identities.command("deny")(identity_deny_command)
identities.command("allow")(identity_allow_command)
identities.command("share")(identity_share_command)
identities.command("unshare")(identity_unshare_command)
identities.command("refused")(identity_refused_command)
identities.command("dry-run")(identity_dry_run_command)
rules.command("check")(identity_rules_check_command)
rules.command("apply")(identity_rules_apply_command)
rules.command("show")(identity_rules_show_command)
targets.command("check")(targets_check_command)
targets.command("apply")(targets_apply_command)
targets.command("show")(targets_show_command)
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
