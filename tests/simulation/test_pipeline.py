"""Any order, duplicates, crashes, zombies: the same customers, totals and panes."""

import asyncio
import random

import oracle
import pytest
from pipeline import Pipeline

from touchstream.agents import activity


async def run(seed: int, *, crash_rate: float = 0.0, copies: int = 1, again: int = 0) -> None:
    rng = random.Random(seed)
    published = oracle.random_touchpoints(rng, rng.choice((3, 10, 40)), 120)
    everything = published * copies + rng.sample(published, again)
    rng.shuffle(everything)
    pipeline = Pipeline(seed, partitions=rng.choice((1, 3, 8)), crash_rate=crash_rate)
    for channel, touchpoint in everything:
        pipeline.publish(channel, touchpoint)
    await pipeline.drain()
    check(pipeline, published)


def check(pipeline: Pipeline, published: list[oracle.Published]) -> None:
    assert len(pipeline.facts()) == len(published)
    assert pipeline.identities() == oracle.customers_of(published)
    customers = pipeline.customers()
    assert set(customers) == set(oracle.customers_of(published).values())
    totals = oracle.totals_of(published)
    for name, customer in customers.items():
        for column in ("touchpoints", "orders", "revenue_e4", "contacts"):
            assert customer[column] == totals[name][column], (name, column)
    expected = {key: tuple(pane) for key, pane in oracle.panes_of(published).items()}
    assert pipeline.panes() == expected


@pytest.mark.parametrize("seed", range(40))
def test_order_and_duplicates_do_not_matter(seed: int) -> None:
    asyncio.run(run(seed, copies=2, again=20))


@pytest.mark.parametrize("seed", range(100, 160))
def test_crashes_and_zombies_lose_and_repeat_nothing(seed: int) -> None:
    asyncio.run(run(seed, crash_rate=0.02, again=20))


@pytest.mark.parametrize("seed", range(200, 230))
def test_replays_count_once_even_when_event_ids_are_forgotten(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "RECENT_EVENTS", 1)
    monkeypatch.setattr(activity, "FOLDED_KEYS", 0)
    asyncio.run(run(seed, crash_rate=0.02))
