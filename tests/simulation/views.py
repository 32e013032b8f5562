"""What the views of a running stack say, and what they must say."""

import time
from typing import Any

import oracle
from clickhouse_connect.driver.client import Client

PATIENCE_SECONDS = 120.0
TOUCHPOINTS = "SELECT count() FROM touchpoints"
IDENTITIES = "SELECT identity, customer_id FROM identities"
CUSTOMERS = (
    "SELECT customer_id, touchpoints, orders, toInt64(revenue * 10000), contacts FROM customers"
)
PANES = """
SELECT metric, dimension, member, resolution, toUnixTimestamp(start) AS at, sum(n) AS number,
    sum(total) AS sum, sum(squares) AS sum_of_squares
FROM metric_panes FINAL GROUP BY ALL HAVING (number, sum, sum_of_squares) != (0, 0, 0)
"""
COLUMNS = ("touchpoints", "orders", "revenue_e4", "contacts")
Views = dict[str, Any]


def count(client: Client) -> int:
    """Touchpoints in the views."""
    return int(client.query(TOUCHPOINTS).result_rows[0][0])


def seen(client: Client) -> Views:
    """What they say now."""
    return {
        "touchpoints": count(client),
        "identities": {row[0]: row[1] for row in client.query(IDENTITIES).result_rows},
        "customers": {row[0]: list(row[1:]) for row in client.query(CUSTOMERS).result_rows},
        "panes": {tuple(row[:5]): row[5:] for row in client.query(PANES).result_rows},
    }


def expected(published: list[oracle.Published]) -> Views:
    """What they must say of these touchpoints, in the end."""
    customers = oracle.customers_of(published)
    lives = oracle.lives_of(published, customers)
    totals = {name: [life.customer[column] for column in COLUMNS] for name, life in lives.items()}
    panes = {key: pane[:3] for key, pane in oracle.panes_of(lives.values()).items()}
    return {
        "touchpoints": len(published),
        "identities": customers,
        "customers": {name: totals.get(name, [0] * len(COLUMNS)) for name in customers.values()},
        "panes": {key: pane for key, pane in panes.items() if pane != (0, 0, 0)},
    }


def wait_until_right(client: Client, published: list[oracle.Published]) -> None:
    """Ask until the answer is right; in the end, say what is wrong."""
    want = expected(published)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (got := seen(client)) != want:
        if time.monotonic() > deadline:
            assert got == want
        time.sleep(0.25)
