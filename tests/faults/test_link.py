"""The faults themselves: what each kind of weather does to bytes."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from link import CUT, SILENT, Link, Network, Weather


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that says everything again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=repeat, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def repeat(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
        except OSError:
            return


@pytest.fixture
def link(echo: int) -> Iterator[Link]:
    with Network() as network:
        yield network.link(echo)


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", link.port), timeout=0.3) as client:
        yield client


def say(client: socket.socket, what: bytes) -> bytes:
    client.sendall(what)
    return client.recv(1 << 16)


def test_in_fair_weather_everything_arrives(client: socket.socket) -> None:
    assert say(client, b"one") == b"one"


@pytest.mark.parametrize("silent", [SILENT, Weather(silent_to_client=True)])
def test_what_silence_held_back_arrives_afterwards(
    client: socket.socket, link: Link, silent: Weather
) -> None:
    with link.weather(silent), pytest.raises(TimeoutError):
        say(client, b"one")
    assert client.recv(16) == b"one"


def test_a_cut_resets_and_refuses_until_it_is_over(client: socket.socket, link: Link) -> None:
    say(client, b"one")
    with link.weather(CUT):
        with pytest.raises(ConnectionResetError):
            client.recv(16)
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(("127.0.0.1", link.port), timeout=1) as other,
        ):
            other.recv(16)
    with socket.create_connection(("127.0.0.1", link.port), timeout=1) as other:
        assert say(other, b"two") == b"two"


def test_a_delay_is_one_way_and_a_rate_takes_its_time(client: socket.socket, link: Link) -> None:
    client.settimeout(5)
    with link.weather(Weather(delay_seconds=0.1, bytes_per_second=1e4)):
        began = time.monotonic()
        say(client, b"x" * 1_000)
        assert 0.4 <= time.monotonic() - began < 3


def test_a_lost_answer_was_given(client: socket.socket, link: Link) -> None:
    with link.weather(Weather(loses=lambda data: b"two" if b"two" in data else None)):
        assert say(client, b"one") == b"one"
        with pytest.raises(ConnectionResetError):
            say(client, b"two")
    assert (link.lost, link.bytes_to_server) == (1, 6)


def test_other_processes_have_fair_weather(client: socket.socket, link: Link) -> None:
    with link.weather(SILENT, pids={os.getppid()}):
        assert say(client, b"one") == b"one"
    with link.weather(SILENT, pids={os.getpid()}), pytest.raises(TimeoutError):
        say(client, b"two")
