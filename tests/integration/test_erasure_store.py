"""Every table, also rows that newer ones hide: rows of the customer go, those of others stay."""

from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import connect
from touchstream.streams.erasure.store import ErasureStore, Subject
from touchstream.streams.erasure.tables import LEFT_BY_IDENTITIES, LIVES
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import (
    CHANGES,
    DEAD_LETTERS,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    OVERRIDES,
    REFUSED,
)

pytestmark = pytest.mark.integration
ANN, PHONE, BOB, KIOSK = (digit * 32 for digit in "abcd")
ANNS = Subject((ANN, PHONE), number=9)


@pytest.fixture
def settings(clickhouse_settings: Settings) -> Settings:
    migrate(clickhouse_settings)
    return clickhouse_settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    client = connect(settings, dedicated_pool=True)
    yield client
    client.close()


def row(table: Table, **values: Any) -> Row:
    """A row with these values, and something of the right type in all other columns."""
    return tuple(values.get(name, plain(kind)) for name, kind in table.columns)


def plain(kind: str) -> Any:
    if kind.startswith("Nullable"):
        return None
    for start, value in (("Map", {}), ("Array", []), ("Bool", False), ("Float", 0.0)):
        if kind.startswith(start):
            return value
    return "" if "String" in kind else 1


def about(identity: str, **more: Any) -> dict[str, Any]:
    """Columns by which a row is about an identity and the customer named after it."""
    customer = f"c{identity}"
    names = {"identity": identity, "other": KIOSK, "customer_id": customer, "alert_id": identity}
    return {**names, "identities": [identity], "number": 1, **more}


def insert(client: Client, table: Table, *rows: Row) -> None:
    client.insert(
        table.name, rows, column_names=table.column_names, column_type_names=table.column_types
    )


def stored(client: Client, table: Table) -> list[Row]:
    """All rows there are, merged or not."""
    rows = client.query(f"SELECT * FROM {table.name}").result_rows
    return sorted((tuple(each) for each in rows), key=repr)


@pytest.mark.parametrize("table", LEFT_BY_IDENTITIES, ids=lambda table: table.name)
def test_rows_of_the_customer_go_and_those_of_others_stay(
    settings: Settings, client: Client, table: Table
) -> None:
    insert(client, table, row(table, **about(BOB)))
    others = stored(client, table)
    insert(client, table, *(row(table, **about(each)) for each in (ANN, PHONE)))
    insert(client, table, row(table, **about(ANN, version=2)))
    store = ErasureStore(settings, client)
    assert store.count(ANNS)[table.name] > 0
    store.delete(ANNS)
    assert store.count(ANNS)[table.name] == 0
    assert stored(client, table) == others


HIDDEN = [
    (LINKS, {"identity": BOB, "other": ANN}),
    (REFUSED, {"identity": BOB, "other": KIOSK, "detail": f"{ANN} {BOB}"}),
    (CHANGES, {"identity": BOB, "customer_id": f"c{BOB}", "former_customer_id": f"c{ANN}"}),
    (IDENTITIES, {"identity": BOB, "customer_id": f"c{PHONE}"}),
    (OVERRIDES, {"identity": BOB, "customer_id": f"c{ANN}"}),
]


@pytest.mark.parametrize(("table", "values"), HIDDEN, ids=lambda each: getattr(each, "name", ""))
def test_rows_of_others_that_name_the_customer_go(
    settings: Settings, client: Client, table: Table, values: dict[str, str]
) -> None:
    insert(client, table, row(table, **values))
    ErasureStore(settings, client).delete(ANNS)
    assert stored(client, table) == []


def test_the_mark_of_the_erasure_stays(settings: Settings, client: Client) -> None:
    said = ((3, "shared"), (9, "erased"))
    marks = [row(MARKS, identity=ANN, mark=mark, number=number) for number, mark in said]
    insert(client, MARKS, *marks)
    ErasureStore(settings, client).delete(ANNS)
    assert client.query("SELECT mark FROM identity_mark_records").result_rows == [("erased",)]


