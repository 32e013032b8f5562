"""The reader `bi` of the embedded ClickHouse: who gets in, what is refused, what works."""

import base64
import json
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import pytest
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, ProgrammingError
from pydantic import SecretStr
from typer.testing import CliRunner

from touchstream.streams.cli import app
from touchstream.streams.clickhouse import connect as our_connect
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.clickhouse_token import TOKEN_FILE, reader_token
from touchstream.streams.local.ports import accepts_connections, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration

REFUSED = {164, 497}
MODULE = "touchstream.streams.local.clickhouse"


@dataclass(frozen=True)
class Server:
    """A server with a migrated database `touchstream`, and one called `other`."""

    port: int
    folder: Path
    token: str


@dataclass(frozen=True)
class Response:
    """What came back over plain HTTP; code 0: no error."""

    status: int
    code: int
    body: bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("a b+c%20d")
    [port] = choose_ports([(0, "--port")])
    arguments = [sys.executable, "-m", MODULE]
    arguments += ["--path", str(folder / "tables"), "--port", str(port)]
    child = Child(Command("clickhouse", arguments, folder / "clickhouse.log"))
    try:
        child.wait_until(lambda: accepts_connections(port), within_seconds=60)
        migrate(Settings(clickhouse_url=f"http://127.0.0.1:{port}"))
        server = Server(port, folder, (folder / "tables" / TOKEN_FILE).read_text().strip())
        for sql in (
            "CREATE DATABASE other",
            "CREATE TABLE other.secrets (a UInt8) ENGINE = MergeTree ORDER BY a",
            "CREATE TABLE touchstream.kept (a UInt8) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO touchstream.kept VALUES (1)",
        ):
            assert ask(server, sql, user="default").code == 0
        yield server
    finally:
        child.stop()


@pytest.fixture
def reader(server: Server) -> Iterator[Client]:
    with connect(server) as client:
        yield client


def connect(server: Server, **options: Any) -> Client:
    who = {"username": "bi", "password": server.token, "database": "touchstream", **options}
    return clickhouse_connect.get_client(host="127.0.0.1", port=server.port, **who)


def ask(
    server: Server,
    sql: str,
    arguments: dict[str, str] | None = None,
    *,
    user: str = "bi",
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Response:
    """Send a statement as `user`, or with the credentials in `headers`."""
    if headers is None:
        key = server.token if user == "bi" else ""
        headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": key}
    url = f"http://127.0.0.1:{server.port}/?{urlencode(arguments or {})}"
    body = sql.encode() if method == "POST" else None
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Response(answer.status, 0, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            code = int(error.headers.get("X-ClickHouse-Exception-Code", -1))
            return Response(error.code, code, error.read())


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_the_reader_comes_in_by_every_way_of_clients(server: Server) -> None:
    ways: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, basic("bi", server.token)),
        ({}, {"X-ClickHouse-User": "bi", "X-ClickHouse-Key": server.token}),
        ({"user": "bi", "password": server.token}, {}),
    ]
    for arguments, headers in ways:
        answer = ask(server, "SELECT currentRoles()", arguments, headers=headers)
        assert answer == Response(200, 0, b"['bi']\n")


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({}, basic("bi", "")),
        ({}, basic("bi", "wrong")),
        ({}, basic("somebody", "")),
        ({}, basic("default", "wrong")),
        ({}, {"Authorization": "Bearer x"}),
        ({}, {"Authorization": "Basic ?"}),
        ({}, {"X-ClickHouse-User": "bi"}),
        ({}, {"X-ClickHouse-User": "bi", "X-ClickHouse-Key": "wrong"}),
        ({"user": "bi"}, {}),
        ({"user": "default"}, basic("bi", "wrong")),
        ({"password": "x"}, {}),
    ],
)
def test_a_wrong_name_or_password_is_refused(
    server: Server, arguments: dict[str, str], headers: dict[str, str]
) -> None:
    answer = ask(server, "SELECT 1", arguments, headers=headers)
    assert (answer.status, answer.code) == (403, 516)
    assert b"AUTHENTICATION_FAILED" in answer.body


def test_the_token_is_for_the_owner_alone_and_stays(tmp_path: Path) -> None:
    file = tmp_path / TOKEN_FILE
    token = reader_token(file)
    file.chmod(0o644)
    assert (reader_token(file), len(token)) == (token, 32)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [file]


def test_a_file_without_a_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).touch()
    with pytest.raises(ConfigurationError, match="holds no token"):
        reader_token(tmp_path / TOKEN_FILE)


