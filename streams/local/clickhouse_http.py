"""ClickHouse's HTTP interface: requests come in over aiohttp and are answered by threads.

`reply_to` is a plain function from request to reply; around it there is only the web server. It
answers loopback names alone, so that no web page can reach the engine by a name of its own.
Streaming of large results would replace `Reply.body`.
"""

import asyncio
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from touchstream.streams.local.clickhouse_codec import compress
from touchstream.streams.local.clickhouse_engine import Answer, Engine
from touchstream.streams.local.clickhouse_errors import ClickHouseError
from touchstream.streams.local.clickhouse_request import HttpRequest, read_call
from touchstream.streams.local.clickhouse_users import User, authenticate

LARGEST_REQUEST_BYTES = 1 << 30
LONGEST_LINE_BYTES = 1 << 20
THREADS = 8
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    **dict.fromkeys(
        ("Native", "RowBinary", "Arrow", "ArrowStream", "Parquet"), "application/octet-stream"
    ),
}


@dataclass(frozen=True)
class Reply:
    """Status, headers and body to send."""

    status: int
    headers: dict[str, str]
    body: bytes


def reply_to(engine: Engine, token: str, request: HttpRequest) -> Reply:
    """Answer one request in the calling thread; every error becomes a reply."""
    try:
        user = authenticate(request, token)
        call = read_call(request)
        answer = engine.answer_reader(call) if user is User.READER else engine.answer(call)
    except ClickHouseError as error:
        headers = _common(request) | {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Exception-Code": str(error.code),
        }
        return Reply(error.status, headers, f"{error}\n".encode())
    body, encoding = compress(answer.body, call.answer_encoding)
    headers = _common(request) | {
        "Content-Type": CONTENT_TYPES.get(answer.format, "text/plain; charset=UTF-8"),
        "X-ClickHouse-Format": answer.format,
        "X-ClickHouse-Summary": _summary(answer),
    }
    return Reply(200, headers | ({"Content-Encoding": encoding} if encoding else {}), body)


def is_from_here(host: str, origin: str | None) -> bool:
    """Whether the caller names this machine by a loopback name, and so does the page it runs in."""
    names = [urlsplit(f"//{host}").hostname, urlsplit(origin).hostname if origin else "localhost"]
    return all(name in LOOPBACK_NAMES for name in names)


def make_application(engine: Engine, token: str, grace_seconds: float) -> web.Application:
    """Build the web application; it owns the threads, not the engine. `token`: the reader's."""
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="clickhouse")
    running: set[asyncio.Future[Reply]] = set()

    async def respond(request: web.Request) -> web.Response:
        if not is_from_here(request.host, request.headers.get("Origin")):
            return web.Response(status=403, text="only loopback names are served\n")
        if request.path == "/ping" or _asks_nothing(request):
            return web.Response(text="Ok.\n")
        if request.path != "/":
            return web.Response(status=404, text=f"there is nothing at {request.path}\n")
        read = await _read(request)
        call = asyncio.get_running_loop().run_in_executor(threads, reply_to, engine, token, read)
        running.add(call)
        call.add_done_callback(running.discard)
        reply = await call
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def end_calls(_: web.Application) -> None:
        if running:
            await asyncio.wait(running, timeout=grace_seconds)
        await asyncio.to_thread(engine.cancel_queries)
        await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)

    application = web.Application(client_max_size=LARGEST_REQUEST_BYTES)
    application.router.add_route("*", "/{path:.*}", respond)
    application.on_shutdown.append(end_calls)
    return application


def make_runner(engine: Engine, token: str, grace_seconds: float) -> web.AppRunner:
    """Wrap the application in a runner that leaves compression to `reply_to`."""
    return web.AppRunner(
        make_application(engine, token, grace_seconds),
        access_log=None,
        auto_decompress=False,
        max_line_size=LONGEST_LINE_BYTES,
        shutdown_timeout=1.0,
    )


def _asks_nothing(request: web.Request) -> bool:
    return request.path == "/" and request.method in ("GET", "HEAD") and not request.query_string


async def _read(request: web.Request) -> HttpRequest:
    headers = {name.lower(): value for name, value in request.headers.items()}
    arguments = dict(request.query)
    if request.content_type != "multipart/form-data":
        return HttpRequest(request.method, arguments, headers, await request.read())
    form = await request.post()
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    has_files = len(texts) < len(form)
    return HttpRequest(request.method, arguments, headers, form=texts, has_files=has_files)


def _common(request: HttpRequest) -> dict[str, str]:
    return {
        "X-ClickHouse-Query-Id": request.arguments.get("query_id") or str(uuid.uuid4()),
        "X-ClickHouse-Server-Display-Name": "touchstream-local",
        "X-ClickHouse-Timezone": "UTC",
    }


def _summary(answer: Answer) -> str:
    counts = {name: str(value) for name, value in vars(answer.counts).items()}
    return json.dumps({**counts, "elapsed_ns": str(answer.elapsed_ns)})
