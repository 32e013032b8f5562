"""The embedded ClickHouse server as clients see it: clickhouse-connect, plain HTTP, SQLAlchemy."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from touchstream.streams.local.ports import accepts_connections, choose_ports
from touchstream.streams.local.processes import Child, Command

pytestmark = pytest.mark.integration

MODULE = "touchstream.streams.local.clickhouse"
COLUMNS = {
    "id": "UUID",
    "at": "DateTime64(3, 'UTC')",
    "channel": "LowCardinality(String)",
    "consent": "Map(LowCardinality(String), Bool)",
    "score": "Nullable(Float64)",
    "tags": "Array(String)",
}
ROWS = [
    (uuid.UUID(int=n), datetime(2026, 1, 1, 12, 0, n, 5000, UTC), "web", {"a": True}, None, ["x"])
    for n in range(20)
]


@dataclass(frozen=True)
class Server:
    """A running server and where it is."""

    port: int
    directory: Path
    child: Child


@dataclass(frozen=True)
class Response:
    """Status, headers and body of a plain HTTP call."""

    status: int
    headers: dict[str, str]
    body: bytes


def command(directory: Path, port: int, log: Path) -> Command:
    arguments = [sys.executable, "-m", MODULE, "--path", str(directory), "--port", str(port)]
    return Command("clickhouse", arguments, log)


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    [port] = choose_ports([(0, "--port")])
    child = Child(command(folder / "tables", port, folder / "clickhouse.log"))
    try:
        child.wait_until(lambda: accepts_connections(port), within_seconds=60)
        yield Server(port, folder / "tables", child)
    finally:
        child.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


def connect(server: Server, **options: Any) -> Client:
    return clickhouse_connect.get_client(host="127.0.0.1", port=server.port, **options)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client with its default compression (lz4) in a database of its own."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    with connect(server) as admin:
        admin.command(f"CREATE DATABASE {name}")
        with connect(server, database=name) as client:
            yield client
        admin.command(f"DROP DATABASE {name}")


@pytest.fixture
def table(client: Client) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    client.command(
        f"CREATE TABLE facts ({columns}) ENGINE = MergeTree ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    return "facts"


def insert(client: Client, table: str, rows: list[Any] = ROWS, **options: Any) -> Any:
    return client.insert(
        table,
        [list(column) for column in zip(*rows, strict=True)],
        column_names=[*COLUMNS],
        column_type_names=[*COLUMNS.values()],
        column_oriented=True,
        **options,
    )


def call(
    server: Server,
    arguments: dict[str, str] | None = None,
    body: bytes | None = None,
    *,
    method: str | None = None,
    path: str = "/",
    headers: dict[str, str] | None = None,
) -> Response:
    url = f"http://127.0.0.1:{server.port}{path}?{urlencode(arguments or {})}".rstrip("?")
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Response(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, dict(error.headers), error.read())


def test_column_oriented_rows_come_back_as_they_went_in(client: Client, table: str) -> None:
    summary = insert(client, table)
    assert summary.written_rows == len(ROWS)
    answer = client.query(f"SELECT * FROM {table} ORDER BY id", tz_mode="aware")
    assert answer.result_rows == ROWS


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_every_compression_of_the_client_works(
    server: Server, client: Client, table: str, compress: str | bool
) -> None:
    with connect(server, database=client.database, compress=compress) as other:
        insert(other, table)
        answer = other.query("SELECT number, repeat('x', 50) FROM numbers(1000)")
    assert len(answer.result_rows) == 1000
    assert client.command(f"SELECT count() FROM {table}") == len(ROWS)


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_an_insert_of_several_blocks_is_stored_whole_in_one_part(
    server: Server, client: Client, table: str, compress: str | bool
) -> None:
    wide = ["x" * 100] * 10  # clickhouse-connect cuts blocks by bytes: this makes several
    rows = [(uuid.UUID(int=n), *ROWS[0][1:-1], wide) for n in range(10_000)]
    with connect(server, database=client.database, compress=compress) as other:
        assert insert(other, table, rows).written_rows == len(rows)
    parts = client.query(
        f"SELECT rows FROM system.parts WHERE active AND database = '{client.database}'"
    )
    assert parts.result_rows == [(len(rows),)]


def test_an_insert_with_the_same_token_is_stored_once(client: Client, table: str) -> None:
    for rows in (ROWS, ROWS[:5]):
        insert(client, table, rows, settings={"insert_deduplication_token": "a"})
    assert client.command(f"SELECT count() FROM {table}") == len(ROWS)


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("parts_to_delay_insert = 1, parts_to_throw_insert = 1", 252),
        ("min_free_disk_bytes_to_perform_insert = 1000000000000000", 243),
        ("table_readonly = 1", 774),
    ],
)
def test_rows_that_cannot_be_stored_are_not_said_to_be(
    client: Client, table: str, setting: str, code: int
) -> None:
    insert(client, table)
    client.command(f"SYSTEM STOP MERGES {table}")
    client.command(f"ALTER TABLE {table} MODIFY SETTING {setting}")
    with pytest.raises(DatabaseError, match=f"code: {code}"):
        insert(client, table)
    assert client.command(f"SELECT count() FROM {table}") == len(ROWS)


def test_parameters_are_bound_on_the_server(client: Client) -> None:
    answer = client.query(
        "SELECT {text:String}, {numbers:Array(UInt8)}, count() FROM system.{table:Identifier}",
        parameters={"text": "tab\tquote'slash\\", "numbers": [1, 2], "table": "one"},
    )
    assert answer.result_rows == [("tab\tquote'slash\\", [1, 2], 1)]


def test_an_insert_takes_parameters_too(server: Server, client: Client, table: str) -> None:
    arguments = {
        "query": "INSERT INTO {table:Identifier} (channel) FORMAT CSV",
        "database": str(client.database),
        "param_table": table,
    }
    assert call(server, arguments, b"web\nchat\n").status == 200
    assert client.command(f"SELECT count() FROM {table}") == 2


def test_settings_of_a_query_do_not_reach_the_next_one(client: Client) -> None:
    sql = "SELECT getSetting('max_block_size')"
    before = client.query(sql).result_rows
    assert client.query(sql, settings={"max_block_size": 7}).result_rows == [(7,)]
    assert client.query(sql).result_rows == before


def test_settings_of_a_failed_query_do_not_reach_the_next_one(client: Client) -> None:
    sql = "SELECT getSetting('max_block_size')"
    before = client.query(sql).result_rows
    with pytest.raises(DatabaseError):
        client.query("SELECT throwIf(1)", settings={"max_block_size": 7})
    assert client.query(sql).result_rows == before


def test_settings_of_a_query_give_way_to_those_of_its_session(server: Server) -> None:
    session = {"session_id": uuid.uuid4().hex}
    call(server, session, b"SET max_block_size = 11")
    sql = b"SELECT getSetting('max_block_size')"
    assert call(server, {**session, "max_block_size": "7"}, sql).body == b"7\n"
    assert call(server, session, sql).body == b"11\n"


def test_what_cannot_be_undone_ends_the_session_only(server: Server) -> None:
    session = {"session_id": uuid.uuid4().hex}
    assert call(server, {**session, "readonly": "1"}, b"SELECT 1").body == b"1\n"
    assert call(server, session, b"SELECT getSetting('readonly')").body == b"0\n"


def test_a_set_statement_without_a_session_changes_nothing(server: Server) -> None:
    assert call(server, body=b"SET max_block_size = 7").status == 200
    assert call(server, body=b"SELECT getSetting('max_block_size')").body != b"7\n"


def test_a_session_keeps_temporary_tables_and_its_database(server: Server) -> None:
    session = {"session_id": uuid.uuid4().hex}
    call(server, session, b"CREATE TEMPORARY TABLE numbers_seen (n UInt8)")
    call(server, session, b"USE system")
    assert call(server, {**session, "database": "default"}, b"SELECT 1").status == 200
    answer = call(server, session, b"SELECT currentDatabase(), count() FROM numbers_seen")
    assert answer.body == b"system\t0\n"


def test_a_session_that_was_closed_is_not_found(server: Server) -> None:
    session = {"session_id": uuid.uuid4().hex}
    call(server, {**session, "close_session": "1"}, b"SELECT 1")
    answer = call(server, {**session, "session_check": "1"}, b"SELECT 1")
    assert answer.headers["X-ClickHouse-Exception-Code"] == "372"


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT * FROM no_table", 404, 60),
        ("SELECT no_column", 404, 47),
        ("SELEC 1", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT 1 FORMAT Nope", 404, 73),
        ("SELECT 1 SETTINGS no_setting = 1", 404, 115),
        ("SELECT throwIf(1)", 500, 395),
        ("INSERT INTO no_table FORMAT CSV\n1", 404, 60),
        ("INSERT INTO FUNCTION null('n UInt8') FORMAT CSV\nx", 400, 117),
        ("INSERT INTO FUNCTION null('n UInt8') FORMAT Native\nx", 500, 32),
    ],
)
def test_errors_have_the_status_and_the_code_of_a_server(
    server: Server, sql: str, status: int, code: int
) -> None:
    answer = call(server, body=sql.encode())
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert answer.body.startswith(f"Code: {code}. DB::Exception: ".encode())


def test_errors_reach_the_client_with_their_code(client: Client) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query("SELECT * FROM no_table")
    assert raised.value.code == 60


def test_a_get_reads(server: Server) -> None:
    assert call(server, {"query": "SELECT 1 + 1"}).body == b"2\n"


def test_a_get_without_a_query_and_ping_answer_ok(server: Server) -> None:
    assert [call(server, path=path).body for path in ("/", "/ping")] == [b"Ok.\n"] * 2


def test_a_get_may_not_write(server: Server) -> None:
    answer = call(server, {"query": "CREATE TABLE t (n UInt8) ENGINE = Memory"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"


def test_a_head_has_headers_and_no_body(server: Server) -> None:
    answer = call(server, {"query": "SELECT 1"}, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["X-ClickHouse-Format"] == "TabSeparated"


def test_the_format_comes_from_the_query_or_from_the_default(server: Server) -> None:
    arguments = {"default_format": "JSONEachRow"}
    assert call(server, arguments, b"SELECT 1 AS n").body == b'{"n":1}\n'
    answer = call(server, arguments, b"SELECT 1 AS n FORMAT CSVWithNames")
    assert (answer.body, answer.headers["X-ClickHouse-Format"]) == (b'"n"\n1\n', "CSVWithNames")


def test_values_in_the_body_are_inserted(server: Server) -> None:
    arguments = {"query": "INSERT INTO FUNCTION null('n UInt8') VALUES"}
    answer = call(server, arguments, b"(1), (2), (3)")
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "3"


def test_a_form_carries_query_and_parameters(server: Server) -> None:
    with connect(server, form_encode_query_params=True) as client:
        assert client.query("SELECT {n:UInt8}", parameters={"n": 3}).result_rows == [(3,)]


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_a_web_page_of_somebody_else_is_refused(server: Server, headers: dict[str, str]) -> None:
    assert call(server, body=b"SELECT 1", headers=headers).status == 403


def test_inserts_and_reads_run_in_parallel(server: Server, client: Client, table: str) -> None:
    def work(worker: int) -> None:
        with connect(server, database=client.database) as own:
            for n in range(10):
                ids = [uuid.UUID(int=(worker * 10 + n) * 100 + row) for row in range(100)]
                insert(own, table, [(each, *ROWS[0][1:]) for each in ids])
                assert own.query(f"SELECT count() FROM {table}").result_rows[0][0] >= 100

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, worker) for worker in range(6)]:
            done.result()
    assert client.command(f"SELECT uniqExact(id) FROM {table}") == 6000


def test_sqlalchemy_reads_through_its_dialect(server: Server) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"clickhousedb://127.0.0.1:{server.port}/default")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1 + 1")).scalar() == 2
    engine.dispose()


def test_a_second_server_on_the_same_directory_is_refused(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "second.log"
    second = Child(command(server.directory, 0, log))
    assert second.wait() == os.EX_CONFIG
    [line] = log.read_text().splitlines()
    assert f"{server.directory} is in use by process {server.child.pid}" in line


def test_a_busy_port_is_refused(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "second.log"
    second = Child(command(tmp_path / "tables", server.port, log))
    assert second.wait() == os.EX_CONFIG
    [line] = log.read_text().splitlines()
    assert f"port {server.port}" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_during_a_query(tmp_path: Path, number: int) -> None:
    sleep = b"SELECT sleepEachRow(1) FROM numbers(60) SETTINGS max_block_size = 1"
    with running(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        query = threads.submit(call, server, None, sleep)
        running_queries = b"SELECT count() FROM system.processes WHERE query LIKE '%sleepEach%'"
        server.child.wait_until(
            lambda: call(server, body=running_queries).body > b"1", within_seconds=30
        )
        os.kill(server.child.pid, number)
        assert server.child.wait() == 0
        assert query.exception() is not None or query.result().status >= 400


def test_tables_survive_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        call(server, body=b"CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")
        call(server, body=b"INSERT INTO t VALUES (1)")
    with running(tmp_path) as server:
        assert call(server, body=b"SELECT n FROM t").body == b"1\n"
