"""Commands that ask ClickHouse: query, customers show, metrics.

Each prints its answer to stdout and returns, or prints one line to stderr and exits with code 1.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import typer
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table
from rich.text import Text

from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.metrics import MetricsAsked
from touchstream.streams.clickhouse import connect
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.identity_store import IdentityStore
from touchstream.streams.settings import Settings, load_settings

Format = Literal["table", "json", "csv"]
TIMELINE_LENGTH = 20
WIDTH_WITHOUT_TERMINAL = 240
_CARD = """account_id, touchpoints, touchpoints_by_channel, contacts, orders, revenue,
    average_order_value, first_touch_at, first_touch_channel, last_touch_at, last_touch_channel,
    last_order_at, last_csat, last_nps, nps_category, last_ces"""
_TIMELINE = """occurred_at, channel, action, value, currency, question, score, topic, campaign,
    substring(text, 1, 60) AS text"""


def query_command(
    sql: Annotated[str, typer.Argument(help="any ClickHouse SQL")],
    output: Annotated[Format, typer.Option("--format", help="how to print the rows")] = "table",
) -> None:
    """Run SQL in the touchstream database.

    Example: touchstream query "SELECT channel, count() FROM touchpoints GROUP BY 1" --format csv
    """
    with one_line_errors(), opened(load_settings()) as client:
        print_query(client, sql.strip().rstrip(";"), {}, output)


def customers_show_command(
    who: Annotated[str, typer.Argument(help="kind:value of an identifier, or a customer id")],
) -> None:
    """Show one customer: totals, identities and the last touchpoints.

    Examples: touchstream customers show email:ann@example.com; touchstream customers show 4f1c...
    """
    with one_line_errors():
        settings = load_settings()
        # By name: streams must not depend on agents, but only they know how a token is made.
        agents = importlib.import_module("touchstream.agents.identity_commands")
        with opened(settings) as client:
            show_customer(client, who, agents.token_of(IdentityStore(client), settings))


def metrics_command(
    window: Annotated[
        str, typer.Option(help="5m, ..., 90d, all or now.", show_default="24h and now")
    ] = "",
    as_of: Annotated[str, typer.Option(help="End, ISO 8601; UTC if not said.")] = "now",
    metric: Annotated[str, typer.Option(help="Only this metric, in all windows.")] = "",
    dimension: Annotated[str, typer.Option(help="By member: channel, queue, account, ...")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel.")] = "",
) -> None:
    """Show rolling metrics: value, number of measurements and 95% interval.

    Examples:

      touchstream metrics --window 7d --as-of 2026-01-31T12:00 --channel phone

      touchstream metrics --metric csat --window 30d --dimension queue
    """
    with one_line_errors():
        settings = load_settings()
        moment = datetime.now(UTC) if as_of == "now" else _moment(as_of)
        asked = MetricsAsked(
            load_catalogue(settings.metrics_file), metric, window, dimension, channel
        )
        with opened(settings) as client:
            result = client.query(asked.sql(moment), parameters=asked.parameters)
        if not result.result_rows:
            raise ConfigurationError(asked.nothing)
        title = f"{asked.title} to {moment:%Y-%m-%d %H:%M:%S} UTC"
        show(Table(title=Text(title)), result.column_names, result.result_rows)


def show_customer(client: Client, who: str, token_of: Callable[[str, str], str]) -> None:
    """Print the card of the customer that `who` names."""
    customer_id = _customer_id(client, who, token_of)
    names: dict[str, Any] = {"customer": customer_id}
    card = client.query(
        f"SELECT {_CARD} FROM customers WHERE customer_id = {{customer:String}}", parameters=names
    )
    if not card.result_rows:
        raise ConfigurationError(f"no customer {who}: not seen yet, or merged into an older one")
    show(
        Table(title=f"customer {customer_id}"),
        ("", ""),
        [
            pair
            for pair in zip(card.column_names, card.result_rows[0], strict=True)
            if _said(pair[1])
        ],
    )
    identities = client.query(
        "SELECT kind, identity, first_seen_at FROM identities WHERE customer_id = {customer:String}"
        " ORDER BY first_seen_at, identity",
        parameters=names,
    )
    show(Table(title="identities"), identities.column_names, identities.result_rows)
    # By identity, which the key of the facts begins with; then by customer.
    names["identities"] = [row[1] for row in identities.result_rows]
    timeline = client.query(
        f"SELECT {_TIMELINE} FROM touchpoints WHERE identity IN {{identities:Array(String)}}"
        " AND customer_id = {customer:String}"
        f" ORDER BY occurred_at DESC, event_id LIMIT {TIMELINE_LENGTH}",
        parameters=names,
    )
    show(
        Table(title=f"last {TIMELINE_LENGTH} touchpoints"),
        timeline.column_names,
        timeline.result_rows,
    )


def print_query(client: Client, sql: str, parameters: dict[str, Any], output: Format) -> None:
    """Print the rows of a query as a table, as a JSON array or as CSV with a header."""
    if output == "table":
        result = client.query(sql, parameters=parameters)
        show(Table(), result.column_names, result.result_rows)
        return
    name = "CSVWithNames" if output == "csv" else "JSONEachRow"
    rows = client.raw_query(sql, parameters=parameters, fmt=name).decode(errors="replace")
    sys.stdout.write(rows if output == "csv" else _json_array(rows))


def show(table: Table, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows; numbers to the right, nothing taken for markup or sent to the terminal raw."""
    lines = [list(row) for row in rows]
    for index, name in enumerate(columns):
        numeric = any(isinstance(line[index], int | float | Decimal) for line in lines)
        table.add_column(name, justify="right" if numeric else "left")
    for line in lines:
        table.add_row(*[Text(_cell(value)) for value in line])
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    Console(width=width).print(table)


@contextmanager
def opened(settings: Settings) -> Iterator[Client]:
    """Open a client for one command."""
    client = connect(settings, dedicated_pool=True)
    try:
        yield client
    finally:
        client.close()


def _json_array(lines: str) -> str:
    # ClickHouse can make the array itself, by a setting; users that may only read can send none.
    return "[\n" + lines.rstrip("\n").replace("\n", ",\n") + "\n]\n"


def _customer_id(client: Client, who: str, token_of: Callable[[str, str], str]) -> str:
    """Find the customer of `kind:value`; else `who` is an identity's token or the id itself."""
    kind, colon, value = who.partition(":")
    found = client.query(
        "SELECT customer_id FROM identities WHERE identity = {identity:String}",
        parameters={"identity": token_of(kind, value) if colon else who},
    ).result_rows
    if colon and not found:
        raise ConfigurationError(f"no customer has the identifier {who}")
    return str(found[0][0]) if found else who


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--as-of {text} is not an ISO 8601 time: 2026-01-31T12:00"
        ) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def _said(value: Any) -> bool:
    return value is not None and value != "" and value != {}


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:,.3f}".rstrip("0").rstrip(".")
        case Decimal():
            return f"{value:,.2f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case dict():
            return ", ".join(f"{key} {number}" for key, number in sorted(value.items()))
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value)
    )
