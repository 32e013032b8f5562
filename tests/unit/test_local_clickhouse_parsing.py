"""How a request to the embedded ClickHouse is read: pure functions, no engine."""

import pytest

from touchstream.streams.local.clickhouse_codec import choose_encoding, compress, decompress
from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code, from_engine
from touchstream.streams.local.clickhouse_request import (
    HttpRequest,
    SessionUse,
    read_call,
    read_statement,
)


@pytest.mark.parametrize(
    ("text", "sql", "rows", "format_name"),
    [
        (b"INSERT INTO t FORMAT Native\n\x01\n\x02", "INSERT INTO t", b"\x01\n\x02", "Native"),
        (b"insert into t (a, b) format CSV 1,2", "insert into t (a, b)", b"1,2", "CSV"),
        (b"INSERT INTO t FORMAT TSV\r\n1\n", "INSERT INTO t", b"1\n", "TSV"),
        (b"INSERT INTO t FORMAT TSV", "INSERT INTO t", b"", "TSV"),
        (b"INSERT INTO t FORMAT TSV;\n1", "INSERT INTO t", b"1", "TSV"),
        (b"INSERT INTO `format` FORMAT CSV\n1", "INSERT INTO `format`", b"1", "CSV"),
        (b"INSERT INTO format FORMAT CSV\n1", "INSERT INTO format", b"1", "CSV"),
        (b"INSERT INTO d.values FORMAT CSV\n1", "INSERT INTO d.values", b"1", "CSV"),
        (b"INSERT INTO {t:Identifier} FORMAT CSV\n1", "INSERT INTO {t:Identifier}", b"1", "CSV"),
        (
            b"INSERT INTO t SETTINGS async_insert = 0 FORMAT CSV\nFORMAT",
            "INSERT INTO t SETTINGS async_insert = 0",
            b"FORMAT",
            "CSV",
        ),
        (
            b"/* FORMAT X */ INSERT INTO t -- FORMAT Y\n FORMAT CSV\n1",
            "/* FORMAT X */ INSERT INTO t -- FORMAT Y",
            b"1",
            "CSV",
        ),
        (b"INSERT INTO t FORMAT CSV SETTINGS,1", "INSERT INTO t", b"SETTINGS,1", "CSV"),
    ],
)
def test_rows_of_an_insert_start_where_the_servers_parser_starts_them(
    text: bytes, sql: str, rows: bytes, format_name: str
) -> None:
    statement = read_statement(text)
    assert (statement.sql, statement.rows, statement.format) == (sql, rows, format_name)


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t VALUES (1, ' FORMAT CSV')",
        b"INSERT INTO t SELECT 1 AS format FORMAT Null",
        b"INSERT INTO t FROM INFILE '/x' FORMAT CSV",
        b"INSERT INTO t (a)",
    ],
)
def test_inserts_that_bring_their_own_rows_go_to_the_engine_whole(text: bytes) -> None:
    statement = read_statement(text)
    assert (statement.sql, statement.rows) == (text.decode(), None)


@pytest.mark.parametrize(
    ("text", "format_name"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1 format CSV ;", "CSV"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT 'a FORMAT CSV'", None),
        (b"SELECT format FROM (SELECT 1 AS format FORMAT CSV)", None),
        (b"SELECT a FORMAT CSV FROM t", None),
    ],
)
def test_the_format_of_an_answer_is_the_one_at_the_end_of_the_query(
    text: bytes, format_name: str | None
) -> None:
    assert read_statement(text).format == format_name


@pytest.mark.parametrize("text", [b"", b" \n", b"-- nothing", b"/* nothing */ ;"])
def test_a_query_without_a_word_is_a_syntax_error(text: bytes) -> None:
    with pytest.raises(ClickHouseError) as raised:
        read_statement(text)
    assert (raised.value.code, raised.value.status) == (Code.SYNTAX_ERROR, 400)


def test_arguments_are_sorted_into_controls_parameters_and_settings() -> None:
    arguments = {
        "query": "SELECT {x:Int8}",
        "param_x": "1",
        "max_threads": "2",
        "database": "d",
        "default_format": "CSV",
        "wait_end_of_query": "1",
    }
    call = read_call(HttpRequest("POST", arguments, {}))
    assert (call.parameters, call.settings) == ({"x": "1"}, {"max_threads": "2"})
    assert (call.database, call.default_format, call.session) == ("d", "CSV", None)


