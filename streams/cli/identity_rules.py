"""Commands about identity rules: check a file, see what it would change, apply it, show it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.identity import AGENTS
from touchstream.streams.cli.identity_words import Note, Operator, Wait, needed_operator, not_taken
from touchstream.streams.cli.printing import say, titled
from touchstream.streams.cli.queries import opened, show
from touchstream.streams.cli.waiting import Deadline
from touchstream.streams.errors import EXIT_CONFIGURATION, ConfigurationError
from touchstream.streams.identity_store import IdentityStore
from touchstream.streams.operations_log import publish_operation
from touchstream.streams.settings import load_settings

File = Annotated[Path, typer.Argument(metavar="FILE", help="Identity rules, TOML.")]
FIGURES = (
    "customers",
    "customers_with_touchpoints",
    "buyers",
    "repeat_buyers",
    "repeat_rate",
    "orders_per_buyer",
    "revenue_per_buyer",
    "contacts_per_customer",
)


def identity_rules_check_command(file: File) -> None:
    """Check a file of identity rules and say what it holds; changes nothing.

    Examples:

      touchstream identity rules check rules.toml
    """
    with one_line_errors(EXIT_CONFIGURATION):
        lines = importlib.import_module(AGENTS).rules_lines(_text(file), str(file))
        show(titled(f"{file}: right"), lines[0]._fields, lines)


def identity_rules_apply_command(
    file: File, note: Note = "", operator: Operator = "", wait: Wait = 10.0
) -> None:
    """Make a file of identity rules hold, for the whole history.

    Customers that they would not allow are split, and links that they allow are
    taken. See what changes with `touchstream identity dry-run` first.

    Examples:

      touchstream identity rules apply rules.toml --note "e-mails of kiosks"
    """
    with one_line_errors(EXIT_CONFIGURATION):
        settings = load_settings()
        agents = importlib.import_module(AGENTS)
        who = needed_operator(operator)
        operation = agents.rules_operation(_text(file), str(file), operator=who, note=note)
        with opened(settings) as client:
            number = publish_operation(settings, operation)
            say(f"{file}: operation {number}")
            if not wait:
                return
            store = IdentityStore(client)
            if not Deadline(wait).reached(lambda: _number(store) >= number):
                raise not_taken(number)
            say(f"rules {_number(store)} hold; identities are decided anew from now on")


def identity_rules_show_command() -> None:
    """Print the file of the identity rules in force.

    Examples:

      touchstream identity rules show
    """
    with one_line_errors():
        agents = importlib.import_module(AGENTS)
        with opened(load_settings()) as client:
            store = IdentityStore(client)
            rules = store.rules()
            text = agents.rules_text(store)
        source = "the default rules: none were ever applied"
        if rules:
            source = f"rules {rules.number}, applied by {rules.operator} at {rules.said_at} UTC"
        say(source, err=True)
        sys.stdout.write(text)


def identity_dry_run_command(
    file: File,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="How to print it.")
    ] = "table",
) -> None:
    """Say what other identity rules would make of the whole history; changes nothing.

    Examples:

      touchstream identity dry-run rules.toml

      touchstream identity dry-run rules.toml --format json
    """
    with one_line_errors(EXIT_CONFIGURATION):
        agents = importlib.import_module(AGENTS)
        text = _text(file)
        with opened(load_settings()) as client:
            report = agents.dry_run_of(IdentityStore(client), text, str(file))
        if output == "json":
            typer.echo(agents.report_json(report))
        else:
            show_report(report)


def show_report(report: Any) -> None:
    """Print the report of a dry run."""
    before, after = report.now, report.then
    show(
        titled(f"{report.identities:,} identities"),
        ("figure", "now", "then"),
        [
            (name.replace("_", " "), getattr(before.figures, name), getattr(after.figures, name))
            for name in FIGURES
        ],
    )
    reasons = sorted(before.refused.keys() | after.refused.keys())
    if reasons:
        rows = [(each, before.refused.get(each, 0), after.refused.get(each, 0)) for each in reasons]
        show(titled("refused links"), ("reason", "now", "then"), rows)
    say(f"{report.split:,} customers would split, into {report.split_into:,}")
    say(f"{report.joined:,} customers would join, into {report.joined_into:,}")
    say(f"{report.moved:,} identities would get another customer id")
    for title, examples in (("would split", report.splits), ("would join", report.joins)):
        for example in examples:
            rows = list(_example(example.groups))
            show(titled(f"{example.customer} {title}"), ("customer", "kind", "identity"), rows)
    if report.behind:
        say(
            f"Note: of {report.behind:,} identities the view identities shows another customer than"
            " the rules in force give them: workers have not yet processed everything"
        )


def _example(groups: Any) -> Iterator[tuple[str, str, str]]:
    for group in groups:
        name = group.customer
        for token, kind in group.identities:
            yield name, kind, token
            name = ""
        if group.more:
            yield "", "", f"and {group.more:,} more"


def _number(store: IdentityStore) -> int:
    rules = store.rules()
    return rules.number if rules else 0


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8") from None
