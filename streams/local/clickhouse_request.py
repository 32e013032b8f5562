"""What an HTTP request asks ClickHouse for: method, arguments, headers and body become a `Call`.

Pure: no engine and no network. Guarantees that the rows of an `INSERT ... FORMAT X` are split from
its statement at the byte where ClickHouse's own parser would split them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from touchstream.streams.local.clickhouse_codec import choose_encoding, decompress
from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code

CONTROLS = frozenset(
    (
        *("add_http_cors_header", "buffer_size", "cancel_http_readonly_queries_on_client_close"),
        *("client_protocol_version", "close_session", "compress", "database", "decompress"),
        *("default_format", "enable_http_compression", "http_headers_progress_interval_ms"),
        *("password", "query", "query_id", "quota_key", "role", "send_progress_in_http_headers"),
        *("session_check", "session_id", "session_timeout", "stacktrace", "user"),
        "wait_end_of_query",
    )
)
"""Arguments of the interface itself; every other one is a setting of the query."""
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
LONGEST_SESSION_SECONDS = 3600.0

TOKEN = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)
    |(?P<word>\w+)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
ROWS_START = re.compile(rb"[ \t\f]*;?[ \t\f]*\r?\n?")
NO_ROWS = frozenset({b"VALUES", b"SELECT", b"WITH", b"FROM", b"EXPLAIN", b""})
"""Words that end the head of an INSERT whose rows, if any, the engine reads itself."""
NAME_FOLLOWS = frozenset({b"INTO", b"TABLE", b"FUNCTION"})


@dataclass(frozen=True)
class HttpRequest:
    """What came over the wire: header names in lower case, the text fields of a form."""

    method: str
    arguments: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    form: Mapping[str, str] = field(default_factory=dict)
    has_files: bool = False
    """Whether the form holds files: external tables."""


@dataclass(frozen=True)
class Statement:
    """One SQL text, the rows that follow it (None: it takes none) and the format it names."""

    sql: str
    rows: bytes | None
    format: str | None


@dataclass(frozen=True)
class SessionUse:
    """The session a call belongs to and what to do with it."""

    name: str
    timeout_seconds: float
    must_exist: bool
    close_after: bool


@dataclass(frozen=True)
class Call:
    """Everything the engine needs to answer one request."""

    statement: Statement
    default_format: str
    database: str | None
    settings: dict[str, str]
    parameters: dict[str, str]
    session: SessionUse | None
    read_only: bool
    answer_encoding: str | None


def read_call(request: HttpRequest) -> Call:
    """Read the request; raises ClickHouseError with the code a server would answer."""
    arguments = {**request.arguments, **request.form}
    _refuse_what_is_missing(arguments, has_files=request.has_files)
    names = {name for name in arguments if name not in CONTROLS}
    parameters = {name for name in names if name.startswith("param_")}
    wanted = request.headers.get("accept-encoding", "")
    return Call(
        statement=read_statement(_text(request, arguments.get("query"))),
        default_format=arguments.get("default_format")
        or request.headers.get("x-clickhouse-format", "TabSeparated"),
        database=arguments.get("database") or request.headers.get("x-clickhouse-database"),
        settings={_setting(name): arguments[name] for name in sorted(names - parameters)},
        parameters={name[len("param_") :]: arguments[name] for name in parameters},
        session=_session(arguments),
        read_only=request.method in ("GET", "HEAD"),
        answer_encoding=choose_encoding(wanted)
        if _is_on(arguments.get("enable_http_compression"))
        else None,
    )


def read_statement(text: bytes) -> Statement:
    """Split SQL and rows, and find the format it names."""
    first = next(_top_words(text), (b"", 0, 0))[0]
    if not first:
        raise ClickHouseError(Code.SYNTAX_ERROR, "empty query")
    if first == b"INSERT":
        return _read_insert(text)
    return Statement(_decode(text), None, _answer_format(text))


def _read_insert(text: bytes) -> Statement:
    words = _top_words(text)
    before, before_end = b"", 0
    for word, start, end in words:
        gap = text[before_end:start].strip()
        # A table may be called `values`: a name follows a dot, or one of these words directly.
        is_name = gap.endswith(b".") or (before in NAME_FOLLOWS and not gap)
        if word == b"FORMAT" and not is_name:
            return _split_rows(text, start, next(words))
        if word in NO_ROWS and not is_name:
            break
        before, before_end = word, end
    return Statement(_decode(text), None, None)


def _split_rows(text: bytes, head_end: int, name: tuple[bytes, int, int]) -> Statement:
    _, start, end = name
    space = ROWS_START.match(text, end)
    rows = text[space.end() if space else end :]
    return Statement(_decode(text[:head_end]), rows, text[start:end].decode("ascii", "replace"))


def _answer_format(text: bytes) -> str | None:
    """Format named at the end of a query; only headers depend on it, the engine obeys the SQL."""
    words = [*_top_words(text)]
    for (word, _, _), (_, start, end), (follows, rest, _) in zip(
        words, words[1:], words[2:], strict=False
    ):
        if word == b"FORMAT" and follows in (b"", b"SETTINGS") and _is_blank(text, end, rest):
            return text[start:end].decode("ascii", "replace")
    return None


def _is_blank(text: bytes, start: int, end: int) -> bool:
    tokens = TOKEN.finditer(text, start, end)
    return all(token.lastgroup == "skip" or token.group() == b";" for token in tokens)


def _top_words(text: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Upper-case words outside of brackets, quotes and comments, then an empty one at the end."""
    depth = 0
    for token in TOKEN.finditer(text):
        kind = token.lastgroup
        depth += (kind == "open") - (kind == "close")
        if kind == "word" and depth == 0:
            yield token.group().upper(), token.start(), token.end()
    yield b"", len(text), len(text)


def _text(request: HttpRequest, query: str | None) -> bytes:
    """SQL and rows as one text, joined as servers do: query argument, line break, body."""
    try:
        body = decompress(request.body, request.headers.get("content-encoding", ""))
    except ValueError as error:
        raise ClickHouseError(Code.CANNOT_DECOMPRESS, str(error)) from None
    if query is None:
        return body
    return query.encode().rstrip() + b"\n" + body if body else query.encode()


def _session(arguments: Mapping[str, str]) -> SessionUse | None:
    name = arguments.get("session_id")
    if not name:
        return None
    try:
        seconds = float(arguments.get("session_timeout") or 60)
    except ValueError:
        raise ClickHouseError(Code.BAD_ARGUMENTS, "session_timeout is not a number") from None
    return SessionUse(
        name,
        min(max(seconds, 1.0), LONGEST_SESSION_SECONDS),
        must_exist=_is_on(arguments.get("session_check")),
        close_after=_is_on(arguments.get("close_session")),
    )


def _refuse_what_is_missing(arguments: Mapping[str, str], *, has_files: bool) -> None:
    if has_files:
        raise ClickHouseError(Code.NOT_IMPLEMENTED, "external tables are not available here")
    if _is_on(arguments.get("compress")) or _is_on(arguments.get("decompress")):
        raise ClickHouseError(
            Code.NOT_IMPLEMENTED,
            "compress=1 and decompress=1 are not available here: use Content-Encoding",
        )


def _setting(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ClickHouseError(Code.UNKNOWN_SETTING, f"{name!r} is not the name of a setting")
    return name


def _is_on(value: str | None) -> bool:
    return value is not None and value.lower() in ("1", "true")


def _decode(text: bytes) -> str:
    try:
        return text.decode().strip()
    except UnicodeDecodeError:
        raise ClickHouseError(Code.SYNTAX_ERROR, "the query is not UTF-8") from None
