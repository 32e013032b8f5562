"""What must come out, recomputed plainly from everything that was published."""

import random
from collections import Counter, defaultdict
from typing import Any

from touchstream.agents.identifiers import strength, tokens_of
from touchstream.streams.settings import Settings

TOKENS = tokens_of(Settings())
START_MS = 1_690_000_000_000
Published = tuple[str, dict[str, Any]]


def random_touchpoints(rng: random.Random, people: int, number: int) -> list[Published]:
    """Touchpoints of people with several identifiers, some of whom turn out to be one."""
    kinds = ("crm_id", "email", "phone", "anonymous_id")
    touchpoints = []
    for n in range(number):
        person = rng.randrange(people)
        chosen = rng.sample(kinds, rng.choice((1, 1, 2, 3)))
        identifiers = [_identifier(kind, person) for kind in chosen]
        if rng.random() < 0.05:
            identifiers.append(_identifier(rng.choice(kinds), rng.randrange(people)))
        channel = rng.choice(("web", "purchase", "survey", "phone", "chat"))
        common = {
            "event_id": f"e{n}",
            "occurred_at": START_MS + rng.randrange(3 * 86_400_000),
            "identifiers": identifiers,
        }
        touchpoints.append((channel, {**common, **_details(rng, channel)}))
    return touchpoints


def _identifier(kind: str, person: int) -> dict[str, Any]:
    value = f"+1212555{person:04d}" if kind == "phone" else f"{kind}-{person}"
    return {"kind": kind, "value": value, "verified": False}


def _details(rng: random.Random, channel: str) -> dict[str, Any]:
    if channel == "purchase":
        return {"action": "placed", "value": rng.randrange(10_000) / 100, "currency": "USD"}
    if channel == "survey":
        question = rng.choice(("csat", "nps", "ces"))
        score = {"csat": rng.randint(1, 5), "nps": rng.randint(0, 10), "ces": rng.randint(1, 7)}
        about = rng.choice((None, "phone"))
        return {
            "action": "answered",
            "question": question,
            "score": score[question],
            "about_channel": about,
        }
    if channel == "phone":
        return {"action": "ended", "talk_ms": rng.randrange(60_000), "wrap_up_ms": 1_000}
    if channel == "chat":
        return {"action": "ended", "handle_ms": rng.randrange(60_000)}
    return {"action": "page_viewed"}


def tokens(touchpoint: dict[str, Any]) -> list[bytes]:
    """Tokens of a touchpoint's identifiers, the one it is filed under first."""
    found = {TOKENS.token(i["kind"], i["value"]): i["kind"] for i in touchpoint["identifiers"]}
    return sorted(found, key=lambda token: (strength(found[token]), token))


def customers_of(published: list[Published]) -> dict[str, str]:
    """Identity -> customer: connected components, named after their oldest identity."""
    first: dict[bytes, int] = {}
    neighbours: dict[bytes, set[bytes]] = defaultdict(set)
    for _, touchpoint in published:
        found = tokens(touchpoint)
        for token in found:
            at = touchpoint["occurred_at"]
            first[token] = min(at, first.get(token, at))
            neighbours[token].update(found)
    customers: dict[str, str] = {}
    for start in first:
        if start.hex() in customers:
            continue
        group, edge = {start}, [start]
        while edge:
            new = neighbours[edge.pop()] - group
            group |= new
            edge.extend(new)
        oldest = min(group, key=lambda token: (first[token], token))
        customers.update({token.hex(): "c" + oldest.hex() for token in group})
    return customers


def totals_of(published: list[Published]) -> dict[str, Counter[str]]:
    """Customer -> number of touchpoints, orders, revenue (ten-thousandths) and contacts."""
    customers = customers_of(published)
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for channel, touchpoint in unique(published):
        counts = totals[customers[tokens(touchpoint)[0].hex()]]
        counts["touchpoints"] += 1
        counts["contacts"] += touchpoint["action"] == "ended"
        if channel == "purchase":
            counts["orders"] += 1
            counts["revenue_e4"] += round(touchpoint["value"] * 10_000)
    return totals


def unique(published: list[Published]) -> list[Published]:
    """Published touchpoints without repetitions."""
    return list({(c, t["event_id"]): (c, t) for c, t in published}.values())


def panes_of(published: list[Published]) -> dict[tuple[str, str, str, int], list[int]]:
    """(metric, member, resolution, start) -> number, sum and sum of squares."""
    panes: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for channel, touchpoint in unique(published):
        for metric, member, value, squared in _measured(channel, touchpoint):
            seconds = touchpoint["occurred_at"] // 1000
            for name, length in (("minute", 60), ("hour", 3600), ("day", 86400)):
                pane = panes[metric, member, name, seconds // length * length]
                pane[0] += 1
                pane[1] += value
                pane[2] += value * value if squared else 0
    return panes


def _measured(channel: str, t: dict[str, Any]) -> list[tuple[str, str, int, bool]]:
    if channel == "purchase":
        cents = round(t["value"] * 10_000)
        return [("orders", channel, 1, False), ("revenue", channel, cents, False)]
    if t["action"] == "ended":
        handled = t["handle_ms"] if channel == "chat" else t["talk_ms"] + t["wrap_up_ms"]
        return [("contacts", channel, 1, False), ("average_handle_time", channel, handled, False)]
    if channel == "survey":
        member, score = t["about_channel"] or channel, t["score"]
        if t["question"] == "nps":
            return [("nps", member, -1 if score < 7 else 0 if score < 9 else 1, True)]
        found = [(t["question"], member, 1000 * score, True)]
        if t["question"] == "csat":
            found.append(("csat_top2", member, int(score >= 4), True))
        return found
    return []
