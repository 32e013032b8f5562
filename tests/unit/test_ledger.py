"""What a life comes to, and what has to be added to one for it to become another one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.ledger import EVERYBODY, Ledger, Measurement, RowKey
from touchstream.streams.customer_tables import ISSUES, SESSIONS
from touchstream.streams.table import Row
from touchstream.streams.topics import DAY_MS

WEB = (("channel", "web"),)
Said = tuple[str, int, int]


def net(*ledgers: Ledger) -> Counter[Measurement]:
    """How often each measurement stands; those that cancel are left out."""
    found: Counter[Measurement] = Counter()
    for ledger in ledgers:
        for measurement, number in ledger.entries:
            found[measurement] += number
    return Counter({measurement: number for measurement, number in found.items() if number})


def standing(*ledgers: Ledger) -> dict[RowKey, Row]:
    """Rows that are left when one ledger after the other is written."""
    rows = {key: row for ledger in ledgers for key, row in ledger.rows.items()}
    return {key: row for key, (row, gone) in rows.items() if not gone}


def test_measurement_has_its_moment_value_and_members() -> None:
    ledger = Ledger()
    ledger.measure("csat", 5, 4000, WEB)
    assert ledger.entries == [(("csat", 5, 4000, WEB, False), 1)]


def test_change_takes_the_old_value_back() -> None:
    ledger = Ledger()
    ledger.measure("switched", 5, 0, WEB)
    ledger.change("switched", 5, 0, 1, WEB)
    assert net(ledger) == {("switched", 5, 1, WEB, False): 1}


def test_change_to_the_same_value_is_none() -> None:
    ledger = Ledger()
    ledger.change("switched", 5, 1, 1, WEB)
    assert ledger.entries == []


def test_level_changes_at_the_start_of_a_day_for_everybody_unless_said_otherwise() -> None:
    ledger = Ledger()
    ledger.shift("buyers@7d", 3, -1)
    ledger.shift("customers", -1, 1, ("stage", "own"))
    assert ledger.entries == [
        (("buyers@7d", 3 * DAY_MS, -1, (EVERYBODY,), True), 1),
        (("customers", -DAY_MS, 1, (("stage", "own"),), True), 1),
    ]


def test_row_that_is_written_again_is_the_last_one() -> None:
    ledger = Ledger()
    ledger.write(SESSIONS, 5, "", (5, 6))
    ledger.write(SESSIONS, 5, "", (5, 7))
    assert ledger.rows == {(SESSIONS, 5, ""): ((5, 7), False)}


def test_rows_of_different_tables_moments_and_names_are_apart() -> None:
    ledger = Ledger()
    for table, at, name in ((SESSIONS, 5, ""), (ISSUES, 5, ""), (ISSUES, 6, ""), (ISSUES, 6, "a")):
        ledger.write(table, at, name, (at,))
    assert len(ledger.rows) == 4


def test_row_that_is_no_more_is_marked_and_keeps_its_columns() -> None:
    before = Ledger()
    before.write(SESSIONS, 5, "", (5, 6))
    assert Ledger().since(before).rows == {(SESSIONS, 5, ""): ((5, 6), True)}


def test_row_that_stays_as_it_is_is_not_written_again() -> None:
    before, after = Ledger(), Ledger()
    for ledger in (before, after):
        ledger.write(SESSIONS, 5, "", (5, 6))
    after.write(SESSIONS, 9, "", (9, 9))
    assert after.since(before).rows == {(SESSIONS, 9, ""): ((9, 9), False)}


def test_number_of_equal_measurements_counts() -> None:
    before, after = Ledger(), Ledger()
    before.measure("order", 5, 1, WEB)
    for _ in range(3):
        after.measure("order", 5, 1, WEB)
    assert after.since(before).entries == [(("order", 5, 1, WEB, False), 2)]
    assert before.since(after).entries == [(("order", 5, 1, WEB, False), -2)]


def ledger_of(said: list[Said]) -> Ledger:
    ledger = Ledger()
    for what, at, value in said:
        match what:
            case "measure":
                ledger.measure("csat", at, value, WEB)
            case "change":
                ledger.change("csat", at, 0, value, WEB)
            case "shift":
                ledger.shift("late", at, value)
            case _:
                ledger.write(SESSIONS, at, "", (value,))
    return ledger


SAID = st.lists(
    st.tuples(
        st.sampled_from(["measure", "change", "shift", "write"]),
        st.integers(0, 2),
        st.integers(-1, 2),
    ),
    max_size=12,
)


@given(SAID, SAID)
def test_what_was_before_and_the_difference_is_what_is_now(
    before: list[Said], after: list[Said]
) -> None:
    one, other = ledger_of(before), ledger_of(after)
    difference = other.since(one)
    assert net(one, difference) == net(other)
    assert standing(one, difference) == standing(other)


@given(SAID)
def test_between_equal_lives_is_no_difference(said: list[Said]) -> None:
    nothing = ledger_of(said).since(ledger_of(said))
    assert (nothing.entries, nothing.rows) == ([], {})
