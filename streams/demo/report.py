"""The demo's report: plain tables that read well on a terminal and in a log, 100 columns wide."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import quantiles

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from touchstream.streams.demo.checks import Check
from touchstream.streams.demo.findings import Findings, Metric, Moment, Person, Speed

WIDTH = 100
KINDS = {
    "crm_id": "customer number",
    "anonymous_id": "cookie",
    "email": "e-mail",
    "phone": "phone",
}


def print_report(console: Console, findings: Findings) -> None:
    """Print everything, the verdict last."""
    show(console, channels(findings))
    show(console, stitching(findings))
    show(console, timeline(findings.person, findings.timeline))
    show(console, metrics(findings.metrics))
    show(console, checks(findings.checks))
    for line in speed(findings.speed):
        console.print(line, highlight=False)
    console.print(verdict(findings.checks), highlight=False)


def show(console: Console, table: Table) -> None:
    """One table, never wider than the report."""
    console.print(table, width=min(WIDTH, console.width), highlight=False)


def channels(findings: Findings) -> Table:
    """Touchpoints by channel."""
    table = _table("Touchpoints by channel", "channel", numbers=("touchpoints",))
    for channel, number in sorted(findings.by_channel.items(), key=lambda row: -row[1]):
        table.add_row(channel, f"{number:,}")
    table.add_section()
    table.add_row("all", f"{sum(findings.by_channel.values()):,}")
    return table


def stitching(findings: Findings) -> Table:
    """How many customers there seemed to be, and how many there are."""
    table = _table("Customers", "", numbers=("customers",))
    each = "before stitching: each cookie, address and number by itself"
    table.add_row(each, _n(findings.identities))
    table.add_row("after stitching", _n(findings.customers))
    return table


def timeline(person: Person, moments: Sequence[Moment]) -> Table:
    """One customer's touchpoints; the pages of one visit share a line."""
    title = (
        f"One customer: {person.customer_id[:13]}..., {person.touchpoints} touchpoints, "
        f"{person.orders} orders, ${person.revenue:,.2f}, {len(person.identity_kinds)} identities"
    )
    table = _table(title, "when (UTC)", "channel", "what", "known by")
    for column in table.columns:
        column.no_wrap = True
    table.columns[0].min_width = len("1997-01-01 00:00")
    for _, group in groupby(moments, key=lambda moment: moment.session_id or moment):
        table.add_row(*_line([*group]))
    table.caption = _history(person, moments)
    return table


def _line(moments: list[Moment]) -> tuple[str, ...]:
    """One line for a visit, a chat or a call."""
    first = moments[0]
    actions = ", ".join(dict.fromkeys(moment.action for moment in moments)).replace("_", " ")
    return (
        f"{first.occurred_at:%Y-%m-%d %H:%M}",
        first.channel,
        escape(f"{actions}: {first.what}" if first.what else actions),
        KINDS.get(first.known_by, first.known_by.replace("_", " ")),
    )


def _history(person: Person, moments: Iterable[Moment]) -> str:
    """How many strangers the customer seemed to be."""
    strangers = Counter(moment.customer_then for moment in moments)
    moved = strangers.total() - strangers.pop(person.customer_id, 0)
    return (
        f"{moved} of these touchpoints came in under other customers ({len(strangers)}); then a "
        "login, a mail,\na form or a message showed that all were one, and they moved here."
    )


def metrics(rows: Iterable[Metric]) -> Table:
    """The CX metrics: rolling at the end of the period, and over all of it."""
    numbers = ("last 30 days", "95% interval", "n", "all time", "n")
    table = _table("Customer experience on 1 July 1998", "metric", numbers=numbers)
    for row in rows:
        table.add_row(
            _metric(row),
            _value(row.value),
            "" if row.low is None else f"{_value(row.low)} to {_value(row.high)}",
            _n(row.n),
            _value(row.value_ever),
            _n(row.n_ever),
        )
    return table


def _metric(row: Metric) -> str:
    name = SHORT.get(row.name, row.name).replace("_", " ")
    return name if name in (row.unit, "revenue") else f"{name}, {row.unit}"


SHORT = {"first_contact_resolution_final": "first contact resolution"}


def checks(rows: Iterable[Check]) -> Table:
    """Every figure next to what it must be."""
    table = _table("Checks", "figure", "expected", "got", "")
    for row in rows:
        verdict = "ok" if row.ok else "[bold red]WRONG[/]"
        table.add_row(escape(row.name), row.expected, row.got, verdict)
    return table


def speed(measured: Speed) -> list[str]:
    """Throughput and latency in sentences."""
    rate = measured.touchpoints / measured.seconds
    lines = [
        f"Speed: {measured.touchpoints:,} touchpoints from the first publish to all stitched and "
        f"queryable in {measured.seconds:.1f} s, {rate:,.0f}/s with {measured.workers} workers."
    ]
    if len(measured.latencies) > 1:
        cuts = quantiles(measured.latencies, n=100)
        lines.append(
            f"Latency: {len(measured.latencies):,} more at {measured.probe_per_second:g}/s, from "
            f"publish to a query's answer: median {cuts[49]:.2f} s, 95% within {cuts[94]:.2f} s."
        )
    return lines


def verdict(rows: list[Check]) -> str:
    """All right, or how many figures are not."""
    wrong = sum(not row.ok for row in rows)
    if wrong:
        return f"[bold red]{wrong} of {len(rows)} figures are wrong.[/]"
    return f"[bold green]All {len(rows)} figures are right.[/]"


def _table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _n(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f}"
