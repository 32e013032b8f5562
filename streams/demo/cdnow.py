"""Real purchases: the CDNOW log as purchase touchpoints, one order a line.

Origin: `CDNOW_master.txt` comes unchanged from the PyPI package lifetimes 0.11.3 (MIT, see
`CDNOW_LICENSE.txt`). It is the complete 1997 cohort of the CD shop CDNOW that Fader and Hardie
posted for research: every purchase from 1997-01-01 to 1998-06-30 of 23,570 customers, as customer,
day, discs and dollars. 255 lines equal another one to the letter; all are orders of their own.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from touchstream.streams.demo.diary import HOUR_MS, Occurrence, identifier

CUSTOMERS = 23_570
ORDERS = 69_659
REVENUE = Decimal("2500315.63")
REPEAT_CUSTOMERS = 11_662
"""Published figures of the log: customers with two orders or more is the last."""
REPEAT_RATE, REPEAT_RATE_BY_DAY = 0.494782, 0.488587
"""Share of customers with two orders or more, and with orders on two days or more."""
MEAN_GAP, GAPS = 72.213989, {50: 34, 90: 200, 99: 416}
"""Days between the order days of a customer: mean, and percentiles."""
START, WINDOW = datetime(1997, 1, 1, tzinfo=UTC), timedelta(days=90)
ACTIVE, KEPT = (23_570, 5_349, 4_202, 4_210, 3_752), (5_349, 2_253, 2_013, 1_918, 1_749)
"""Customers with an order in each 90 days from the start; and those with one in the next 90 too."""

OPENS_MS = 8 * HOUR_MS
OPEN_SECONDS = 14 * 3600
STRIDE_SECONDS = 7919
"""A prime: spreads the orders of a day evenly over the opening hours."""


class Purchase(NamedTuple):
    """One line of the log."""

    number: int
    customer: str
    occurred_at: int
    units: int
    dollars: float


def purchases() -> Iterator[Purchase]:
    """Every purchase in the order of the file."""
    log = files("touchstream.streams.demo").joinpath("CDNOW_master.txt")
    lines = log.read_text(encoding="ascii").splitlines()[1:]
    for number, line in enumerate(lines, start=1):
        customer, day, units, dollars = line.split()
        yield Purchase(number, customer, moment(day, number), int(units), float(dollars))


def moment(day: str, number: int) -> int:
    """Milliseconds of an order: the log gives the day, the order's number a time on that day."""
    return midnight(day) + OPENS_MS + number * STRIDE_SECONDS % OPEN_SECONDS * 1000


@cache
def midnight(day: str) -> int:
    """Milliseconds of 0:00 UTC of a day written like 19970101."""
    start = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=UTC)
    return int(start.timestamp()) * 1000


def occurrence(purchase: Purchase) -> Occurrence:
    """A purchase as it is published."""
    return Occurrence("purchase", purchase.customer, touchpoint(purchase))


def touchpoint(purchase: Purchase) -> dict[str, Any]:
    """The purchase touchpoint: an order placed by a CRM id, nothing else is known."""
    order = f"cdnow-{purchase.number:05}"
    return {
        "event_id": order,
        "occurred_at": purchase.occurred_at,
        "action": "placed",
        "identifiers": [identifier("crm_id", purchase.customer)],
        "order_id": order,
        "value": purchase.dollars,
        "currency": "USD",
        "quantity": purchase.units,
    }
