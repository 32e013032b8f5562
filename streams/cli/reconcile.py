"""The command `touchstream reconcile`: are the stored figures what the facts say?

It reads ClickHouse and changes nothing. Facts come customer by customer, so memory holds a batch of
customers, and the panes of the period.
"""

import importlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from time import sleep
from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client

from touchstream.streams.cli.errors import EXIT_FAILURE, one_line_errors
from touchstream.streams.cli.printing import say
from touchstream.streams.cli.queries import opened
from touchstream.streams.customer_tables import (
    CUSTOMERS,
    ISSUES,
    PATHS,
    SESSIONS,
    VISITS,
)
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.settings import load_settings
from touchstream.streams.table import Table

AGENTS = "touchstream.agents.recount.compare"
"""By name: streams must not depend on agents, but only they know the definitions."""
BATCH_CUSTOMERS = 1_000
BATCH_FACTS = 50_000
SHOWN_LONG = 10
SETTLE_SECONDS = 2.0
"""Until a running pipeline has written what it had begun."""
Rows = list[dict[str, Any]]
_FACT_COLUMNS = """identity, channel, event_id, toUnixTimestamp64Milli(occurred_at) AS occurred_at,
    action, account_id, campaign, consent, order_id, question, score, scale_min, scale_max,
    toInt64(toDecimal128(value, 4) * 10000) AS value_e4, about_channel, queue, topic, wait_ms,
    handle_ms, resolved, details, properties"""
_FACTS = f"SELECT customer_id, {_FACT_COLUMNS} FROM touchpoints ORDER BY customer_id"
_SORT = {"max_bytes_before_external_sort": 512 << 20}
"""A sort larger than this goes to the disk of the server."""
_STATES = (CUSTOMERS, SESSIONS, VISITS, ISSUES, PATHS)
_PANES = """SELECT toString(metric), toString(dimension), toString(member), toString(resolution),
    toInt64(toUnixTimestamp(start)), sum(n), sum(total), sum(squares), sumMap(buckets)
FROM metric_panes FINAL
WHERE start >= %(since)s AND start < %(until)s
GROUP BY metric, dimension, member, resolution, start"""
_CROWDED = "SELECT DISTINCT toString(dimension) FROM metric_panes WHERE member = %(other)s"
_LATEST = (1 << 32) - 1


def reconcile_command(
    since: Annotated[
        str, typer.Option("--from", help="Only from this time, ISO 8601; UTC if not said.")
    ] = "",
    until: Annotated[str, typer.Option("--to", help="Only before this time.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many differences to print.")] = 50,
) -> None:
    """Compare every stored figure with one computed anew from the facts.

    A period means panes that start in it and customers last seen in it. The pipeline may be
    running, so what differs is looked at twice. The exit status is 1 when differences remain.

    Examples:

      touchstream reconcile

      touchstream reconcile --from 2026-01-01 --to 2026-02-01 --limit 10
    """
    with one_line_errors():
        period = _milliseconds("--from", since), _milliseconds("--to", until)
        with opened(load_settings()) as client:
            found, run = compared(client, period)
            if found:
                say(f"{_counted(len(found), 'difference')}: looking again", err=True)
                sleep(SETTLE_SECONDS)
                before = {(each.kind, each.key) for each in found}
                found, run = compared(client, period)
                found = [each for each in found if (each.kind, each.key) in before]
            crowded = crowded_dimensions(client)
    report(found, run, crowded, limit)
    if found:
        raise typer.Exit(EXIT_FAILURE)


def compared(client: Client, period: tuple[int | None, int | None]) -> tuple[list[Any], Any]:
    """Differences, and the comparison that found them."""
    agents = importlib.import_module(AGENTS)
    run = agents.Reconciliation(*period)
    found: list[Any] = []
    after = ""
    for facts in fact_batches(client):
        last = max(facts)
        found += run.customers(facts, stored_rows(client, after, last))
        after = last
    found += run.customers({}, stored_rows(client, after, None))
    found += run.panes(stored_panes(client, period), crowded_dimensions(client))
    return found, run