def test_the_stack_has_a_reader_of_its_database(tmp_path: Path) -> None:
    ports = {"kafka_port": 0, "clickhouse_port": 0, "metrics_port": 0}
    options = LocalOptions(tmp_path, workers=0, **ports)
    settings = Settings(clickhouse_database="mine")
    with LocalStack(settings, options, prepare=migrate) as stack:
        bi = {"clickhouse_user": "bi", "clickhouse_password": SecretStr(stack.reader_token)}
        with our_connect(stack.settings.model_copy(update=bi)) as client:
            assert client.query("SELECT count() FROM customers").first_row == (0,)
    assert reader_token(tmp_path / TOKEN_FILE) == stack.reader_token


HOSTILE = [
    # writing and changing
    "INSERT INTO touchstream.kept VALUES (2)",
    "INSERT INTO touchstream.kept FORMAT CSV\n2",
    "INSERT INTO touchstream.kept SELECT 2",
    "INSERT INTO FUNCTION file('{out}', 'CSV', 'a UInt8') VALUES (1)",
    "/* SELECT */ INSERT INTO touchstream.kept VALUES (2)",
    "-- SELECT 1\nDROP TABLE touchstream.kept",
    "CREATE TABLE touchstream.t (a UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE t (a UInt8)",
    "CREATE VIEW touchstream.v AS SELECT 1",
    "CREATE FUNCTION f AS x -> x",
    "CREATE DICTIONARY touchstream.d (a UInt8) PRIMARY KEY a "
    "SOURCE(HTTP(URL 'http://127.0.0.1:1/' FORMAT CSV)) LAYOUT(FLAT()) LIFETIME(0)",
    "DROP TABLE touchstream.kept",
    "DROP DATABASE touchstream",
    "TRUNCATE TABLE touchstream.kept",
    "DETACH TABLE touchstream.kept",
    "RENAME TABLE touchstream.kept TO touchstream.lost",
    "ALTER TABLE touchstream.kept DELETE WHERE 1",
    "DELETE FROM touchstream.kept WHERE 1",
    "OPTIMIZE TABLE touchstream.kept FINAL",
    "SYSTEM FLUSH LOGS",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "BACKUP TABLE touchstream.kept TO File('{out}')",
    "CHECK TABLE touchstream.kept",
    # who and how
    "SET readonly = 0",
    "SET max_memory_usage = 0",
    "SET ROLE writer",
    "SET ROLE ALL",
    "set/**/role writer",
    "SET DEFAULT ROLE writer TO default",
    "EXECUTE AS default SELECT 1",
    "USE other",
    "GRANT ALL ON *.* TO default",
    "CREATE USER u",
    "BEGIN TRANSACTION",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_memory_usage = 0",
    "SELECT 1 SETTINGS/**/`max_execution_time` = 0",
    "SELECT 1 SETTINGS profile = 'default'",
    "SELECT * FROM (SELECT 1 SETTINGS max_execution_time = 0)",
    "SELECT 1 FORMAT CSV SETTINGS format_schema = '/etc/passwd'",
    "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '/etc/passwd'",
    # files
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT 1 INTO OUTFILE '{out}' TRUNCATE FORMAT CSV",
    "SELECT 1 /* FORMAT CSV */ INTO -- no\n OUTFILE '{out}'",
    "SELECT file('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT \"file\" /* */ ('/etc/passwd')",
    "SELECT “file”('/etc/passwd')",
    "SELECT fi/**/le, file('/etc/passwd')",
    "SELECT '\\'', file('/etc/passwd'), '\\''",
    "SELECT $a$'$a$, file('/etc/passwd') AS b, $a$'$a$",
    "SELECT 1 # '\n, file('/etc/passwd') # '",
    "SELECT arrayMap(file, ['/etc/passwd'])",
    "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
    "SELECT * APPLY file FROM (SELECT '/etc/passwd')",
    "SELECT * APPLY(file) FROM (SELECT '/etc/passwd')",
    "WITH file('/etc/passwd') AS a SELECT a",
    "file('/etc/passwd')",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "DESCRIBE file('/etc/passwd')",
    "EXPLAIN SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM filesystem('/etc')",
    "SELECT * FROM (EXPLAIN SELECT * FROM filesystem('/etc'))",
    "SELECT * FROM view(SELECT file('/etc/passwd'))",
    "SELECT * FROM values('a String', file('/etc/passwd'))",
    "SHOW TABLES INTO OUTFILE '{out}'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{out}'",
    "EXPLAIN PIPELINE INSERT INTO touchstream.kept SELECT 2",
    "SELECT * FROM default.`/etc/passwd`",
    "SELECT * FROM executable('x.sh', 'CSV', 'a UInt8')",
    "SELECT * FROM sqlite('/tmp/x', 't')",
    "SELECT * FROM python('x')",
    "SELECT * FROM Python(x)",
    # network
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a UInt8')",
    "SELECT * FROM `url`('http://127.0.0.1:1/', 'CSV', 'a UInt8')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/a.csv', 'CSV', 'a UInt8')",
    "SELECT * FROM remote('127.0.0.1', 'system.one')",
    "SELECT * FROM remoteSecure('127.0.0.1', 'system.one')",
    "SELECT * FROM cluster('default', 'system.one')",
    "SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')",
    "SELECT a FROM touchstream.kept WHERE a IN (SELECT a FROM url('http://127.0.0.1:1/', 'CSV'))",
    "SELECT 1 UNION ALL SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a UInt8')",
    # another database
    "SELECT * FROM other.secrets",
    "DESCRIBE other.secrets",
    "SHOW CREATE TABLE other.secrets",
    "SELECT a FROM touchstream.kept WHERE a IN other.secrets",
    "SELECT hasColumnInTable('other', 'secrets', 'a')",
    "SELECT * FROM mergeTreeIndex('other', 'secrets')",
    "SELECT * FROM system.users",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_a_hostile_statement_is_refused(server: Server, sql: str) -> None:
    out = server.folder / "out.csv"
    answer = ask(server, sql.replace("{out}", str(out)))
    assert answer.code in REFUSED, answer
    assert answer.status == (403 if answer.code == 497 else 500)
    assert b"root:" not in answer.body
    assert not out.exists()
    assert ask(server, "SELECT a FROM touchstream.kept", user="default").body == b"1\n"


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1; DROP TABLE touchstream.kept", "SELECT 1;SELECT 2", "SELEC 1", "", "SELECT 1 )("],
)
def test_what_is_not_one_statement_is_a_syntax_error(server: Server, sql: str) -> None:
    answer = ask(server, sql)
    assert (answer.status, answer.code) == (400, 62)
    assert answer.body == ask(server, sql, user="default").body