def test_a_setting_whose_name_is_not_a_word_is_refused() -> None:
    with pytest.raises(ClickHouseError, match="115"):
        read_call(HttpRequest("POST", {"query": "SELECT 1", "a = 1, b": "1"}, {}))


def test_query_argument_and_body_are_one_text() -> None:
    arguments = {"query": "INSERT INTO t FORMAT CSV "}
    call = read_call(HttpRequest("POST", arguments, {}, b"1\n"))
    assert call.statement.rows == b"1\n"


def test_form_fields_are_arguments() -> None:
    call = read_call(HttpRequest("POST", {}, {}, form={"query": "SELECT 1", "param_x": "2"}))
    assert (call.statement.sql, call.parameters) == ("SELECT 1", {"x": "2"})


def test_external_tables_are_refused_with_the_code_of_a_missing_feature() -> None:
    with pytest.raises(ClickHouseError) as raised:
        read_call(HttpRequest("POST", {"query": "SELECT 1"}, {}, has_files=True))
    assert (raised.value.code, raised.value.status) == (Code.NOT_IMPLEMENTED, 501)


@pytest.mark.parametrize("name", ["compress", "decompress"])
def test_clickhouses_own_block_framing_is_refused(name: str) -> None:
    with pytest.raises(ClickHouseError, match="Content-Encoding"):
        read_call(HttpRequest("POST", {"query": "SELECT 1", name: "1"}, {}))


def test_a_session_is_read_with_its_bounds() -> None:
    arguments = {"query": "SELECT 1", "session_id": "s", "session_timeout": "1e9"}
    call = read_call(HttpRequest("POST", arguments, {}))
    assert call.session == SessionUse("s", 3600.0, must_exist=False, close_after=False)


@pytest.mark.parametrize(("method", "read_only"), [("GET", True), ("HEAD", True), ("POST", False)])
def test_get_and_head_may_only_read(method: str, read_only: bool) -> None:
    assert read_call(HttpRequest(method, {"query": "SELECT 1"}, {})).read_only is read_only


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
def test_every_encoding_is_undone_by_its_reverse(encoding: str) -> None:
    body = b"rows" * 1000
    sent, used = compress(body, encoding)
    assert used == encoding
    assert len(sent) < len(body)
    assert decompress(sent, encoding) == body


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip"])
def test_a_body_of_several_frames_is_read_to_its_end(encoding: str) -> None:
    blocks = [b"a" * 2000, b"b" * 3000]
    body = b"".join(compress(block, encoding)[0] for block in blocks)
    assert decompress(body, encoding) == b"".join(blocks)


def test_small_answers_are_not_compressed() -> None:
    assert compress(b"1\n", "lz4") == (b"1\n", None)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [("gzip, deflate", "gzip"), ("br;q=1, zstd;q=0.5, lz4", "lz4"), ("br", None), ("", None)],
)
def test_the_cheapest_accepted_encoding_is_chosen(accepted: str, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate", "br"])
def test_a_body_that_is_not_in_its_encoding_is_a_client_error(encoding: str) -> None:
    request = HttpRequest("POST", {}, {"content-encoding": encoding}, b"not compressed at all")
    with pytest.raises(ClickHouseError) as raised:
        read_call(request)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "encoding",
    ["lz4", "zstd", "gzip", "deflate"],
)
def test_a_body_cut_short_is_a_client_error(encoding: str) -> None:
    body, _ = compress(b"rows" * 1000, encoding)
    with pytest.raises(ValueError, match=encoding):
        decompress(body[:-4], encoding)


def test_bytes_after_the_end_of_a_body_are_a_client_error() -> None:
    with pytest.raises(ValueError, match="deflate"):
        decompress(compress(b"rows" * 1000, "deflate")[0] * 2, "deflate")


def test_the_engines_message_loses_what_stands_before_its_code() -> None:
    error = from_engine("Streaming insert finish failed: Code: 60. DB::Exception: no t. (X)")
    assert str(error) == "Code: 60. DB::Exception: no t. (X)"
    assert (error.code, error.status) == (60, 404)


def test_a_message_without_a_code_is_an_unknown_exception() -> None:
    assert from_engine("out of paper").code == 1002
