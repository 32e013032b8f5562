"""What the views say of what was published, and what they must say."""

import time
from collections.abc import Sequence
from typing import Any

import oracle
from clickhouse_connect.driver.client import Client

from touchstream.agents.history import Said
from touchstream.agents.rules import Rules
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings

PATIENCE_SECONDS = 120.0
Seen = dict[str, Any]

IDENTITIES = "SELECT identity, customer_id FROM identities"
PANES = """
SELECT metric, dimension, member, resolution, toUnixTimestamp(start) AS at, sum(n) AS number,
    sum(total) AS sum, sum(squares) AS sum_of_squares
FROM metric_panes FINAL GROUP BY ALL HAVING (number, sum, sum_of_squares) != (0, 0, 0)
"""
TOTALS = (
    "SELECT customer_id, touchpoints, orders, toInt64(revenue * 10000), contacts FROM customers"
)


def publish(settings: Settings, touchpoints: Sequence[oracle.Published]) -> None:
    with Publisher(settings) as publisher:
        for channel, touchpoint in touchpoints:
            publisher.publish(channel, touchpoint)


def seen(client: Client) -> Seen:
    """What the views and panes say now."""
    rows = {name: client.query(sql).result_rows for name, sql in (("t", TOTALS), ("p", PANES))}
    return {
        "touchpoints": client.query("SELECT count() FROM touchpoints").result_rows[0][0],
        "identities": {row[0]: row[1] for row in client.query(IDENTITIES).result_rows},
        "customers": {name: counts for name, *counts in rows["t"]},
        "panes": {tuple(row[:5]): row[5:] for row in rows["p"]},
    }


def expected(
    published: list[oracle.Published], words: Sequence[Said] = (), rules: Rules | None = None
) -> Seen:
    customers = oracle.customers_of(published, words, rules)
    lives = oracle.lives_of(published, customers)
    columns = ("touchpoints", "orders", "revenue_e4", "contacts")
    return {
        "touchpoints": len(published),
        "identities": customers,
        "customers": {
            name: [lives[name].customer[column] if name in lives else 0 for column in columns]
            for name in customers.values()
        },
        "panes": {
            key: pane[:3]
            for key, pane in oracle.panes_of(lives.values()).items()
            if pane[:3] != (0, 0, 0)
        },
    }


def wait_until_right(
    client: Client,
    published: list[oracle.Published],
    words: Sequence[Said] = (),
    rules: Rules | None = None,
) -> None:
    """Ask until the answer is right; in the end, say what is wrong."""
    want = expected(published, words, rules)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (got := seen(client)) != want:
        if time.monotonic() > deadline:
            assert got == want
        time.sleep(0.25)


def count(client: Client) -> int:
    return int(client.query("SELECT count() FROM touchpoints").result_rows[0][0])


def wait_for_more(client: Client, before: int) -> None:
    """Wait until the workers have stored more touchpoints than before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while count(client) <= before:
        assert time.monotonic() < deadline, "the workers make no progress"
        time.sleep(0.05)


def wait_for_count(client: Client, wanted: int) -> None:
    """Wait until the views show so many touchpoints."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := count(client)) < wanted:
        assert time.monotonic() < deadline, f"{found} of {wanted} touchpoints arrived"
        time.sleep(0.05)
    assert found == wanted