def test_a_name_from_a_parameter_is_looked_at_too(server: Server) -> None:
    for sql in (
        "SELECT arrayMap({f:Identifier}, ['/etc/passwd'])",
        "SELECT * FROM default.{f:Identifier}",
    ):
        for name in ("file", "`file`", "/etc/passwd"):
            answer = ask(server, sql, {"param_f": name})
            assert answer.code != 0
            assert b"root:" not in answer.body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("readonly", "0"),
        ("max_memory_usage", "0"),
        ("max_memory_usage", "100000000000"),
        ("max_execution_time", "3600"),
        ("max_result_rows", "-1"),
        ("max_result_rows", "nan"),
        ("profile", "default"),
        ("dialect", "kusto"),
        ("format_schema", "/etc/passwd"),
        ("allow_introspection_functions", "1"),
        ("no_such_setting", "1"),
    ],
)
def test_a_request_may_not_loosen_settings(server: Server, name: str, value: str) -> None:
    answer = ask(server, "SELECT 1", {name: value})
    assert (answer.status, answer.code) == (500, 164)


def test_a_session_of_the_writer_is_not_the_readers(server: Server) -> None:
    session = {"session_id": "shared"}
    assert ask(server, "CREATE TEMPORARY TABLE t (a UInt8)", session, user="default").code == 0
    elsewhere = session | {"database": "touchstream"}
    assert ask(server, "SELECT * FROM t", elsewhere).code == 60
    assert ask(server, "SELECT currentRoles()", session).body == b"['bi']\n"
    assert ask(server, "SELECT * FROM t", session, user="default").code == 0


def test_a_query_ends_at_its_limits(server: Server) -> None:
    assert ask(server, "SELECT number FROM numbers(1000001)").code == 396
    long = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"
    assert ask(server, long, {"max_execution_time": "0.2"}).code == 159
    much = "SELECT length(groupArray(toString(number))) FROM numbers(10000000)"
    assert ask(server, much, {"max_memory_usage": "10000000"}).code == 241


FRIENDLY = [
    "SELECT version(), timezone()",
    "SELECT name, value, readonly FROM system.settings LIMIT 10",
    "SELECT name FROM system.databases",
    "SELECT name, engine FROM system.tables WHERE database = 'touchstream'",
    "SELECT name, type FROM system.columns WHERE database = 'touchstream'",
    "SELECT name FROM system.functions LIMIT 1",
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'touchstream'",
    "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS LIMIT 1",
    "SHOW DATABASES",
    "SHOW TABLES",
    "SHOW TABLES FROM touchstream LIKE 'c%'",
    "SHOW CREATE TABLE customers",
    "SHOW COLUMNS FROM customers",
    "DESCRIBE TABLE customers",
    "DESC (SELECT 1 AS a)",
    "EXISTS TABLE customers",
    "EXPLAIN SELECT * FROM customers",
    "EXPLAIN indexes = 1 SELECT * FROM kept WHERE a = 1",
    "SELECT a FROM kept FORMAT JSON",
    "SELECT 'file(1); SETTINGS a = 1' AS note -- it's a note",
    "/* why */ WITH 1 AS x, y AS (SELECT a FROM kept) SELECT x + a FROM y;",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT t.a FROM touchstream.kept AS t JOIN numbers(3) AS n ON n.number = t.a",
    "SELECT * FROM metrics_at(as_of = '2026-11-20 12:00:00')",
]


