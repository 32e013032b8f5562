"""What must come out, recomputed plainly from everything that was published."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from touchstream.agents.history import Said, Sight, members_of, resolve_history
from touchstream.agents.identifiers import strength, tokens_of
from touchstream.agents.resolution import Resolution
from touchstream.agents.rules import Rules
from touchstream.agents.rules_file import default_rules
from touchstream.streams.settings import Settings

TOKENS = tokens_of(Settings())
RULES = default_rules()
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
    values = {"phone": f"+1212555{person:04d}", "email": f"ann{person}@example.com"}
    return {"kind": kind, "value": values.get(kind, f"{kind}-{person}"), "verified": False}


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


def identities(touchpoint: dict[str, Any]) -> list[tuple[str, bytes, bool]]:
    """Kind, token and verification of a touchpoint's identifiers, the strongest first."""
    found = {
        TOKENS.token(each["kind"], each["value"]): (each["kind"], each["verified"])
        for each in touchpoint["identifiers"]
    }
    ordered = sorted(found, key=lambda token: (strength(found[token][0], RULES), token))
    return [(found[token][0], token, found[token][1]) for token in ordered]


def history_of(published: list[Published]) -> tuple[dict[bytes, tuple[str, int]], list[Sight]]:
    """Every identity with its first sight, and every sight of a link."""
    first: dict[bytes, tuple[str, int]] = {}
    sights: list[Sight] = []
    for channel, touchpoint in published:
        found, at = identities(touchpoint), touchpoint["occurred_at"]
        for kind, token, _ in found:
            first[token] = (kind, min(at, first.get(token, (kind, at))[1]))
        _, one, verified = found[0]
        for _, other, other_verified in found[1:]:
            how = (channel, verified, other_verified)
            sights.append((one, other, *how, at, touchpoint["event_id"]))
    return first, sights


def customers_of(
    published: list[Published], words: Sequence[Said] = (), rules: Rules | None = None
) -> dict[str, str]:
    """Identity -> customer, as they stand in ClickHouse."""
    found = resolution_of(published, words, rules).customers
    return {token.hex(): "c" + customer.hex() for token, customer in found.items()}


def resolution_of(
    published: list[Published], words: Sequence[Said] = (), rules: Rules | None = None
) -> Resolution:
    """One resolution of everything that was published and said."""
    rules = rules or RULES
    first, sights = history_of(published)
    return resolve_history(members_of(first, sights, words, rules), rules)


def totals_of(published: list[Published], customers: Mapping[str, str]) -> dict[str, Counter[str]]:
    """Customer -> number of touchpoints, orders, revenue (ten-thousandths) and contacts."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for channel, touchpoint in unique(published):
        counts = totals[customers[identities(touchpoint)[0][1].hex()]]
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
