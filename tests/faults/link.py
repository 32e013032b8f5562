"""A TCP proxy on loopback that can be slow, silent or cut, or lose answers: faults of a network.

    with Network() as network:
        link = network.link(to=8123)          # clients connect to link.port
        with link.weather(Weather(delay_seconds=0.5), pids={worker}):
            ...                               # only connections of these processes suffer

A connection whose direction is silent stays open and nothing arrives; when the weather is over,
what was held back is delivered, as TCP does after a partition. A cut one is reset, and new ones are
refused. `Weather.loses` names the requests that are carried out and whose answers never arrive.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from touchstream.streams.local.ports import LOOPBACK

READ_BYTES = 1 << 16
RESET = struct.pack("ii", 1, 0)
Loses = Callable[[bytes], bytes | None]
"""Bytes of a request to a part of its answer, if the answer shall be lost; b"": any answer."""
Held = asyncio.Queue[tuple[float, bytes]]
"""What is on its way, and when it may arrive."""


def never(request: bytes) -> None:
    """Every answer arrives."""


@dataclass(frozen=True)
class Weather:
    """What happens to bytes on their way."""

    delay_seconds: float = 0.0
    bytes_per_second: float = float("inf")
    silent_to_server: bool = False
    silent_to_client: bool = False
    cut: bool = False
    loses: Loses = never


FAIR = Weather()
SILENT = Weather(silent_to_server=True, silent_to_client=True)
CUT = Weather(cut=True)


@dataclass(eq=False)
class Connection:
    """Two sockets and what is known of them."""

    client_port: int
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    weather: Weather = FAIR
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a change of the weather."""
    lost_answers: list[bytes] = field(default_factory=list)

    def reset(self) -> None:
        """End both sides at once, as a router that has forgotten the connection."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with suppress(OSError):  # it has ended already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


class Link:
    """One port of a network that leads to another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, to: int) -> None:
        self.to = to
        self.port = 0
        self.lost = 0
        """Answers that were lost."""
        self.bytes_to_server = 0
        self._loop = loop
        self._weather = FAIR
        self._pids: Collection[int] | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def weather(self, weather: Weather, pids: Collection[int] | None = None) -> Iterator[None]:
        """Bad weather until the end of `with`; `pids`: for these processes only."""
        self._call(weather, pids)
        try:
            yield
        finally:
            self._call(FAIR, None)

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more and end every connection."""
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _call(self, weather: Weather, pids: Collection[int] | None) -> None:
        asyncio.run_coroutine_threadsafe(self._change(weather, pids), self._loop).result()

    async def _change(self, weather: Weather, pids: Collection[int] | None) -> None:
        self._weather, self._pids = weather, pids
        for connection in [*self._connections]:
            connection.weather = self._weather_of(connection.client_port)
            connection.changed.set()
            if connection.weather.cut:
                connection.reset()

    def _weather_of(self, client_port: int) -> Weather:
        if self._weather is FAIR or self._pids is None or owns(self._pids, client_port):
            return self._weather
        return FAIR

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        client_port = writer.get_extra_info("peername")[1]
        try:
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.to)
        except OSError:
            writer.transport.abort()
            return
        # From here on it hears of changes, so nothing may be awaited in between.
        weather = self._weather_of(client_port)
        connection = Connection(client_port, (writer, server_writer), weather)
        if weather.cut:
            connection.reset()
            return
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._direction(connection, reader, server_writer, True))
                both.create_task(self._direction(connection, server_reader, writer, False))
        except* OSError:
            pass  # one side has ended: so does the other
        finally:
            self._connections.discard(connection)
            connection.reset()
            for each in connection.writers:
                with suppress(OSError):  # how it ended is known
                    await each.wait_closed()

    async def _direction(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_server: bool,
    ) -> None:
        """Two tasks and a queue between them, so that delays overlap."""
        held: Held = asyncio.Queue(64)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(connection, reader, held, to_server))
            both.create_task(self._pass_on(connection, held, writer, to_server))

    async def _take(
        self, connection: Connection, reader: asyncio.StreamReader, held: Held, to_server: bool
    ) -> None:
        while data := await reader.read(READ_BYTES):
            if to_server:
                self.bytes_to_server += len(data)
                lost = connection.weather.loses(data)
                if lost is not None:
                    connection.lost_answers.append(lost)
            await held.put((self._loop.time() + connection.weather.delay_seconds, data))
        await held.put((0.0, b""))

    async def _pass_on(
        self, connection: Connection, held: Held, writer: asyncio.StreamWriter, to_server: bool
    ) -> None:
        while True:
            due, data = await held.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            while is_silent(connection.weather, to_server=to_server):
                connection.changed.clear()
                await connection.changed.wait()
            if not data:
                raise ConnectionResetError("this side has ended")
            if not to_server and any(lost in data for lost in connection.lost_answers):
                self.lost += 1
                raise ConnectionResetError("this answer is lost")
            await asyncio.sleep(len(data) / connection.weather.bytes_per_second)
            writer.write(data)
            await writer.drain()


def is_silent(weather: Weather, *, to_server: bool) -> bool:
    """Whether nothing passes in this direction."""
    return weather.silent_to_server if to_server else weather.silent_to_client


def owns(pids: Collection[int], port: int) -> bool:
    """Whether one of these processes has the loopback connection from this port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    inodes = {row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return any(wanted & _open_files(pid) for pid in pids)


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(FileNotFoundError):  # the process has ended
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # it was closed meanwhile
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


class Network:
    """All links of a test, on an event loop in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._links: list[Link] = []

    def link(self, to: int) -> Link:
        """Open a way to a port."""
        link = Link(self._loop, to)
        asyncio.run_coroutine_threadsafe(link.open(), self._loop).result()
        self._links.append(link)
        return link

    def __enter__(self) -> "Network":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for link in self._links:
            await link.close()
