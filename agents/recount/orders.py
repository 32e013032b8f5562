"""Plain recomputation of orders: returns, gaps, deliveries, and orders that are late."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from touchstream.agents.recount.facts import Change, Fact, Measurement, Seen
from touchstream.agents.recount.journey import Journey
from touchstream.streams.topics import DAY_MS

KNOWN_ORDERS = 32
CLOSING = ("purchase.delivered", "purchase.returned", "purchase.cancelled")
LONGEST_PATH = 20
NO_TOUCH = ("purchase", "survey", "employee")
FEWEST_GAPS = 3
LATEST_GAPS = 16


@dataclass
class Order:
    """An order, and what became of it."""

    seen: Seen
    order_id: str
    """Its event key in digits without one, which no other touchpoint names."""
    returned: bool = False
    closed_on: int | None = None
    """Day of its first delivery, return or cancellation."""


@dataclass(frozen=True)
class Delivery:
    """A delivery, with the order it brings if that is known."""

    seen: Seen
    order: Order | None


def orders_of(lived: Iterable[Seen]) -> tuple[list[Order], list[Delivery]]:
    """Every order and delivery of a customer, in the order they happened."""
    orders: list[Order] = []
    deliveries: list[Delivery] = []
    known: list[Order] = []
    for seen in lived:
        fact = seen.fact
        if fact.is_order:
            order = Order(seen, fact.order_id or str(fact.key))
            orders.append(order)
            known = [each for each in known if each.order_id != order.order_id]
            known = [*known, order][-KNOWN_ORDERS:]
        same = [each for each in known if fact.order_id and each.order_id == fact.order_id]
        meant = same[-1] if same else None
        if meant and fact.kind in CLOSING:
            meant.returned |= fact.kind == "purchase.returned"
            if meant.closed_on is None:
                meant.closed_on = fact.day
        if fact.kind == "purchase.delivered":
            deliveries.append(Delivery(seen, meant))
    return orders, deliveries


def order_measurements(orders: Sequence[Order]) -> Iterator[Measurement]:
    """Returns and gaps, at the orders they belong to."""
    for index, order in enumerate(orders):
        if order.returned:
            yield order.seen.measured("order_returned")
        if index:
            gap = order.seen.fact.day - orders[index - 1].seen.fact.day
            if gap:
                yield order.seen.measured("purchase_gap", gap)


def delivery_measurements(deliveries: Iterable[Delivery]) -> Iterator[Measurement]:
    """Deliveries that were promised, when they happened."""
    for delivery in deliveries:
        fact = delivery.seen.fact
        promised = fact.promised_at
        if promised is None and delivery.order:
            promised = delivery.order.seen.fact.promised_at
        if promised is None:
            continue
        came = fact.occurred_at if fact.delivered_at is None else fact.delivered_at
        yield delivery.seen.measured("delivery_on_time", int(came <= promised))
        yield delivery.seen.measured("delivery_lateness", max(came - promised, 0))


def late_changes(orders: Iterable[Order]) -> Iterator[Change]:
    """Orders that are late, from the promised day to the day they were closed."""
    for order in orders:
        promised = order.seen.fact.promised_at
        if promised is None:
            continue
        day = promised // DAY_MS
        if order.closed_on is None:
            yield Change("late", day, 1)
        elif order.closed_on > day:
            yield Change("late", day, 1)
            yield Change("late", order.closed_on, -1)


def usual_gap(days: Sequence[int], journey: Journey) -> int:
    """Usual gap of a customer with these order days, which are sorted."""
    gaps = [later - earlier for earlier, later in zip(days, days[1:], strict=False)]
    latest = sorted(gaps[-LATEST_GAPS:])
    if len(latest) < FEWEST_GAPS:
        return journey.churn_gap_days
    rank = (9 * len(latest) + 9) // 10  # the smallest whole number of 90% of them or more
    return latest[rank - 1]


def risk_changes(days: Sequence[int], journey: Journey) -> Iterator[Change]:
    """Customers at risk; `days` are the sorted order days."""
    for index, day in enumerate(days):
        from_day = day + usual_gap(days[max(0, index - LATEST_GAPS) : index + 1], journey) + 1
        if index + 1 == len(days):
            yield Change("at_risk", from_day, 1)
        elif days[index + 1] > from_day:
            yield Change("at_risk", from_day, 1)
            yield Change("at_risk", days[index + 1], -1)


def path_rows(facts: Iterable[Fact], journey: Journey) -> dict[tuple[int, int], dict[str, Any]]:
    """Rows of `PATHS` by time and key of the order."""
    rows = {}
    touches: list[Fact] = []
    for fact in facts:
        if fact.is_order:
            rows[fact.occurred_at, fact.key] = _path(fact, touches, journey)
            touches = []
        elif fact.own_doing and fact.channel not in NO_TOUCH:
            touches.append(fact)
    return rows


def _path(order: Fact, touches: Iterable[Fact], journey: Journey) -> dict[str, Any]:
    path: list[tuple[str, str, int]] = []
    for touch in touches:
        if order.occurred_at - touch.occurred_at > journey.attribution_ms:
            continue
        if not path or path[-1][:2] != (touch.channel, touch.campaign):
            path.append((touch.channel, touch.campaign, touch.occurred_at))
    path = path[-LONGEST_PATH:]
    return {
        "ordered_at": order.occurred_at,
        "order_key": order.key,
        "order_id": order.order_id,
        "value_e4": order.value_e4 or 0,
        "channels": [channel for channel, _, _ in path],
        "campaigns": [campaign for _, campaign, _ in path],
        "touched_at": [at for _, _, at in path],
    }
