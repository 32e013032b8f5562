"""Commands that say who is one customer and why: identity show, explain, refused.

They read ClickHouse and change nothing.
"""

import importlib
from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client
from rich.table import Table

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.printing import moment, say, titled
from touchstream.streams.cli.queries import Format, opened, print_query, show
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.identity_store import Found, IdentityStore
from touchstream.streams.settings import load_settings

AGENTS = "touchstream.agents.identity_commands"
"""By name: streams must not depend on agents, but only they know tokens, rules and customers."""
WHO = "kind:value of an identifier, its token, or a customer id"
MOST_LINES = 50
"""Of each table of `identity show`."""
_IDENTITIES = """SELECT kind, identity, first_seen_at, changed_at FROM identities
WHERE customer_id = {customer:String} ORDER BY first_seen_at, identity"""
_LINKS = """SELECT one_kind AS kind, one AS identity, two_kind AS other_kind, two AS other,
    arrayStringConcat(arraySort(groupUniqArray(toString(channel))), ', ') AS channels,
    min(seen_at) AS first_seen, if(max(both), 'yes', '') AS verified
FROM
(
    SELECT identity AS one, kind AS one_kind, other AS two, other_kind AS two_kind, channel,
        seen_at, verified AND other_verified AS both
    FROM identity_link_sights WHERE identity IN %(tokens)s
    UNION ALL
    SELECT other AS one, other_kind AS one_kind, identity AS two, kind AS two_kind, channel,
        seen_at, verified AND other_verified AS both
    FROM identity_link_sights WHERE other IN %(tokens)s
)
WHERE two NOT IN %(tokens)s OR one < two
GROUP BY ALL ORDER BY first_seen, identity, other"""
_REFUSED = """SELECT kind, identity, other_kind, other, reason, detail, since FROM refused_links"""
_EITHER = "WHERE identity IN %(tokens)s OR other IN %(tokens)s"
_CHANGES = """SELECT changed_at, kind, identity, former_customer_id AS former, customer_id AS now,
    cause, who, seconds
FROM identity_changes WHERE identity IN %(tokens)s ORDER BY changed_at DESC, identity"""
_WORDS = f"""SELECT identity, other, if(allow, 'one customer', 'not one customer') AS said,
    operator, note, said_at
FROM operator_words {_EITHER} ORDER BY number DESC"""
_MARKS = """SELECT kind, m.identity AS identity, if(mark = '', 'as usual', mark) AS said,
    operator, note, said_at
FROM identity_marks AS m LEFT ANY JOIN identities AS i ON m.identity = i.identity
WHERE m.identity IN %(tokens)s AND in_force ORDER BY number DESC"""


def identity_show_command(who: Annotated[str, typer.Argument(help=WHO)]) -> None:
    """Show the identities of a customer, what links them, and what changed.

    Examples:

      touchstream identity show email:ann@example.com

      touchstream identity show 4f1c0a9be2d35c7781e6a90b7d2f4c13
    """
    with one_line_errors():
        settings = load_settings()
        agents = importlib.import_module(AGENTS)
        with opened(settings) as client:
            store = IdentityStore(client)
            found = store.find(who, agents.token_of(store, settings))
            show_identities(client, found.customer_id)


def identity_explain_command(
    one: Annotated[str, typer.Argument(metavar="A", help=WHO)],
    other: Annotated[str, typer.Argument(metavar="B", help=WHO)],
) -> None:
    """Say whether two identities are one customer, and why or why not.

    Decides anew, from the evidence around the two, as the workers do.

    Examples:

      touchstream identity explain email:ann@example.com phone:+14155550100
    """
    with one_line_errors():
        settings = load_settings()
        agents = importlib.import_module(AGENTS)
        with opened(settings) as client:
            store = IdentityStore(client)
            ends = named(store, (one, other), agents.token_of(store, settings))
            explanation = agents.explain_two(store, *(end.identity for end in ends))
        show_explanation(explanation, *map(described, ends))


def identity_refused_command(
    reason: Annotated[str, typer.Option(help="Only links refused for this reason.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 100,
    output: Annotated[Format, typer.Option("--format", help="How to print them.")] = "table",
) -> None:
    """List links that join no one, with the reason.

    Examples:

      touchstream identity refused --reason shared

      touchstream identity refused --limit 1000 --format csv
    """
    with one_line_errors():
        reasons = importlib.import_module(AGENTS).REASONS
        if reason and reason not in reasons:
            raise ConfigurationError(f"no reason {reason}: choose one of {', '.join(reasons)}")
        where = "WHERE reason = %(reason)s" if reason else ""
        sql = f"{_REFUSED} {where} ORDER BY since DESC, identity, other LIMIT %(limit)s"
        names = {"reason": reason, "limit": limit}
        with opened(load_settings()) as client:
            print_query(client, sql, names, output)


def named(store: IdentityStore, names: tuple[str, ...], token_of: Any) -> list[Found]:
    """Identities that are named; says so when a customer stands for its oldest one."""
    found = []
    for name in names:
        each = store.find(name, token_of)
        if each.by_customer:
            say(f"{name}: its oldest identity is {described(each)}")
        found.append(each)
    return found


def described(found: Found) -> str:
    """Kind and token."""
    return f"{found.kind} {found.identity}"


def show_identities(client: Client, customer_id: str) -> None:
    """Print the tables of `identity show`."""
    identities = client.query(_IDENTITIES, parameters={"customer": customer_id})
    title = f"identities of customer {customer_id}"
    show(titled(title), identities.column_names, identities.result_rows)
    tokens = {"tokens": tuple(row[1] for row in identities.result_rows)}
    refused = f"{_REFUSED} {_EITHER} ORDER BY since DESC, identity, other"
    for title, sql in (
        ("links", _LINKS),
        ("refused links", refused),
        ("words of operators", _WORDS),
        ("marks of operators", _MARKS),
        ("latest changes", _CHANGES),
    ):
        found = client.query(f"{sql} LIMIT {MOST_LINES}", parameters=tokens)
        if len(found.result_rows) == MOST_LINES:
            title += f": {MOST_LINES} of them"
        if found.result_rows:
            show(titled(title), found.column_names, found.result_rows)


def show_explanation(explanation: Any, one: str, other: str) -> None:
    """Print an explanation."""
    ends = ("kind", "identity", "other_kind", "other")
    if explanation.together:
        say(f"{one} and {other} are one customer. These links join them:")
        rows = [
            (step.kind, step.identity, step.other_kind, step.other)
            + (step.seen, moment(step.at), "yes" if step.verified else "")
            for step in explanation.steps
        ]
        show(Table(), (*ends, "seen on", "at", "verified"), rows)
    elif explanation.obstacles:
        say(f"{one} and {other} are not one customer. Refused links lie between them:")
        rows = [
            (each.kind, each.identity, each.other_kind, each.other)
            + (each.reason, each.detail, each.why)
            for each in explanation.obstacles
        ]
        show(Table(), (*ends, "reason", "detail", "why"), rows)
    else:
        say(f"{one} and {other} are not one customer: no link leads from one to the other.")
    for word in explanation.words:
        said = "one customer" if word.allow else "not one customer"
        line = f"{moment(word.at):%Y-%m-%d %H:%M:%S} {word.operator} said that {word.identity} and"
        say(f"{line} {word.other} are {said}{': ' if word.note else ''}{word.note}")
    for note in explanation.notes:
        say(f"Note: {note}")
