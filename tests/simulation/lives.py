"""Touchpoints of every kind, close enough together that they belong to each other."""

import random
from typing import Any

Touchpoint = dict[str, Any]
START_MS = 1_690_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
SPANS = (
    0,
    0,
    MINUTE_MS,
    20 * MINUTE_MS,
    40 * MINUTE_MS,
    DAY_MS,
    6 * DAY_MS,
    8 * DAY_MS,
    60 * DAY_MS,
)


def random_life(rng: random.Random, number: int) -> list[tuple[str, Touchpoint]]:
    """Touchpoints of somebody, without identifiers; channel and fields."""
    at = START_MS + rng.randrange(30) * DAY_MS + rng.randrange(DAY_MS)
    life = []
    for n in range(number):
        at += rng.choice(SPANS) + rng.choice((0, 0, 1, 77_777))
        if rng.random() < 0.02:
            at += 190 * DAY_MS
        channel, fields = rng.choice(MAKERS)(rng, at)
        if rng.random() < 0.2:
            fields["campaign"] = rng.choice(("spring", "summer"))
        if rng.random() < 0.1:
            fields["account_id"] = rng.choice(("acme", "globex"))
        properties = {}
        if rng.random() < 0.1:
            properties["segment"] = rng.choice(("vip", "student"))
        if rng.random() < 0.1:
            properties["team"] = rng.choice(("north", "south"))
        if channel == "social" and rng.random() < 0.3:
            properties["brand"] = "initech"
        if rng.random() < 0.1:
            fields["consent"] = {rng.choice(("marketing", "analytics")): rng.random() < 0.5}
        fields |= {"event_id": f"e{n}-{rng.randrange(10**9)}", "occurred_at": at}
        life.append((channel, {**fields, "properties": properties}))
    return life


def _web(rng: random.Random, at: int) -> tuple[str, Touchpoint]:
    actions = (
        "page_viewed",
        "product_viewed",
        "searched",
        "prices_viewed",
        "referred",
        "logged_in",
    )
    return "web", {"action": rng.choice(actions)}


def _service(rng: random.Random, at: int) -> tuple[str, Touchpoint]:
    channel = rng.choice(("phone", "chat", "in_person", "email"))
    topic, queue = rng.choice((None, "billing", "delivery")), rng.choice((None, "first"))
    if channel == "email":
        return channel, {"action": rng.choice(("replied", "opened", "sent"))}
    if channel == "in_person":
        return channel, {"action": rng.choice(("ended", "visited", "event_attended"))}
    wait = rng.choice((None, 1_000, 5_000, 20_000, 20_001, 90_000))
    resolved = rng.choice((None, True, False))
    fields = {"action": "ended", "topic": topic, "queue": queue, "wait_ms": wait}
    fields |= {"resolved": resolved, "transfers": rng.choice((None, 0, 2))}
    if channel == "phone":
        fields |= {"abandoned": rng.random() < 0.3, "talk_ms": rng.choice((None, 0, 61_000))}
    else:
        fields["handle_ms"] = rng.choice((None, 0, 30_500))
    return channel, fields


def _purchase(rng: random.Random, at: int) -> tuple[str, Touchpoint]:
    order_id = rng.choice((None, f"o{at}", "o1", "o2"))
    action = rng.choice(("placed", "placed", "placed", "delivered", "returned", "cancelled"))
    fields: Touchpoint = {"action": action, "order_id": order_id, "currency": "USD"}
    fields["value"] = rng.choice((None, 0.0, 19.99, 120.5))
    if action in ("placed", "delivered"):
        fields["promised_at"] = rng.choice((None, at - DAY_MS, at, at + 3 * DAY_MS))
    if action == "delivered":
        fields["delivered_at"] = rng.choice((None, at - DAY_MS))
    return "purchase", fields


def _survey(rng: random.Random, at: int) -> tuple[str, Touchpoint]:
    invitation = rng.choice((None, "i1", "i2", "i3"))
    if rng.random() < 0.4:
        return "survey", {"action": rng.choice(("invited", "expired")), "invitation_id": invitation}
    question = rng.choice(("csat", "nps", "ces", "trust", "colour"))
    fields: Touchpoint = {"action": "answered", "question": question, "invitation_id": invitation}
    fields["score"] = rng.choice((None, 1.0, 2.0, 3.0, 4.0, 5.0))
    if question == "nps":
        fields["score"] = rng.choice((0.0, 6.0, 6.5, 7.0, 9.0, 10.0))
    elif question != "colour" and rng.random() < 0.4:
        fields |= {"scale_min": 0.0, "scale_max": rng.choice((5.0, 10.0))}
    fields["about_channel"] = rng.choice((None, "phone"))
    return "survey", fields


def _social(rng: random.Random, at: int) -> tuple[str, Touchpoint]:
    action = rng.choice(("posted", "mentioned", "shared", "reviewed", "messaged", "liked"))
    sentiment = rng.choice((None, -0.6, -0.05, 0.0, 0.05, 0.83))
    rating = rng.choice((None, 3.0, 4.0))
    return "social", {"action": action, "sentiment": sentiment, "rating": rating}


def _employee(rng: random.Random, at: int) -> tuple[str, Touchpoint]:
    question, item = rng.choice((("enps", None), ("engagement", "pride"), (None, "pride")))
    score = rng.choice((None, 1.0, 4.0, 5.0)) if question != "enps" else rng.choice((0.0, 9.0))
    fields = {"action": "answered", "question": question, "item": item, "score": score}
    return "employee", {**fields, "team": rng.choice((None, "north"))}


MAKERS = (_web, _web, _service, _service, _purchase, _purchase, _survey, _social, _employee)
