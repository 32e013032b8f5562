"""Loopback ports: find free ones, refuse busy ones with the option that chooses another."""

import socket
from contextlib import ExitStack

from touchstream.streams.errors import ConfigurationError

LOOPBACK = "127.0.0.1"


def bind_loopback(port: int, option: str) -> socket.socket:
    """Bind `port` (0: any free one); raises ConfigurationError naming `option` if that fails."""
    try:
        # Reuses an address in TIME_WAIT, as every server does; a listening one stays busy.
        return socket.create_server((LOOPBACK, port), backlog=128)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {LOOPBACK}:{port} ({error.strerror}): "
            f"stop what uses port {port} or choose another with {option}"
        ) from None


def choose_ports(wanted: list[tuple[int, str]]) -> list[int]:
    """Check each (port, option); 0 becomes a free port. All are held at once, so none repeats."""
    with ExitStack() as held:
        sockets = [held.enter_context(bind_loopback(port, option)) for port, option in wanted]
        return [int(bound.getsockname()[1]) for bound in sockets]


def accepts_connections(port: int) -> bool:
    """Whether something listens on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False
