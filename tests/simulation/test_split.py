"""A wrong merge that is undone leaves no trace in any figure."""

import asyncio
import random
from typing import Any

import oracle
import pytest
from lives import random_life
from oracle import Published
from pipeline import Pipeline

from touchstream.agents.operations import SetWord
from touchstream.streams.customer_tables import ISSUES, PATHS, SESSIONS, VISITS

ANN: dict[str, Any] = {"kind": "email", "value": "ann@example.com", "verified": True}
BOB: dict[str, Any] = {"kind": "phone", "value": "+12125550100", "verified": True}
OWN = ("version", "changed_at", "is_deleted")
KEYS = {
    SESSIONS: ("started_at",),
    VISITS: ("entered_at", "stage"),
    ISSUES: ("opened_at", "topic"),
    PATHS: ("order_key",),
}


def of(who: dict[str, Any], life: list[Published], name: str) -> list[Published]:
    return [
        (channel, {**fields, "event_id": f"{name}{n}", "identifiers": [who]})
        for n, (channel, fields) in enumerate(life)
    ]


async def figures(
    seed: int, published: list[Published], later: list[Published], split: bool
) -> tuple[dict[str, Any], dict[Any, Any], list[list[str]]]:
    """Customers, panes and rows; `later` comes when all else has been taken."""
    pipeline = Pipeline(seed, partitions=3, crash_rate=0.01)
    for channel, touchpoint in published:
        pipeline.publish(channel, touchpoint)
    await pipeline.drain()
    if split:
        assert len(set(pipeline.identities().values())) == 1
        ann, bob = (oracle.TOKENS.token(each["kind"], each["value"]).hex() for each in (ANN, BOB))
        pipeline.operate(SetWord(ann, bob, False, "ann"))
    for channel, touchpoint in later:
        pipeline.publish(channel, touchpoint)
    await pipeline.drain()
    customers = {
        name: {column: value for column, value in row.items() if column not in OWN}
        for name, row in pipeline.customers().items()
    }
    rows = [
        sorted(str({k: v for k, v in row.items() if k not in OWN}) for row in found)
        for found in (pipeline.rows(table, *key) for table, key in KEYS.items())
    ]
    return customers, pipeline.panes(), rows


@pytest.mark.parametrize("seed", range(20))
def test_customers_that_were_split_are_as_if_they_had_never_been_one(seed: int) -> None:
    rng = random.Random(seed)
    ann, bob = of(ANN, random_life(rng, 25), "a"), of(BOB, random_life(rng, 25), "b")
    at = rng.choice(ann)[1]["occurred_at"]
    page = {"action": "page_viewed", "event_id": "wrong", "occurred_at": at}
    wrong = {**page, "identifiers": [ANN, BOB]}
    everything = [*ann, *bob]
    rng.shuffle(everything)
    now, later = everything[:30], everything[30:]
    split = asyncio.run(figures(seed, [*now, ("web", wrong)], later, split=True))
    filed_under = oracle.identities(wrong)[0][0]
    alone = {**page, "identifiers": [ANN if filed_under == "email" else BOB]}
    never = asyncio.run(figures(seed + 1, [*now, ("web", alone)], later, split=False))
    assert len(split[0]) == 2
    assert split == never
