"""Any order, duplicates, crashes, zombies: the same customers, totals and panes."""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import oracle
import pytest
from pipeline import PUBLISHED_AT_MS, Pipeline

from touchstream.agents import activity
from touchstream.agents.history import Said
from touchstream.agents.operations import Operation, SetRules, SetWord
from touchstream.agents.resolution import Word
from touchstream.agents.rules import Rules


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


def check(
    pipeline: Pipeline,
    published: list[oracle.Published],
    words: Sequence[Said] = (),
    rules: Rules | None = None,
) -> None:
    assert len(pipeline.facts()) == len(published)
    expected_customers = oracle.customers_of(published, words, rules)
    assert pipeline.identities() == expected_customers
    customers = pipeline.customers()
    assert set(customers) == set(expected_customers.values())
    totals = oracle.totals_of(published, expected_customers)
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


def other_rules(rng: random.Random) -> Rules:
    """Rules under which many customers are others than under the default ones."""
    kinds = {
        name: msgspec.structs.replace(
            kind, unique=rng.random() < 0.3, max_links=rng.choice((2, 5, 100)), limit=None
        )
        for name, kind in oracle.RULES.kinds.items()
    }
    return msgspec.structs.replace(
        oracle.RULES, kinds=kinds, max_identities=rng.choice((2, 5, 200))
    )


@pytest.mark.parametrize("seed", range(300, 330))
def test_figures_follow_what_operators_say(seed: int) -> None:
    """Words and rules split and join customers; touches, totals and panes are as if from start."""
    rng = random.Random(seed)
    published = oracle.random_touchpoints(rng, rng.choice((3, 10)), 80)
    tokens = sorted(oracle.history_of(published)[0])
    rules = other_rules(rng)
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
