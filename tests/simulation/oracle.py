"""What must come out, recomputed plainly from everything that was published."""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from lives import random_life

from touchstream.agents.history import Said, Sight, judge_history, links_of, resolve_history
from touchstream.agents.identifiers import strength, tokens_of
from touchstream.agents.recount.customer import Pane, PaneKey, Recount, Tally, recount
from touchstream.agents.recount.facts import Fact, fact_of_touchpoint
from touchstream.agents.resolution import Resolution
from touchstream.agents.rules import Rules
from touchstream.agents.rules_file import default_rules
from touchstream.streams.settings import Settings

LIFE = 30
"""Touchpoints that are close together."""
TOKENS = tokens_of(Settings())
RULES = default_rules()
Published = tuple[str, dict[str, Any]]


def random_touchpoints(rng: random.Random, people: int, number: int) -> list[Published]:
    """Touchpoints of people with several identifiers, some of whom turn out to be one."""
    kinds = ("crm_id", "email", "phone", "anonymous_id")
    touchpoints = []
    lives = [each for _ in range(0, number, LIFE) for each in random_life(rng, LIFE)]
    for n in range(number):
        person = rng.randrange(people)
        chosen = rng.sample(kinds, rng.choice((1, 1, 2, 3)))
        identifiers = [_identifier(kind, person) for kind in chosen]
        if rng.random() < 0.05:
            identifiers.append(_identifier(rng.choice(kinds), rng.randrange(people)))
        channel, fields = lives[n]
        own = {"event_id": f"e{n}", "identifiers": identifiers}
        touchpoints.append((channel, {**fields, **own}))
    return touchpoints


def _identifier(kind: str, person: int) -> dict[str, Any]:
    values = {"phone": f"+1212555{person:04d}", "email": f"ann{person}@example.com"}
    return {"kind": kind, "value": values.get(kind, f"{kind}-{person}"), "verified": False}


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
    published: list[Published],
    words: Sequence[Said] = (),
    rules: Rules | None = None,
    shared: Collection[bytes] = (),
) -> dict[str, str]:
    """Identity -> customer, as in ClickHouse; `shared` are those that operators said are."""
    found = resolution_of(published, words, rules, shared).customers
    return {token.hex(): "c" + customer.hex() for token, customer in found.items()}


def resolution_of(
    published: list[Published],
    words: Sequence[Said] = (),
    rules: Rules | None = None,
    shared: Collection[bytes] = (),
) -> Resolution:
    """One resolution of everything that was published and said."""
    rules = rules or RULES
    first, sights = history_of(published)
    judged = judge_history(first, links_of(first, sights), words, rules, shared=shared)
    return resolve_history(judged.members, rules)


def other_rules(rng: random.Random) -> Rules:
    """Rules under which many customers are others than under the default ones."""
    kinds = {
        name: msgspec.structs.replace(
            kind, unique=rng.random() < 0.3, max_links=rng.choice((2, 5, 100)), limit=None
        )
        for name, kind in RULES.kinds.items()
    }
    return msgspec.structs.replace(RULES, kinds=kinds, max_identities=rng.choice((2, 5, 200)))


def without(published: list[Published], erased: set[bytes]) -> list[Published]:
    """Touchpoints that are left: none that was filed under an erased identity."""
    left = []
    for channel, touchpoint in published:
        found = identities(touchpoint)
        if found[0][1] not in erased:
            named = [
                each
                for each in touchpoint["identifiers"]
                if TOKENS.token(each["kind"], each["value"]) not in erased
            ]
            left.append((channel, {**touchpoint, "identifiers": named}))
    return left


def unique(published: list[Published]) -> list[Published]:
    """Published touchpoints without repetitions."""
    return list({(c, t["event_id"]): (c, t) for c, t in published}.values())


def lives_of(published: list[Published], customers: Mapping[str, str]) -> dict[str, Recount]:
    """Everything that follows from the touchpoints of each customer, recounted."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for channel, touchpoint in unique(published):
        customer = customers[identities(touchpoint)[0][1].hex()]
        facts[customer].append(fact_of_touchpoint(channel, touchpoint))
    return {customer: recount(found) for customer, found in facts.items()}


def panes_of(lives: Iterable[Recount]) -> dict[PaneKey, Pane]:
    """Panes of all customers together."""
    tally = Tally()
    for life in lives:
        tally.add(life.measurements, life.changes)
    return tally.panes()
