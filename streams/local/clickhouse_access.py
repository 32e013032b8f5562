"""What `bi` may do on the embedded ClickHouse, and how a handle is made to hold to it.

Three walls: the engine's role (SELECT on one database; no files, no network, no writing), the
engine's `readonly = 1` with limits, and `check_query` for what neither of them stops: statements
that the engine allows to everybody (SET, KILL, INTO OUTFILE) and the function `file`.
"""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code, from_engine
from touchstream.streams.local.clickhouse_handle import Handle, quote
from touchstream.streams.local.clickhouse_request import Call

ROLE = "bi"
LIMITS = {
    "max_execution_time": 120,
    "max_memory_usage": 1 << 30,
    "max_result_rows": 1_000_000,
    "max_result_bytes": 256 << 20,
}
"""Of one query; a request may lower them."""
FIXED = {
    "implicit_select": "0",
    "allow_introspection_functions": "0",
    # What our clients ask for is so already: under `readonly` they could not set it.
    "async_insert": "0",
    "distributed_foreground_insert": "1",
    "readonly": "1",
}
OPEN_SETTINGS = frozenset(
    (
        *("async_insert", "wait_for_async_insert", "log_comment", "extremes", "final"),
        *("join_use_nulls", "group_by_use_nulls", "transform_null_in", "session_timezone"),
        *("aggregate_functions_null_for_empty", "max_block_size", "max_threads"),
        *("connect_timeout", "receive_timeout", "send_timeout", "date_time_output_format"),
        *("output_format_json_quote_64bit_integers", "output_format_json_quote_denormals"),
        *("output_format_json_quote_decimals", "output_format_write_statistics"),
        *("output_format_json_named_tuples_as_objects", "output_format_json_array_of_rows"),
        *("output_format_decimal_trailing_zeros", "output_format_arrow_compression_method"),
        *("output_format_arrow_string_as_string", "output_format_parquet_string_as_string"),
        "output_format_native_write_json_as_string",
    )
)
"""Settings that `bi` may send with a request: they change how an answer looks, not what it sees."""
STATEMENTS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS", "("})
SAFE_TABLE_FUNCTIONS = frozenset(
    (
        *("numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "generateseries", "format"),
        *("generate_series", "generaterandom", "values", "view", "viewifpermitted", "merge"),
        *("null", "fuzzquery", "fuzzjson", "sqlstandardvalues"),
    )
)
OUTSIDE = frozenset({"file"})
"""Functions that read outside of the tables and need no grant; refused as a name, wherever it is:
`APPLY file` and `arrayMap(file, ...)` call it without brackets."""
FORMATTING = re.compile(r": In scope SELECT formatQuerySingleLine\(.*\)(?=\. \(\w+\)$)", re.DOTALL)
"""What a syntax error says about our query around the reader's."""

# Of the text that the engine has formatted: no comments, no heredocs, one way to quote.
TOKEN = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.|'')*')
    |(?P<name>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*"|[^\W\d]\w*)
    |(?P<identifier>\{\s*(?P<parameter>\w+)\s*:\s*Identifier\s*\})
    |(?P<number>\d\w*)
    |(?P<space>\s+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def access_configuration(file: Path, database: str) -> str:
    """The engine's configuration: roles of both users, read from this same file."""
    return f"""<clickhouse>
  <user_directories><users_xml><path>{escape(str(file))}</path></users_xml></user_directories>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
    <writer><grants><query>GRANT ALL ON *.*</query></grants></writer>
    <{ROLE}><grants>
      <query>GRANT SELECT, dictGet ON `{database}`.*</query>
      <query>GRANT SELECT ON system.*</query>
      <query>GRANT SELECT ON information_schema.*</query>
      <query>GRANT SELECT ON INFORMATION_SCHEMA.*</query>
    </grants></{ROLE}>
  </roles>
  <users><default>
    <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <grants><query>GRANT writer</query><query>GRANT {ROLE}</query></grants>
  </default></users>
</clickhouse>
"""


def check_query(handle: Handle, call: Call, outside: frozenset[str]) -> None:
    """Raise ClickHouseError unless the call is one statement that reads tables alone.

    `outside`: the table functions that are refused.
    """
    sql = call.statement.sql
    kind = handle.classify(sql)
    if kind.statements > 1:
        raise ClickHouseError(Code.SYNTAX_ERROR, "several statements in one query")
    # What cannot be classified cannot be parsed: formatting then fails with the engine's reason.
    if call.statement.rows is not None or kind.name not in ("READ_ONLY", "UNKNOWN"):
        raise _read_only()
    formatted = _formatted(handle, sql)
    if kind.name == "UNKNOWN":
        raise _read_only()
    _check_text(formatted, call.parameters, outside)


def restrict(handle: Handle, wanted: Mapping[str, str]) -> None:
    """Apply the settings of the request, the limits and `readonly`, which cannot be left again."""
    values = {name: value for name, value in wanted.items() if name != "readonly"}
    for name, value in values.items():
        if name in LIMITS and not _is_lower(value, LIMITS[name]):
            raise _cannot_modify(name)
        if name not in LIMITS and name not in OPEN_SETTINGS:
            raise _cannot_modify(name)
    if wanted.get("readonly", "1") not in ("1", "2"):
        raise _cannot_modify("readonly")
    every = {name: str(value) for name, value in LIMITS.items()} | values | FIXED
    handle.query(
        "SET " + ", ".join(f"{name} = {quote(value)}" for name, value in every.items()), "Null", {}
    )


def outside_tables(handle: Handle) -> frozenset[str]:
    """Table functions that are not known to be harmless, in lower case."""
    names, _ = handle.query("SELECT lower(name) FROM system.table_functions", "TabSeparated", {})
    return frozenset(names.decode().split()) - SAFE_TABLE_FUNCTIONS


def _formatted(handle: Handle, sql: str) -> str:
    try:
        text, _ = handle.query(f"SELECT formatQuerySingleLine({quote(sql)})", "RawBLOB", {})
    except ClickHouseError as error:
        raise from_engine(FORMATTING.sub("", str(error))) from None
    return text.decode()


def _check_text(text: str, parameters: Mapping[str, str], outside: frozenset[str]) -> None:
    tokens = [found for found in TOKEN.finditer(text) if found.lastgroup != "space"]
    first = tokens[0].group().upper() if tokens else ""
    if first not in STATEMENTS:
        raise _read_only()
    words = [_word(found, parameters) for found in tokens] + [None, None]
    ends = [found.group() for found in tokens] + ["", ""]
    for i, word in enumerate(words[:-2]):
        before = ends[i - 1] if i else ""
        if word in OUTSIDE and before != ".":
            raise _denied(f"{word}")
        if word in outside and ends[i + 1] == "(":
            raise _denied(f"{word}")
        if ends[i] == "SETTINGS" and words[i + 1] and ends[i + 2] in ("=", ".") and before != ".":
            raise _cannot_modify(words[i + 1] or "")


def _word(found: re.Match[str], parameters: Mapping[str, str]) -> str | None:
    """The name that a token stands for, in lower case; None for any other token."""
    if found["parameter"]:
        return parameters.get(found["parameter"], "").strip('`" ').lower()
    return found["name"].strip('`"').lower() if found["name"] else None


def _is_lower(value: str, limit: int) -> bool:
    try:
        return 0 < float(value) <= limit
    except ValueError:
        return False


def _read_only() -> ClickHouseError:
    return ClickHouseError(
        Code.READONLY, f"{ROLE}: Cannot execute query in readonly mode. (READONLY)"
    )


def _cannot_modify(name: str) -> ClickHouseError:
    return ClickHouseError(
        Code.READONLY, f"Cannot modify '{name}' setting in readonly mode. (READONLY)"
    )


def _denied(name: str) -> ClickHouseError:
    return ClickHouseError(
        Code.ACCESS_DENIED,
        f"{ROLE}: Not enough privileges. `{name}` reads outside of the tables. (ACCESS_DENIED)",
    )
