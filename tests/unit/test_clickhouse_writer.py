"""Group commit, retry, bisection, cancellation and closing of the writer, over a fake client."""

import asyncio
import gc
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import ref

import pytest
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    DataError,
    OperationalError,
    ProgrammingError,
)
from clickhouse_connect.driver.insert import InsertContext

from touchstream.streams.clickhouse import Failure, explain, failure_of
from touchstream.streams.clickhouse_writer import BLOCK_ROWS, ClickHouseWriter, Inserter, Pace
from touchstream.streams.dead_letters import KEPT_BYTES, REFUSED_ROW, refused_row
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row, Table
from touchstream.streams.tables import DEAD_LETTERS

LETTERS = Table("letters", (("word", "String"), ("version", "UInt64")))
NUMBERS = Table("numbers", (("number", "Int64"),))
LATE = Table("late", NUMBERS.columns, last=True)
BAD = "bad"
NOW_MS = 1_767_268_800_000


class FakeClient:
    """Keeps what is inserted; fails as scripted, on the word `bad`, and while the gate is shut."""

    def __init__(self, errors: tuple[Exception | None, ...] = ()) -> None:
        self.errors = list(errors)
        self.refused_tables: set[str] = set()
        self.inserts: list[tuple[str, list[Row]]] = []
        self.tokens: list[tuple[str, str | None]] = []
        """Table and token of every attempt."""
        self.contexts: list[ref[InsertContext]] = []
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[int] = set()
        self.closed = False

    def create_insert_context(self, table: str, **options: Any) -> InsertContext:
        context = InsertContext(table, **options)
        self.contexts.append(ref(context))
        return context

    def insert(self, data: list[Row], context: InsertContext) -> None:
        table, columns, context.data = context.table, data, data
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.gate.wait(10)
        self.tokens.append((table, context.settings.get("insert_deduplication_token")))
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        if len(columns) != len(context.column_names):
            raise ProgrammingError("Insert data column count does not match column names")
        rows = list(zip(*columns, strict=True))
        if table in self.refused_tables or any(row[0] == BAD for row in rows):
            raise DatabaseError("cannot parse", code=27)
        self.inserts.append((table, rows))

    def rows(self, table: Table) -> list[Row]:
        return [row for name, rows in self.inserts if name == table.name for row in rows]

    def close(self) -> None:
        self.closed = True


