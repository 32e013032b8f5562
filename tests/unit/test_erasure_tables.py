"""No table is forgotten when a customer is erased."""

from touchstream.streams.customer_tables import CUSTOMERS, SESSIONS
from touchstream.streams.erasure.tables import (
    LEFT_BY_IDENTITIES,
    LIVES,
    WITHOUT_CUSTOMERS,
    superseded,
)
from touchstream.streams.tables import TABLES


def test_of_every_table_it_is_known_what_a_customer_leaves_there() -> None:
    assert {*LEFT_BY_IDENTITIES, *WITHOUT_CUSTOMERS} == {*TABLES}
    assert not LEFT_BY_IDENTITIES.keys() & {*WITHOUT_CUSTOMERS}


def test_tables_of_lives_have_a_version_and_may_lose_rows() -> None:
    for table, key in LIVES.items():
        assert {"customer_id", "version", "is_deleted", *key} <= {*table.column_names}


def test_rows_of_a_life_are_told_apart_by_their_whole_key() -> None:
    assert "(customer_id, started_at, version) NOT IN" in superseded(SESSIONS)
    assert "(customer_id, version) NOT IN" in superseded(CUSTOMERS)
