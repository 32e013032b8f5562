"""The touchpoints that benchmarks publish."""

import random
import time
from collections.abc import Iterator
from typing import Any

Touchpoint = tuple[str, dict[str, Any]]


def touchpoints(
    rng: random.Random, number: int, name: str, customers: int = 10_000, at_ms: int | None = None
) -> Iterator[Touchpoint]:
    """A mix of channels by customers with cookies, e-mails and CRM ids, now or at a moment."""
    for n in range(number):
        person = rng.randrange(customers)
        kind = rng.random()
        occurred_at = int(time.time() * 1000) if at_ms is None else at_ms
        common = {"event_id": f"{name}-{n}", "occurred_at": occurred_at}
        cookie = {"kind": "anonymous_id", "value": f"cookie-{person}-{rng.randrange(2)}"}
        crm = {"kind": "crm_id", "value": f"crm-{person}"}
        email = {"kind": "email", "value": f"someone.{person}@example.com"}
        if kind < 0.55:
            page = {"action": "page_viewed", "page_url": f"https://shop.example/p/{n % 500}"}
            yield "web", {**common, **page, "identifiers": [cookie]}
        elif kind < 0.65:
            yield "web", {**common, "action": "logged_in", "identifiers": [cookie, crm]}
        elif kind < 0.80:
            order = {"action": "placed", "value": 19.99, "currency": "EUR", "order_id": f"o{n}"}
            yield "purchase", {**common, **order, "identifiers": [crm, email]}
        elif kind < 0.90:
            answer = {"action": "answered", "question": "nps", "score": float(rng.randint(0, 10))}
            yield "survey", {**common, **answer, "identifiers": [email]}
        else:
            call = {"action": "ended", "talk_ms": 120_000, "queue": "orders", "resolved": True}
            yield "phone", {**common, **call, "identifiers": [crm]}
