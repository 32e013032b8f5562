"""The demo's report: plain tables that read well on a terminal and in a log, 100 columns wide."""

from collections.abc import Iterable
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
    table.add_row("before stitching, each cookie and address by itself", _n(findings.identities))
    table.add_row("after stitching", _n(findings.customers))
    return table


def timeline(person: Person, moments: Iterable[Moment]) -> Table:
    """One customer's touchpoints; the pages of one visit share a line."""
    title = (
        f"One customer: {person.customer_id[:13]}..., {person.touchpoints} touchpoints, "
        f"{person.orders} orders, ${person.revenue:,.2f}, {len(person.identity_kinds)} identities"
    )
    table = _table(title, "when (UTC)", "channel", "what", "known by", "")
    for _, group in groupby(moments, key=_visit):
        table.add_row(*_line([*group]))
    table.caption = "* processed as an unknown or another customer, joined to this one later"
    return table


def _visit(moment: Moment) -> object:
    return moment.session_id or moment


def _line(moments: list[Moment]) -> tuple[str, ...]:
    first, *more = moments
    what = f"{first.action.replace('_', ' ')}: {first.what}" if first.what else first.action
    return (
        f"{first.occurred_at:%Y-%m-%d %H:%M}",
        first.channel,
        escape(what) + (f", and {len(more)} more" if more else ""),
        KINDS.get(first.known_by, first.known_by.replace("_", " ")),
        "*" if any(moment.joined_later for moment in moments) else "",
    )


def metrics(rows: Iterable[Metric]) -> Table:
    """The CX metrics: rolling at the end of the period, and over all of it."""
    numbers = ("30 days to July 1998", "95% interval", "n", "all time", "n")
    table = _table("Customer experience", "metric", numbers=numbers)
    for row in rows:
        table.add_row(
            f"{row.name.replace('_', ' ')}, {row.unit}",
            _value(row.value),
            "" if row.low is None else f"{_value(row.low)} to {_value(row.high)}",
            _n(row.n),
            _value(row.value_ever),
            _n(row.n_ever),
        )
    return table


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


def _n(number: int) -> str:
    return f"{number:,}"


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f}"
