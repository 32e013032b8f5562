"""The squash on a real engine: readers see the customer of today before, during and after it."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, cast
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from touchstream.streams.cli import app
from touchstream.streams.clickhouse import connect
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import PREFIX, Settings
from touchstream.streams.squash import Squash, Squashed
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import FACTS, OVERRIDES

pytestmark = pytest.mark.integration

FIRST = 1 << 63
IDENTITIES, CUSTOMERS, EVENTS = "ijk", "ABC", 6
STEPS = 60
FULL: dict[str, Any] = {
    "String": "text",
    "LowCardinality(String)": "word",
    "DateTime64(3, 'UTC')": datetime(2026, 1, 1, 12, 30, 0, 125_000),
    "Map(LowCardinality(String), Bool)": {"ads": True},
    "Map(LowCardinality(String), String)": {"name": "value"},
    "Map(String, String)": {"page": "/"},
    "Nullable(Int64)": 7,
    "Nullable(Float64)": 2.5,
    "Nullable(Bool)": True,
    "Int32": 3,
    "Int64": 4,
    "UInt64": 5,
}
"""A value of each type of a fact, none the default."""
SHOWN = "SELECT identity, event_id, customer_id, customer_id_then FROM touchpoints"
STORED = "SELECT identity, event_id, customer_id FROM touchpoint_facts FINAL"
LIVE = "SELECT count() FROM identity_overrides FINAL"


@pytest.fixture(scope="module")
def settings(clickhouse_url: str) -> Iterator[Settings]:
    database = f"test_{uuid4().hex[:12]}"
    made = Settings(
        clickhouse_url=clickhouse_url, clickhouse_database=database, squash_grace_seconds=0
    )
    migrate(made)
    yield made
    client = connect(made, dedicated_pool=True)
    client.command(f"DROP DATABASE {database}")
    client.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    opened = connect(settings, dedicated_pool=True)
    for table in (FACTS, OVERRIDES):
        opened.command(f"TRUNCATE TABLE {table.name}")
    yield opened
    opened.close()


@pytest.fixture
def squash(settings: Settings) -> Iterator[Squash]:
    made = Squash(settings)
    yield made
    made.close()


def put(client: Client, table: Table, *rows: dict[str, Any]) -> None:
    names = list(rows[0])
    client.insert(table.name, [list(row.values()) for row in rows], column_names=names)


def fact(
    event_id: str, customer: str, version: int, offset: int = 0, **more: Any
) -> dict[str, Any]:
    return {
        "identity": "i",
        "channel": "web",
        "event_id": event_id,
        "customer_id": customer,
        "identity_version": version,
        "precedence": FIRST - offset,
        **more,
    }


def override(customer: str, version: int, identity: str = "i") -> dict[str, Any]:
    return {"identity": identity, "customer_id": customer, "version": version}


def select(client: Client, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql).result_rows]


class Frozen(Exception):
    """The process of a squash stands still, or is gone."""


class Unreliable:
    """A client whose inserts are read at once, but at times stored much later or never.

    Between any two statements other things happen.
    """

    def __init__(self, client: Client, rng: random.Random, meanwhile: Callable[[], None]) -> None:
        self._client = client
        self._rng = rng
        self._meanwhile = meanwhile
        self._late: list[tuple[str, list[str], list[Row]]] = []

    def query(self, sql: str, names: dict[str, Any]) -> Any:
        return self._client.query(sql, parameters=names)

    def command(self, sql: str, names: dict[str, Any], **options: Any) -> None:
        written = re.match(r"INSERT INTO (\w+) \(([^)]*)\)\s+(SELECT.*)", sql, re.DOTALL)
        assert written is not None
        rows = [tuple(row) for row in self._client.query(written[3], parameters=names).result_rows]
        self._late.append((written[1], written[2].split(", "), rows))
        if self._rng.random() < 0.4:
            raise Frozen
        self._store(self._late.pop())
        self._meanwhile()

    def thaw(self) -> None:
        """One that stood still goes on, and its insert comes now."""
        if self._late:
            self._store(self._late.pop(self._rng.randrange(len(self._late))))

    def _store(self, insert: tuple[str, list[str], list[Row]]) -> None:
        table, names, rows = insert
        if rows:
            self._client.insert(table, rows, column_names=names)


class World:
    """Identities that move, what was ever written of them, and who is right."""

    def __init__(self, client: Client, settings: Settings, seed: int) -> None:
        self.rng = random.Random(seed)
        self.client = client
        self.unreliable = Unreliable(client, self.rng, self.happen)
        self.squash = Squash(settings, connect=lambda *_, **__: cast(Client, self.unreliable))
        self.now = {each: (each.upper(), 2) for each in IDENTITIES}
        self.then: dict[tuple[str, str], str] = {}
        self.squashes = 0
        self.facts: list[dict[str, Any]] = []
        self.overrides: list[dict[str, Any]] = []

    def step(self) -> None:
        """Something happens, or a squash does a batch."""
        self.rng.choice((self.happen, self.happen, self.squash_once))()

    def happen(self) -> None:
        """Something happens."""
        steps = (self.touch, self.touch, self.move, self.move, self.see, self.repeat, self.thaw)
        self.rng.choice(steps)()

    def touch(self) -> None:
        """A touchpoint comes, or comes again at a later offset."""
        identity, event = self.rng.choice(IDENTITIES), str(self.rng.randrange(EVENTS))
        customer, version = self.now[identity]
        self.then.setdefault((identity, event), customer)
        row = fact(event, customer, version, len(self.facts), identity=identity)
        self.facts.append(row)
        put(self.client, FACTS, row)

    def move(self) -> None:
        """An identity changes its customer."""
        identity = self.rng.choice(IDENTITIES)
        customer, version = self.now[identity]
        customer = self.rng.choice([each for each in CUSTOMERS if each != customer])
        self.now[identity] = customer, version + 1
        self.overrides.append(override(customer, version + 1, identity))
        put(self.client, OVERRIDES, self.overrides[-1])

    def see(self) -> None:
        """An identity turns out to have been seen earlier: a new version, the same customer."""
        identity = self.rng.choice(IDENTITIES)
        customer, version = self.now[identity]
        self.now[identity] = customer, version + 1

    def repeat(self) -> None:
        """A worker writes again what it wrote at any time before."""
        for table, rows in ((FACTS, self.facts), (OVERRIDES, self.overrides)):
            if rows:
                put(self.client, table, *self.rng.sample(rows, min(3, len(rows))))

    def squash_once(self) -> None:
        """One of several squashes does a batch, as far as it comes."""
        with suppress(Frozen):
            self.squashes += self.squash.batch().settled

    def thaw(self) -> None:
        """A squash goes on that stood still."""
        self.unreliable.thaw()

    def shown(self) -> list[tuple[str, str, str, str]]:
        """What readers must see."""
        return sorted(
            (identity, event, self.now[identity][0], then)
            for (identity, event), then in self.then.items()
        )


@pytest.mark.parametrize("seed", range(12))
def test_readers_are_right_whatever_happens_in_whatever_order(
    client: Client, settings: Settings, squash: Squash, seed: int
) -> None:
    world = World(client, settings, seed)
    for _ in range(STEPS):
        world.step()
        assert sorted(select(client, SHOWN)) == world.shown()
    assert world.squashes
    for _ in range(3):
        squash.batch()
        assert sorted(select(client, SHOWN)) == world.shown()
    assert select(client, LIVE) == [(0,)]
    assert sorted(select(client, STORED)) == [row[:3] for row in world.shown()]
    assert sorted(select(client, SHOWN)) == world.shown()
    world.repeat()
    for _ in range(STEPS):
        world.thaw()
    assert sorted(select(client, SHOWN)) == world.shown()


def test_a_squash_folds_then_drops(client: Client, squash: Squash) -> None:
    put(client, FACTS, fact("1", "A", 2), fact("2", "B", 3))
    put(client, OVERRIDES, override("B", 3), override("B", 3, "without facts"))
    assert squash.batch() == Squashed(2, 2, 0)
    assert sorted(select(client, STORED)) == [("i", "1", "B"), ("i", "2", "B")]
    assert select(client, LIVE) == [(2,)]
    assert squash.batch() == Squashed(0, 0, 2)
    assert select(client, LIVE) == [(0,)]
    assert squash.batch() == Squashed(0, 0, 0)
    assert select(client, f"{SHOWN} ORDER BY event_id") == [
        ("i", "1", "B", "A"),
        ("i", "2", "B", "B"),
    ]


def test_every_column_of_a_fact_is_kept(client: Client, squash: Squash) -> None:
    full = {name: FULL[kind] for name, kind in FACTS.columns}
    put(client, FACTS, {**full, **fact("1", "A", 2)})
    put(client, OVERRIDES, override("B", 3))
    squash.batch()
    kept = [name for name in FACTS.column_names if name not in fact("1", "A", 2)]
    sql = f"SELECT {', '.join(kept)} FROM touchpoint_facts WHERE identity_version = 3"
    assert select(client, sql) == [tuple(full[name] for name in kept)]


def test_nothing_is_taken_before_its_grace_is_over(client: Client, settings: Settings) -> None:
    put(client, FACTS, fact("1", "A", 2))
    put(client, OVERRIDES, override("B", 3))
    patient = Squash(settings.model_copy(update={"squash_grace_seconds": 3600.0}))
    assert patient.batch() == Squashed(0, 0, 0)
    hasty = Squash(settings)
    assert hasty.batch() == Squashed(1, 1, 0)
    assert patient.batch() == Squashed(0, 0, 0)
    assert select(client, LIVE) == [(1,)]
    patient.close()
    hasty.close()


def test_an_override_that_a_fact_needs_is_not_settled(client: Client, squash: Squash) -> None:
    """A fact that outranks what the squash writes, as none of ours does."""
    stubborn = fact("1", "A", 2, precedence=(1 << 64) - 1)
    put(client, FACTS, stubborn)
    put(client, OVERRIDES, override("B", 3))
    for _ in range(2):
        done = squash.batch()
        assert done == Squashed(1, 0, 0)
        assert done.is_over
    assert select(client, SHOWN) == [("i", "1", "B", "A")]


def test_batches_go_through_all_identities(client: Client, settings: Settings) -> None:
    names = [f"i{number}" for number in range(5)]
    put(client, FACTS, *[fact("1", "A", 2, identity=name) for name in names])
    put(client, OVERRIDES, *[override("B", 3, name) for name in names])
    few = Squash(settings, most=2)
    assert [few.batch() for _ in range(4)] == [
        Squashed(2, 2, 0, is_full=True),
        Squashed(2, 2, 2, is_full=True),
        Squashed(1, 1, 2),
        Squashed(0, 0, 1),
    ]
    few.close()
    assert {row[2] for row in select(client, STORED)} == {"B"}


def test_the_command_says_what_it_did(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}CLICKHOUSE_URL", settings.clickhouse_url)
    monkeypatch.setenv(f"{PREFIX}CLICKHOUSE_DATABASE", settings.clickhouse_database)
    monkeypatch.setenv(f"{PREFIX}SQUASH_GRACE_SECONDS", "0")
    put(client, FACTS, fact("1", "A", 2))
    put(client, OVERRIDES, override("B", 3))
    said = [CliRunner().invoke(app, ["squash"]).output.splitlines() for _ in range(2)]
    assert said == [
        ["identities put into their touchpoints: 1", "overrides of earlier runs dropped: 0"],
        ["identities put into their touchpoints: 0", "overrides of earlier runs dropped: 1"],
    ]