def test_facts_of_others_lose_the_name_of_the_customer(settings: Settings, client: Client) -> None:
    """Bob's were once taken for Ann's; the squash has put his customer into one of them."""
    insert(client, IDENTITIES, row(IDENTITIES, identity=BOB, customer_id=f"c{BOB}", version=4))
    names = {"identity": BOB, "channel": "web"}
    insert(client, FACTS, row(FACTS, **names, event_id="e1", customer_id=f"c{ANN}"))
    insert(client, FACTS, row(FACTS, **names, event_id="e2", customer_id=f"c{BOB}"))
    client.command(
        f"ALTER TABLE {FACTS.name} UPDATE customer_id_then = 'c{ANN}' WHERE event_id = 'e2'"
        " SETTINGS mutations_sync = 2"
    )
    store = ErasureStore(settings, client)
    assert store.count(ANNS)[FACTS.name] == 2
    store.delete(ANNS)
    assert store.count(ANNS)[FACTS.name] == 0
    sql = "SELECT event_id, customer_id, customer_id_then FROM touchpoints ORDER BY event_id"
    assert client.query(sql).result_rows == [(e, f"c{BOB}", f"c{BOB}") for e in ("e1", "e2")]


@pytest.mark.parametrize("table", LIVES, ids=lambda table: table.name)
def test_of_former_customers_only_what_holds_now_stays(
    settings: Settings, client: Client, table: Table
) -> None:
    versions = [about(BOB, version=version) for version in (1, 2)]
    types = dict(table.columns)
    another = {name: "x" if "String" in types[name] else 2 for name in LIVES[table]}
    gone = about(BOB, version=3, is_deleted=1, **another)
    insert(client, table, *(row(table, **{"is_deleted": 0, **each}) for each in versions))
    if LIVES[table]:
        insert(client, table, row(table, **gone))
    before = ErasureStore(settings, client).subject([ANN])
    assert before.others == ()
    ErasureStore(settings, client).delete(Subject((ANN,), others=(f"c{BOB}",)))
    assert client.query(f"SELECT version FROM {table.name}").result_rows == [(2,)]


def test_who_leads_to_a_customer_is_found(settings: Settings, client: Client) -> None:
    changed = {"identity": ANN, "former_customer_id": f"c{KIOSK}", "customer_id": f"c{ANN}"}
    insert(client, CHANGES, row(CHANGES, **changed))
    insert(client, FACTS, row(FACTS, identity=PHONE, customer_id=f"c{BOB}"))
    for one, other in ((KIOSK, ANN), (ANN, PHONE)):
        insert(client, LINKS, row(LINKS, identity=one, other=other))
    found = ErasureStore(settings, client).subject([PHONE, ANN])
    assert found == Subject((ANN, PHONE), (f"c{BOB}", f"c{KIOSK}"), (KIOSK,))


def test_identity_that_is_known_from_nothing_else_goes(settings: Settings, client: Client) -> None:
    store, subject = ErasureStore(settings, client), Subject((ANN,), neighbours=(BOB, KIOSK, PHONE))
    for identity in (BOB, KIOSK, PHONE):
        insert(client, IDENTITIES, row(IDENTITIES, identity=identity, version=2))
    insert(client, FACTS, row(FACTS, identity=BOB))
    versions = store.versions(subject)
    assert versions == {BOB: 2, KIOSK: 2, PHONE: 2}
    insert(client, IDENTITIES, row(IDENTITIES, identity=PHONE, version=3))
    store.delete_orphans(versions)
    sql = f"SELECT identity, version FROM {IDENTITIES.name} ORDER BY ALL"
    assert client.query(sql).result_rows == [(PHONE, 3), (BOB, 2)]


def test_dead_letters_come_with_their_bytes_and_go_by_their_place(
    settings: Settings, client: Client
) -> None:
    for offset, value in enumerate((b"\x00\xff", b"", b"{}")):
        values = {"topic": "touchpoints.web", "source": 7, "partition": 1, "offset": offset}
        insert(client, DEAD_LETTERS, row(DEAD_LETTERS, **values, value=value))
    store = ErasureStore(settings, client)
    found = sorted(store.dead_letters())
    assert [each.value for each in found] == [b"\x00\xff", b"", b"{}"]
    store.delete_dead_letters([found[0].place, found[2].place])
    assert [each.place for each in store.dead_letters()] == [("touchpoints.web", 7, 1, 1)]