def fact_batches(client: Client) -> Iterator[dict[str, Rows]]:
    """Facts by customer, in the order of customers; a customer is never torn apart."""
    batch: dict[str, Rows] = {}
    number = 0
    with client.query_row_block_stream(_FACTS, settings=_SORT) as blocks:
        names = blocks.source.column_names[1:]
        for block in blocks:
            for customer, *values in block:
                full = len(batch) >= BATCH_CUSTOMERS or number >= BATCH_FACTS
                if full and customer not in batch:
                    yield batch
                    batch, number = {}, 0
                batch.setdefault(customer, []).append(dict(zip(names, values, strict=True)))
                number += 1
    if batch:
        yield batch


def stored_rows(client: Client, after: str, last: str | None) -> dict[Table, Rows]:
    """Rows of customers after one and up to another, by table; times in ms."""
    return {table: _states(client, table, after, last) for table in _STATES}


def stored_panes(
    client: Client, period: tuple[int | None, int | None]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Keys and figures of panes, summed over shards."""
    since, until = period
    parameters = {
        "since": min(max(0, -(-(since or 0) // 1000)), _LATEST),
        "until": _LATEST if until is None else min(max(0, -(-until // 1000)), _LATEST),
    }
    with client.query_row_block_stream(_PANES, parameters=parameters) as blocks:
        for block in blocks:
            for row in block:
                yield tuple(row[:5]), tuple(row[5:])


def crowded_dimensions(client: Client) -> list[str]:
    """Dimensions with so many members that some are counted together."""
    other = importlib.import_module(AGENTS).OTHER
    rows = client.query(_CROWDED, parameters={"other": other}).result_rows
    return sorted(str(row[0]) for row in rows)


def report(found: Sequence[Any], run: Any, crowded: Sequence[str], limit: int) -> None:
    """Print differences, what was not compared, and how much was."""
    for each in found[:limit]:
        say(f"{each.kind} {each.key}: stored {each.stored}, recomputed {each.recomputed}")
    for dimension in crowded:
        say(f"{dimension} has members counted as (other): its panes are compared in total only")
    if run.long:
        some = ", ".join(sorted(run.long)[:SHOWN_LONG])
        more = f" and {len(run.long) - SHOWN_LONG} more" if len(run.long) > SHOWN_LONG else ""
        say(
            f"identities with more touchpoints than are kept one by one, customers {some}{more}:"
            f" {_counted(run.not_compared, 'figure')} that depend on their order not compared"
        )
    if found:
        shown = f", the first {limit} above" if len(found) > limit else ""
        say(f"{_counted(len(found), 'difference')}{shown}")
        say("Customers touched within the last seconds may differ while the pipeline works.")
    else:
        kinds = ("touchpoint", "customer", "session", "visit", "issue", "path", "pane")
        counts = ", ".join(_counted(run.checked[kind], kind) for kind in kinds)
        say(f"no difference: {counts}")


def _states(client: Client, table: Table, after: str, last: str | None) -> Rows:
    columns = ", ".join(f"{_plain(name, kind)} AS {name}_" for name, kind in table.columns)
    names = [name for name, _ in table.columns]
    bound = "" if last is None else "AND customer_id <= %(last)s"
    sql = f"SELECT {columns} FROM {table.name} FINAL WHERE is_deleted = 0"
    sql += f" AND customer_id > %(after)s {bound}"
    rows = client.query(sql, parameters={"after": after, "last": last or ""}).result_rows
    return [dict(zip(names, row, strict=True)) for row in rows]


def _plain(name: str, kind: str) -> str:
    """Times as milliseconds."""
    if "DateTime64" not in kind:
        return name
    if kind.startswith("Array"):
        return f"arrayMap(each -> toUnixTimestamp64Milli(each), {name})"
    return f"toUnixTimestamp64Milli({name})"


def _milliseconds(option: str, text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} {text} is not an ISO 8601 time: 2026-01-31T12:00"
        ) from None
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
