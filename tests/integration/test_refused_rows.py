"""Rows that the engine refuses, and blocks that it gets twice, between those that it takes."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import connect
from touchstream.streams.clickhouse_writer import ClickHouseWriter
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import DEAD_LETTERS, IDENTITIES

pytestmark = pytest.mark.integration

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
CUSTOMER = "customer"
REFUSED = "customer too long"


class Seen:
    """Counts refused rows; nothing may be tried again."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def inserted(self, table: Table, rows: int, seconds: float) -> None: ...

    def retried(self, table: Table, error: Exception) -> None:
        raise AssertionError(error)

    def rejected(self, table: Table, row: Row, error: Exception) -> None:
        self.refused.append(table.name)


@pytest.fixture
def client(clickhouse_settings: Settings) -> Iterator[Client]:
    migrate(clickhouse_settings)
    client = connect(clickhouse_settings, dedicated_pool=True)
    yield client
    client.close()


def write(settings: Settings, *blocks: Mapping[Table, Sequence[Row]]) -> list[str]:
    """Insert blocks one after the other; returns the tables that rows were refused for."""
    seen = Seen()

    async def write_blocks() -> None:
        quick = settings.model_copy(update={"flush_seconds": 0.001})
        writer = ClickHouseWriter(quick, seen, seen.rejected)
        for block in blocks:
            await writer.insert(block)
        await writer.close()

    asyncio.run(write_blocks())
    return seen.refused


def state(identity: str, version: Any = 1, customer: str = CUSTOMER) -> Row:
    return (identity, "email", customer, NOON, NOON, version)


def shorten(client: Client, table: Table, column: str, length: int) -> None:
    """Let the engine refuse what is longer."""
    client.command(f"ALTER TABLE {table.name} MODIFY COLUMN {column} FixedString({length})")


def select(client: Client, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql).result_rows]


def test_a_row_that_the_engine_refuses_is_a_dead_letter_and_its_neighbours_are_stored(
    client: Client, clickhouse_settings: Settings
) -> None:
    shorten(client, IDENTITIES, "customer_id", len(CUSTOMER))
    rows = [state(f"i{number}") for number in range(100)]
    rows[40] = state("i40", customer=REFUSED)
    rows[70] = state("i70", version="newest")
    block = {IDENTITIES: rows}
    assert write(clickhouse_settings, block, block) == ["identity_states"] * 4

    stored = select(client, "SELECT identity FROM identity_states FINAL")
    good = {f"i{number}" for number in range(100)} - {"i40", "i70"}
    assert sorted(stored) == sorted((identity,) for identity in good)
    letters = select(client, "SELECT topic, reason, detail, value FROM dead_letters ORDER BY value")
    assert [letter[:2] for letter in letters] == [("clickhouse.identity_states", "refused_row")] * 2
    (_, _, by_engine, too_long), (_, _, by_us, mistyped) = letters
    assert "TOO_LARGE_STRING_SIZE" in by_engine
    assert "newest" in by_us
    assert json.loads(too_long)["customer_id"] == REFUSED
    assert json.loads(mistyped) == {
        **dict(zip(IDENTITIES.column_names, state("i70"), strict=True)),
        "version": "newest",
    }


def test_a_dead_letter_that_the_engine_refuses_stops_nothing(
    client: Client, clickhouse_settings: Settings
) -> None:
    shorten(client, DEAD_LETTERS, "detail", 1)
    rows = [state("a"), state("b", version="newest"), state("c")]
    assert write(clickhouse_settings, {IDENTITIES: rows}) == [IDENTITIES.name, DEAD_LETTERS.name]
    assert select(client, "SELECT identity FROM identities ORDER BY identity") == [("a",), ("c",)]
    assert select(client, "SELECT count() FROM dead_letters") == [(0,)]


@pytest.mark.parametrize(("window", "copies"), [(0, 3), (100, 2)])
def test_a_repeated_block_is_dropped_by_a_window_only_and_another_one_never(
    client: Client, clickhouse_settings: Settings, window: int, copies: int
) -> None:
    client.command(
        f"ALTER TABLE identity_states MODIFY SETTING non_replicated_deduplication_window = {window}"
    )
    client.command("SYSTEM STOP MERGES identity_states")
    first, newer = ({IDENTITIES: [state("a", version)]} for version in (1, 2))
    assert write(clickhouse_settings, first, newer, first) == []
    assert select(client, "SELECT count() FROM identity_states") == [(copies,)]
    assert select(client, "SELECT version FROM identity_states FINAL") == [(2,)]
