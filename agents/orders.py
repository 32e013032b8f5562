"""Orders: what was returned, what came late, and which touches led to an order."""

from collections.abc import Iterable

import msgspec

from touchstream.agents.customer_messages import Event, Purchase
from touchstream.agents.journey_rules import JourneyRules
from touchstream.agents.ledger import Ledger, Members
from touchstream.agents.sessions import is_own_doing
from touchstream.streams.customer_tables import PATHS
from touchstream.streams.topics import DAY_MS

MOST_ORDERS = 32
"""Orders of a customer that a return or a delivery may belong to."""
LONGEST_PATH = 20


class Order(msgspec.Struct, array_like=True):
    """An order; times in ms."""

    placed_at: int
    key: int
    members: Members
    promised_at: int | None = None
    is_open: bool = True
    """Whether it was neither delivered nor returned nor cancelled."""
    returned: bool = False


class Orders(msgspec.Struct, array_like=True):
    """A customer's latest orders by id."""

    by_id: dict[str, Order] = {}

    def see(self, key: int, event: Event, members: Members, ledger: Ledger) -> None:
        """Take a touchpoint of the channel purchase."""
        purchase = event.purchase
        assert purchase is not None
        if event.action == "placed":
            self._place(key, event.occurred_at, purchase, members, ledger)
            return
        order = self.by_id.get(purchase.order_id or "")
        if event.action == "delivered":
            _delivered(event.occurred_at, purchase, order, members, ledger)
        if order is None or event.action not in ("delivered", "returned", "cancelled"):
            return
        if order.is_open:
            order.is_open = False
            _late(order, event.occurred_at, ledger)
        if event.action == "returned" and not order.returned:
            order.returned = True
            ledger.measure("order_returned", order.placed_at, 1, order.members)

    def _place(
        self, key: int, at: int, purchase: Purchase, members: Members, ledger: Ledger
    ) -> None:
        order = Order(at, key, members, purchase.promised_at)
        self.by_id[purchase.order_id or f"{key:016x}"] = order
        if order.promised_at is not None:
            ledger.shift("late", order.promised_at // DAY_MS, 1)
        if len(self.by_id) > MOST_ORDERS:
            del self.by_id[min(self.by_id, key=self._age)]

    def _age(self, order_id: str) -> tuple[int, int]:
        order = self.by_id[order_id]
        return order.placed_at, order.key


def _late(order: Order, done_at: int, ledger: Ledger) -> None:
    """The order is done: it is late no longer, or never was."""
    if order.promised_at is not None:
        ledger.shift("late", max(order.promised_at, done_at) // DAY_MS, -1)


def _delivered(
    at: int, purchase: Purchase, order: Order | None, members: Members, ledger: Ledger
) -> None:
    promised = purchase.promised_at
    if promised is None and order is not None:
        promised = order.promised_at
    if promised is None:
        return
    came = at if purchase.delivered_at is None else purchase.delivered_at
    ledger.measure("delivery_on_time", at, int(came <= promised), members)
    ledger.measure("delivery_lateness", at, max(came - promised, 0), members)


def write_path(
    key: int, event: Event, past: Iterable[Event], rules: JourneyRules, ledger: Ledger
) -> None:
    """Write which touches led to an order; `past` is what came before it, the latest first."""
    assert event.purchase is not None
    touches: list[tuple[str, str, int]] = []
    for touch in past:
        if touch.channel == "purchase" and touch.action == "placed":
            break
        if event.occurred_at - touch.occurred_at > rules.attribution:
            break
        if touch.channel in ("purchase", "survey") or not is_own_doing(touch):
            continue
        at, source = touch.occurred_at, (touch.channel, touch.campaign or "")
        if touches and touches[-1][:2] == source:
            touches[-1] = (*source, at)
        elif len(touches) == LONGEST_PATH:
            break
        else:
            touches.append((*source, at))
    touches.reverse()
    row = (
        event.occurred_at,
        key,
        event.purchase.order_id or "",
        event.purchase.value_e4,
        tuple(channel for channel, _, _ in touches),
        tuple(campaign for _, campaign, _ in touches),
        tuple(at for _, _, at in touches),
    )
    ledger.write(PATHS, key, "", row)
