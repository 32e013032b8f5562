"""Customers that were erased are as if they had never been: for all others, and in all state."""

import asyncio
import random
from typing import Any

import oracle
import pytest
from oracle import Published
from pipeline import Pipeline
from test_pipeline import ROWS, check_customers, plain

from touchstream.agents.evidence import Vertex, decode_vertex
from touchstream.agents.operations import SetErased
from touchstream.agents.suppressions import FOREVER
from touchstream.agents.turn import VERTEX
from touchstream.streams.customer_tables import CUSTOMERS
from touchstream.streams.topics import CUSTOMER, IDENTITY

OWN = ("version", "is_deleted")


async def run(seed: int, crash_rate: float) -> None:
    rng = random.Random(seed)
    published = oracle.random_touchpoints(rng, rng.choice((3, 10, 40)), 120)
    now, later = published[:60], published[60:]
    pipeline = Pipeline(seed, partitions=rng.choice((1, 3, 8)), crash_rate=crash_rate)
    publish(pipeline, now)
    await pipeline.drain()
    erased = chosen(pipeline, rng)
    operation = SetErased(sorted(each.hex() for each in erased), "ann")
    publish(pipeline, rng.sample(now, 20))
    pipeline.operate(operation)
    if rng.random() < 0.5:
        pipeline.hear()
    publish(pipeline, later)
    await pipeline.drain()
    if rng.random() < 0.3:
        pipeline.operate(operation)
        await pipeline.drain()
    await check(pipeline, oracle.without(published, erased), erased)
    assert await residue(pipeline, erased) == []


def publish(pipeline: Pipeline, published: list[Published]) -> None:
    for channel, touchpoint in published:
        pipeline.publish(channel, touchpoint)


def chosen(pipeline: Pipeline, rng: random.Random) -> set[bytes]:
    """All identities of one or two customers."""
    identities = pipeline.identities()
    customers = rng.sample(sorted(set(identities.values())), 2)
    return {bytes.fromhex(i) for i, customer in identities.items() if customer in customers}


async def known(pipeline: Pipeline) -> dict[str, Vertex]:
    """Identities that were seen, as stitch has them."""
    vertices = {
        key[1:].hex(): decode_vertex(value)
        for key, value in (await pipeline.state(IDENTITY)).items()
        if key.startswith(VERTEX)
    }
    return {name: each for name, each in vertices.items() if each.first_seen is not None}


async def check(pipeline: Pipeline, left: list[Published], erased: set[bytes]) -> None:
    names = {each.hex() for each in erased}
    facts = [fact for fact in pipeline.facts().values() if fact["identity"] not in names]
    assert len(facts) == len(left)
    expected = oracle.customers_of(left)
    found = {name: f"c{(v.customer or b'').hex()}" for name, v in (await known(pipeline)).items()}
    assert found == expected
    rows = pipeline.identities()
    assert {name: rows[name] for name in expected} == expected
    customers = pipeline.customers()
    assert set(customers) == set(expected.values())
    lives = oracle.lives_of(left, expected)
    check_customers(customers, lives, CUSTOMERS.column_names)
    assert pipeline.panes() == oracle.panes_of(lives.values())
    for table, name, key in ROWS:
        wanted = [
            {"customer_id": customer, **row}
            for customer, life in lives.items()
            for row in getattr(life, name).values()
        ]
        kept: list[dict[str, Any]] = [
            {k: v for k, v in row.items() if k not in OWN} for row in pipeline.rows(table, *key)
        ]
        assert sorted(map(plain, kept)) == sorted(map(plain, wanted)), name


async def residue(pipeline: Pipeline, erased: set[bytes]) -> list[bytes]:
    """Keys of state in which an erased identity is still to be found."""
    found = []
    for topic in (IDENTITY, CUSTOMER):
        for key, value in (await pipeline.state(topic)).items():
            if topic == IDENTITY and key[1:] in erased and key.startswith(VERTEX):
                vertex = decode_vertex(value)
                bare = Vertex(key[1:], erased=FOREVER)
                for counter in ("version", "revision", "term", "erasure", "changed_at"):
                    setattr(bare, counter, getattr(vertex, counter))
                if vertex != bare:
                    found.append(key)
            elif any(token in key or token in value for token in erased):
                found.append(key)
    return found


@pytest.mark.parametrize("seed", [*range(60), 1160])
def test_erased_customers_are_as_if_they_had_never_been(seed: int) -> None:
    asyncio.run(run(seed, crash_rate=0.0))


@pytest.mark.parametrize("seed", range(100, 140))
def test_so_they_are_whatever_crashes(seed: int) -> None:
    asyncio.run(run(seed, crash_rate=0.02))