@pytest.mark.parametrize("sql", FRIENDLY)
def test_a_friendly_statement_works(server: Server, sql: str) -> None:
    answer = ask(server, sql, {"database": "touchstream"})
    assert answer.code == 0, answer.body


def test_the_reader_reads_with_get(server: Server) -> None:
    arguments = {"query": "SELECT a FROM touchstream.kept", "default_format": "JSONEachRow"}
    assert json.loads(ask(server, "", arguments, method="GET").body) == {"a": 1}


def test_clickhouse_connect_reads_every_view(reader: Client) -> None:
    views = reader.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
        " AND NOT match(create_table_query, '\\{\\w+:')"
    ).result_rows
    assert len(views) > 20
    for (name,) in views:
        reader.query("SELECT * FROM {view:Identifier} LIMIT 3", parameters={"view": name})


def test_clickhouse_connect_sends_parameters_and_hears_of_errors(reader: Client) -> None:
    answer = reader.query("SELECT {n:UInt8} + a FROM kept", parameters={"n": 2})
    assert answer.result_rows == [(3,)]
    with pytest.raises(DatabaseError) as raised:
        reader.command("DROP TABLE kept")
    assert raised.value.code == 164


def test_a_request_may_tighten_limits_and_choose_how_answers_look(server: Server) -> None:
    sql = "SELECT getSetting('max_execution_time') AS t, toUInt64(1) AS n FORMAT JSONEachRow"
    arguments = {"max_execution_time": "5", "output_format_json_quote_64bit_integers": "1"}
    assert json.loads(ask(server, sql, arguments).body) == {"t": 5, "n": "1"}
    array = ask(server, sql, arguments | {"output_format_json_array_of_rows": "1"})
    assert json.loads(array.body) == [{"t": 5, "n": "1"}]


def test_clickhouse_connect_sends_settings_if_told_to(reader: Client) -> None:
    sql = "SELECT getSetting('max_execution_time')"
    with pytest.raises(ProgrammingError, match="readonly"):
        reader.query(sql, settings={"max_execution_time": 5})
    common.set_setting("invalid_setting_action", "send")
    try:
        assert reader.query(sql, settings={"max_execution_time": 5}).first_row == (5,)
    finally:
        common.set_setting("invalid_setting_action", "error")


def test_our_own_commands_connect_as_the_reader(server: Server) -> None:
    settings = Settings(
        clickhouse_url=f"http://127.0.0.1:{server.port}",
        clickhouse_user="bi",
        clickhouse_password=SecretStr(server.token),
    )
    with our_connect(settings) as client:
        assert client.query("SELECT count() FROM touchpoints").first_row == (0,)
    wrong = settings.model_copy(update={"clickhouse_password": SecretStr("wrong")})
    with pytest.raises(ConfigurationError, match="refused user bi"):
        our_connect(wrong)


@pytest.mark.parametrize(
    ("output", "printed"),
    [
        ("json", '[\n{"a":1,"text":"x\\ny"},\n{"a":1,"text":"z"}\n]\n'),
        ("csv", '"a","text"\n1,"x\ny"\n1,"z"\n'),
    ],
)
def test_the_query_command_prints_every_format_to_the_reader(
    server: Server, monkeypatch: pytest.MonkeyPatch, output: str, printed: str
) -> None:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_USER", "bi")
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_PASSWORD", server.token)
    sql = "SELECT a, arrayJoin(['x\ny', 'z']) AS text FROM kept"
    result = CliRunner().invoke(app, ["query", sql, "--format", output])
    assert (result.exit_code, result.output) == (0, printed)


def test_the_writer_may_do_what_it_could(server: Server) -> None:
    with connect(server, username="default", password="", database="other") as writer:
        writer.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
        writer.insert("t", [[1], [2]], column_names=["a"])
        assert writer.query("SELECT sum(a) FROM t", settings={"max_threads": 1}).first_row == (3,)
        writer.command("ALTER TABLE t DELETE WHERE a = 1")
        writer.command("DROP TABLE t")
    assert ask(server, "SELECT file('/etc/hostname')", user="default").code == 0