class Watch:
    """Observer, receiver of rejected rows, and a clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, int]] = []
        self.retries: list[str] = []
        self.bad: list[tuple[str, Row, str]] = []
        self.sleeps: list[float] = []
        self.now = 0.0
        self.wake = asyncio.Event()
        self.slept = asyncio.Event()

    def inserted(self, table: Table, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.stored.append((table.name, rows))

    def retried(self, table: Table, error: Exception) -> None:
        self.retries.append(f"{table.name}: {error}")

    def rejected(self, table: Table, row: Row, error: Exception) -> None:
        self.bad.append((table.name, row, str(error)))

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.slept.set()
        await self.wake.wait()


Body = Callable[[ClickHouseWriter, FakeClient, Watch], Awaitable[None]]


def run(
    body: Body, *errors: Exception | None, flush_rows: int = 4, wake: bool = False
) -> FakeClient:
    """Run `body` with a writer whose first inserts fail; `wake` lets every sleep end at once."""

    async def main() -> FakeClient:
        settings = Settings(flush_rows=flush_rows, flush_seconds=0.5)
        client, watch = FakeClient(errors), Watch()
        if wake:
            watch.wake.set()
        inserter = Inserter(settings, connect=lambda *_, **__: client)  # type: ignore[arg-type]  # a fake
        pace = Pace(watch.sleep, lambda: 1.0, lambda: watch.now, lambda: NOW_MS / 1000)
        writer = ClickHouseWriter(settings, watch, watch.rejected, inserter=inserter, pace=pace)
        await body(writer, client, watch)
        await writer.close()
        return client

    return asyncio.run(asyncio.wait_for(main(), 30))


def letter(word: str, version: int = 1) -> Row:
    return (word, version)


async def begin(writer: ClickHouseWriter, *words: str) -> asyncio.Task[None]:
    """Start an insert and let it reach its group."""
    task = asyncio.create_task(writer.insert({LETTERS: [letter(word) for word in words]}))
    await asyncio.sleep(0)
    return task


async def started(client: FakeClient) -> None:
    assert await asyncio.to_thread(client.started.wait, 10)


def test_callers_share_one_insert_a_table_when_enough_rows_wait() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        first = await begin(writer, "a", "b")
        assert not first.done()
        await writer.insert({LETTERS: [letter("c")], NUMBERS: [(1,)]})
        await first
        assert client.inserts == [
            ("letters", [letter("a"), letter("b"), letter("c")]),
            ("numbers", [(1,)]),
        ]
        assert watch.stored == [("letters", 3), ("numbers", 1)]
        assert len(client.threads) == 1
        assert client.threads.isdisjoint({threading.get_ident()})

    assert run(body).closed


def test_few_rows_go_out_when_the_time_is_up() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        caller = await begin(writer, "a")
        await watch.slept.wait()
        assert watch.sleeps == [0.5]
        assert client.inserts == []
        watch.wake.set()
        await caller
        assert client.inserts == [("letters", [letter("a")])]

    run(body)


def test_a_lone_caller_waits_for_nobody() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        watch.now = 60.0
        await writer.insert({LETTERS: [letter("a")]})
        assert watch.sleeps == []
        assert client.inserts == [("letters", [letter("a")])]

    run(body)


def test_what_arrives_while_an_insert_runs_makes_the_next_one_larger() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        client.gate.clear()
        callers = [await begin(writer, "a")]
        await started(client)
        callers += [await begin(writer, "b"), await begin(writer, "c")]
        callers += [await begin(writer, *"defgh"), await begin(writer, "i")]
        assert not any(caller.done() for caller in callers)
        client.gate.set()
        await asyncio.gather(*callers)
        assert ["".join(row[0] for row in rows) for _, rows in client.inserts] == ["a", "bcdefghi"]

    run(body, flush_rows=1)


def test_rows_of_a_table_stay_in_the_order_of_their_callers() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        callers = [
            asyncio.create_task(writer.insert({LETTERS: [letter("key", version)]}))
            for version in range(1, 51)
        ]
        await asyncio.gather(*callers)
        versions = [row[1] for _, rows in client.inserts for row in rows]
        assert versions == list(range(1, 51))

    run(body, wake=True)


def test_tables_that_are_last_follow_all_others() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await asyncio.gather(
            writer.insert({LATE: [(1,)], LETTERS: [letter("a")]}),
            writer.insert({LATE: [(2,)], NUMBERS: [(3,)]}),
        )
        assert [table for table, _ in client.inserts] == ["letters", "numbers", "late"]
        assert client.rows(LATE) == [(1,), (2,)]

    run(body, wake=True)


def test_nothing_to_insert_returns_without_an_insert() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await writer.insert({})
        await writer.insert({LETTERS: []})
        assert client.inserts == []
        assert watch.sleeps == []

    run(body)


def test_transient_errors_repeat_the_same_block_ever_slower() -> None:
    away = [OperationalError("away"), DatabaseError("busy", code=252), TransientError("gone")] * 5

    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await writer.insert({LETTERS: [letter(word) for word in "abcd"]})
        assert client.inserts == [("letters", [letter(word) for word in "abcd"])]
        assert len(watch.retries) == len(away)
        assert watch.bad == []
        backoffs = watch.sleeps[-len(away) :]
        assert backoffs[:4] == [0.2, 0.4, 0.8, 1.6]
        assert backoffs == sorted(backoffs)
        assert backoffs[-1] == 30.0

    run(body, *away, wake=True)


def test_jitter_takes_up_to_half_of_the_backoff() -> None:
    writer = ClickHouseWriter(
        Settings(), Watch(), lambda *_: None, pace=Pace(asyncio.sleep, lambda: 0.0)
    )
    assert writer._backoff_seconds(0) == pytest.approx(0.1)
    assert writer._backoff_seconds(1_000_000) == pytest.approx(15.0)


def test_a_bad_row_is_rejected_alone_and_the_rest_is_stored() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        words = [*"abcde", BAD, *"fghijk"]
        other = await begin(writer, "z")
        await writer.insert({LETTERS: [letter(word) for word in words], NUMBERS: [(7,)]})
        await other
        assert [row[0] for row in client.rows(LETTERS)] == ["z", *"abcdefghijk"]
        assert watch.bad == [("letters", letter(BAD), "cannot parse")]
        assert watch.retries == []
        assert ("numbers", [(7,)]) in client.inserts

    run(body, wake=True)


def test_a_transient_error_during_bisection_loses_nothing() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await writer.insert({LETTERS: [letter(word) for word in ("a", BAD, "b", "c")]})
        assert [row[0] for row in client.rows(LETTERS)] == ["a", "b", "c"]
        assert [row for _, row, _ in watch.bad] == [letter(BAD)]
        assert len(watch.retries) == 1

    run(body, DataError("whole block"), OperationalError("away"), wake=True)


def test_a_row_of_the_wrong_length_is_rejected() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await writer.insert({LETTERS: [letter("a"), ("short",), letter("b"), letter("c")]})
        assert [row[0] for row in client.rows(LETTERS)] == ["a", "b", "c"]
        assert [row for _, row, _ in watch.bad] == [("short",)]

    run(body, wake=True)


def test_a_bad_row_costs_two_inserts_for_each_halving() -> None:
    words = [f"w{number}" for number in range(1023)]
    words[700] = BAD

    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await writer.insert({LETTERS: [letter(word) for word in words]})
        assert [row[0] for row in client.rows(LETTERS)] == [word for word in words if word != BAD]
        attempts = [table for table, _ in client.tokens if table == "letters"]
        assert len(attempts) <= 1 + 2 * 10

    run(body, wake=True)


def test_refused_rows_become_dead_letters_before_their_caller_goes_on() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        words = ["a", BAD, "b", BAD]
        rows = [letter(word, version) for version, word in enumerate(words)]
        await writer.insert({LETTERS: rows})
        table, letters = client.inserts[-1]
        assert table == DEAD_LETTERS.name
        for dead, version in zip(letters, (1, 3), strict=True):
            named = dict(zip(DEAD_LETTERS.column_names, dead, strict=True))
            assert named["topic"] == "clickhouse.letters"
            assert (named["source"], named["partition"], named["key"]) == (0, 0, b"")
            assert 0 <= named["offset"] < 1 << 63
            assert named["reason"] == REFUSED_ROW
            assert named["detail"] == "DatabaseError: cannot parse"
            assert named["received_at"] == NOW_MS
            assert json.loads(named["value"]) == {"word": BAD, "version": version}
        assert watch.stored[-1] == (DEAD_LETTERS.name, 2)

    run(body, wake=True)


def test_a_dead_letter_is_sent_until_it_is_stored() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        await writer.insert({LETTERS: [letter("a"), letter(BAD), letter("b"), letter("c")]})
        assert len(client.rows(DEAD_LETTERS)) == 1
        assert watch.retries == ["dead_letter_records: away"] * 3

    run(body, *[None] * 5, *[OperationalError("away")] * 3, wake=True)


def test_a_dead_letter_that_is_refused_too_is_reported_and_given_up() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        client.refused_tables.add(DEAD_LETTERS.name)
        await writer.insert({LETTERS: [letter("a"), letter(BAD), letter("b"), letter(BAD, 2)]})
        assert [row[0] for row in client.rows(LETTERS)] == ["a", "b"]
        assert [table for table, _, _ in watch.bad] == ["letters"] * 2 + [DEAD_LETTERS.name] * 2
        assert client.rows(DEAD_LETTERS) == []
        await writer.insert({LETTERS: [letter("c")]})

    run(body, wake=True)


def test_a_row_refused_again_makes_the_same_dead_letter() -> None:
    first, again, other = (
        refused_row(LETTERS, letter(BAD, version), ValueError(text), now_ms)
        for version, text, now_ms in ((1, "odd", 1), (1, "even", 2), (2, "odd", 1))
    )
    assert first[:4] == again[:4]
    assert first[:4] != other[:4]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Zoë", "Zoë"),
        ("\ud800", "\ud800"),
        (b"\xff", "\\xff"),
        (float("nan"), "nan"),
        (0.5, 0.5),
        (1 << 80, 1 << 80),
        (None, None),
        ({1: [True, (b"x",)]}, {"1": [True, ["x"]]}),
        (Failure.DATA, "Failure.DATA"),
    ],
)
def test_any_value_of_a_refused_row_is_kept_as_json(value: object, shown: object) -> None:
    dead = refused_row(LETTERS, (value, 1), ValueError("\ud800"), NOW_MS)
    assert json.loads(dead[-1]) == {"word": shown, "version": 1}
    assert dead[5] == "ValueError: \\ud800"
    assert json.loads(refused_row(LETTERS, (value,), ValueError(), NOW_MS)[-1]) == [shown]


def test_a_large_refused_row_is_cut() -> None:
    dead = refused_row(LETTERS, ("x" * KEPT_BYTES, 1), ValueError("x" * 5000), NOW_MS)
    assert len(dead[-1]) == KEPT_BYTES
    assert len(dead[5]) == 1000


def test_a_block_keeps_its_token_and_shares_it_with_no_other() -> None:
    blocks = [
        {LETTERS: [letter("a"), letter("b")]},
        {LETTERS: [letter("b"), letter("a")]},
        {LETTERS: [letter("a"), letter("b", 2)]},
        {LETTERS: [letter("a")]},
        {NUMBERS: [(1,)]},
        {DEAD_LETTERS: [(1,) * len(DEAD_LETTERS.columns)]},
    ]

    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        for block in blocks:
            await writer.insert(block)
        first, *others = [token for _, token in client.tokens]
        assert first is not None and first.startswith("letters:")
        assert others[:2] == [first] * 2
        assert len({first, *others}) == len(blocks)
        await writer.insert({LETTERS: [letter("a"), letter("b")]})
        assert client.tokens[-1] == ("letters", first)

    run(body, OperationalError("away"), DatabaseError("too many parts", code=252), wake=True)


def test_values_that_have_no_token_are_inserted_without() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        for value in (1 << 80, "\ud800", object()):
            await writer.insert({NUMBERS: [(value,)]})
        assert client.tokens == [("numbers", None)] * 3
        assert len(client.inserts) == 3

    run(body, wake=True)


def test_what_piled_up_is_cut_into_even_blocks() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        rows = [(number,) for number in range(2 * BLOCK_ROWS + 1)]
        await writer.insert({NUMBERS: rows, LETTERS: []})
        sizes = [len(block) for _, block in client.inserts]
        assert len(sizes) == 3 and max(sizes) - min(sizes) <= 1
        assert client.rows(NUMBERS) == rows

    run(body, wake=True)


def test_a_schema_that_is_not_ours_stops_every_caller_and_rejects_nothing() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        callers = [await begin(writer, "a"), await begin(writer, "b", "c", "d")]
        ends = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(end) for end in ends] == [ConfigurationError] * 2
        assert "letters: no table" in str(ends[0])
        assert watch.bad == []
        await writer.insert({LETTERS: [letter("e")]})
        assert client.inserts == [("letters", [letter("e")])]

    run(body, DatabaseError("no table", code=60), wake=True)


def test_a_cancelled_caller_takes_nobody_s_rows_away() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        first, second = await begin(writer, "a"), await begin(writer, "b")
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        watch.wake.set()
        await second
        assert client.inserts == [("letters", [letter("a"), letter("b")])]

    run(body)


def test_a_caller_cancelled_during_the_insert_leaves_it_running() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        client.gate.clear()
        first, second = await begin(writer, "a"), await begin(writer, "b")
        await started(client)
        first.cancel()
        await asyncio.wait([first])
        client.gate.set()
        await second
        assert client.inserts == [("letters", [letter("a"), letter("b")])]

    run(body, flush_rows=2)


def test_an_error_that_no_caller_waits_for_is_not_reported_as_forgotten() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        caller = await begin(writer, "a")
        caller.cancel()
        await asyncio.wait([caller])

    run(body, DatabaseError("no table", code=60))


def test_close_sends_what_is_waiting_and_refuses_more() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        caller = await begin(writer, "a")
        await writer.close()
        await caller
        assert client.inserts == [("letters", [letter("a")])]
        with pytest.raises(TransientError, match="closed"):
            await writer.insert({LETTERS: [letter("b")]})

    run(body)


def test_close_does_not_wait_for_a_clickhouse_that_is_away() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, watch: Watch) -> None:
        caller = await begin(writer, *"abcd")
        await watch.slept.wait()
        await started(client)
        await writer.close()
        with pytest.raises(TransientError, match="closed before letters was stored"):
            await caller
        assert client.inserts == []

    run(body, *[OperationalError("away")] * 3)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (OperationalError("network"), Failure.TRANSIENT),
        (DatabaseError("HTTP 503 of a proxy"), Failure.TRANSIENT),
        *[
            (DatabaseError("", code=code), Failure.TRANSIENT)
            for code in (159, 202, 209, 210, 241, 242, 252, 319, 999, 1000, 1001, 1002)
        ],
        (TimeoutError(), Failure.TRANSIENT),
        (OSError(), Failure.TRANSIENT),
        (TransientError("unreachable"), Failure.TRANSIENT),
        (ClickHouseError("unknown"), Failure.TRANSIENT),
        (DatabaseError("", code=27), Failure.DATA),
        (DatabaseError("", code=349), Failure.DATA),
        (DatabaseError("", code=469), Failure.DATA),
        (DataError("None in a column that is not Nullable"), Failure.DATA),
        (ProgrammingError("column count"), Failure.DATA),
        (TypeError(), Failure.DATA),
        (OverflowError(), Failure.DATA),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), Failure.DATA),
        (DatabaseError("", code=16), Failure.CONFIGURATION),
        (DatabaseError("", code=53), Failure.CONFIGURATION),
        (DatabaseError("", code=60), Failure.CONFIGURATION),
        (DatabaseError("", code=516), Failure.CONFIGURATION),
        (ConfigurationError("refused"), Failure.CONFIGURATION),
    ],
)
def test_errors_of_inserts_are_sorted_by_what_to_do(error: Exception, failure: Failure) -> None:
    assert failure_of(error) is failure


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (516, ConfigurationError, "TOUCHSTREAM_CLICKHOUSE_PASSWORD"),
        (194, ConfigurationError, "TOUCHSTREAM_CLICKHOUSE_USER"),
        (81, ConfigurationError, "touchstream migrate"),
        (None, TransientError, "TOUCHSTREAM_CLICKHOUSE_URL"),
    ],
)
def test_a_failed_connection_says_what_to_do(
    code: int | None, kind: type[Exception], advice: str
) -> None:
    explained = explain(DatabaseError("no", code=code), Settings())
    assert type(explained) is kind
    assert advice in str(explained)


def test_rows_are_let_go_without_a_garbage_collection() -> None:
    async def body(writer: ClickHouseWriter, client: FakeClient, _: Watch) -> None:
        await writer.insert({LETTERS: [letter("a")]})

    gc.disable()
    try:
        client = run(body, wake=True)
    finally:
        gc.enable()
    [context] = client.contexts
    assert context() is None
