"""Any order, duplicates, crashes, zombies: the same customers, totals and panes."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import oracle
import pytest
from pipeline import PUBLISHED_AT_MS, Pipeline

from touchstream.agents import activity
from touchstream.agents import life as keeping
from touchstream.agents.history import Said
from touchstream.agents.operations import Operation, SetRules, SetWord
from touchstream.agents.recount.customer import Pane, PaneKey, Recount
from touchstream.agents.resolution import Word
from touchstream.agents.rules import Rules
from touchstream.streams.customer_tables import CUSTOMERS, ISSUES, PATHS, SESSIONS, VISITS

OWN = ("version", "is_deleted")
ROWS = (
    (SESSIONS, "sessions", ("started_at",)),
    (VISITS, "visits", ("entered_at", "stage")),
    (ISSUES, "issues", ("opened_at", "topic")),
    (PATHS, "paths", ("order_key",)),
)


SUMS = (
    "touchpoints",
    "touchpoints_by_channel",
    "contacts",
    "orders",
    "revenue_e4",
    "returns",
    "returned_e4",
    "first_touch_at",
    "last_touch_channel",
    "first_order_at",
    "last_order_at",
    "last_csat",
    "answers",
    "answer_sums",
    "texts_scored",
    "advocacy",
    "consent",
)
"""Columns that do not depend on the order of touchpoints."""


def each_by_itself(panes: dict[PaneKey, Pane]) -> dict[PaneKey, Pane]:
    """Panes of the measures that a touchpoint gives whatever was before it."""
    derived = {"first_contact_resolved", "first_contact_resolved_finally", "repeated", "switched"}
    derived |= {"issue_contacts", "reopened", "order_returned", "purchase_gap", "responded"}
    derived |= {"delivery_on_time", "delivery_lateness", "invited"}
    return {
        key: pane
        for key, pane in panes.items()
        if key[1] in ("channel", "queue", "campaign", "team") and key[0] not in derived
    }


async def run(
    seed: int, *, crash_rate: float = 0.0, copies: int = 1, again: int = 0, folded: bool = False
) -> None:
    rng = random.Random(seed)
    published = oracle.random_touchpoints(rng, rng.choice((3, 10, 40)), 120)
    everything = published * copies + rng.sample(published, again)
    rng.shuffle(everything)
    pipeline = Pipeline(seed, partitions=rng.choice((1, 3, 8)), crash_rate=crash_rate)
    for channel, touchpoint in everything:
        pipeline.publish(channel, touchpoint)
    await pipeline.drain()
    check(pipeline, published, folded=folded)


def check(
    pipeline: Pipeline,
    published: list[oracle.Published],
    words: Sequence[Said] = (),
    rules: Rules | None = None,
    folded: bool = False,
) -> None:
    assert len(pipeline.facts()) == len(published)
    expected_customers = oracle.customers_of(published, words, rules)
    assert pipeline.identities() == expected_customers
    assert pipeline.customers_of_facts() <= expected_customers.items()
    customers = pipeline.customers()
    assert set(customers) == set(expected_customers.values())
    lives = oracle.lives_of(published, expected_customers)
    check_customers(customers, lives, SUMS if folded else CUSTOMERS.column_names)
    if folded:
        assert each_by_itself(pipeline.panes()) == each_by_itself(oracle.panes_of(lives.values()))
        return
    assert pipeline.panes() == oracle.panes_of(lives.values())
    for table, name, key in ROWS:
        expected = [
            {"customer_id": customer, **row}
            for customer, life in lives.items()
            for row in getattr(life, name).values()
        ]
        found = [
            {k: v for k, v in row.items() if k not in OWN} for row in pipeline.rows(table, *key)
        ]
        assert sorted(map(plain, found)) == sorted(map(plain, expected)), name


def check_customers(
    customers: dict[str, dict[str, Any]], lives: dict[str, Recount], columns: Sequence[str]
) -> None:
    for name, life in lives.items():
        for column in life.customer.keys() & set(columns):
            value = life.customer[column]
            close = pytest.approx(value) if isinstance(value, float | dict) else value
            assert customers[name][column] == close, (name, column)


def plain(row: dict[str, Any]) -> str:
    """A row as text, whatever holds its lists."""
    return str({k: list(v) if isinstance(v, tuple) else v for k, v in sorted(row.items())})


@pytest.mark.parametrize("seed", range(40))
def test_order_and_duplicates_do_not_matter(seed: int) -> None:
    asyncio.run(run(seed, copies=2, again=20))


@pytest.mark.parametrize("seed", range(100, 160))
def test_crashes_and_zombies_lose_and_repeat_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "STRIDE", 3)
    asyncio.run(run(seed, crash_rate=0.02, again=20))


@pytest.mark.parametrize("seed", range(200, 230))
def test_replays_count_once_even_when_event_ids_are_forgotten(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 1)
    monkeypatch.setattr(activity, "FOLDED_KEYS", 0)
    asyncio.run(run(seed, crash_rate=0.02, folded=True))


@pytest.mark.parametrize("seed", range(300, 330))
def test_figures_follow_what_operators_say(seed: int) -> None:
    """Words and rules split and join customers; touches, totals and panes are as if from start."""
    rng = random.Random(seed)
    published = oracle.random_touchpoints(rng, rng.choice((3, 10)), 80)
    tokens = sorted(oracle.history_of(published)[0])
    rules = oracle.other_rules(rng)
    operations: list[Operation] = [SetRules(rules, "", "ann")]
    words = []
    for _ in range(4):
        one, other = rng.sample(tokens, 2)
        allow = rng.random() < 0.5
        operations.append(SetWord(one.hex(), other.hex(), allow, "ann"))
        words.append((one, other, Word(len(operations), allow, "ann", "", PUBLISHED_AT_MS)))
    pipeline = Pipeline(seed, partitions=rng.choice((1, 3, 8)), crash_rate=0.02)

    async def publish_and_say() -> None:
        for channel, touchpoint in published[:40]:
            pipeline.publish(channel, touchpoint)
        await pipeline.drain()
        for operation in operations:
            pipeline.operate(operation)
        for channel, touchpoint in published[40:]:
            pipeline.publish(channel, touchpoint)
        await pipeline.drain()

    asyncio.run(publish_and_say())
    check(pipeline, published, words, rules)
