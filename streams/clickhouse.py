"""Connecting to ClickHouse over HTTP: settings in, a clickhouse-connect client out.

Failures come out in our three kinds: unreachable is transient, refused is the operator's to change;
`failure_of` sorts the errors of an insert into send again, find the bad rows, or stop.
"""

import struct
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, ProgrammingError

from touchstream.streams.cluster_sql import SESSION_SETTINGS
from touchstream.streams.errors import ConfigurationError, TouchstreamError, TransientError
from touchstream.streams.settings import PREFIX, Settings

AUTHENTICATION_CODES = frozenset({192, 193, 194, 516})
"""Unknown user, wrong password, required password, authentication failed."""
UNKNOWN_DATABASE = 81
DATA_CODES = frozenset(
    # cannot parse, wrong value, out of range, too large, NULL, overflow, constraint
    {6, 27, 33, 38, 41, 69, 72, 117, 128, 131, 321, 349, 407, 469}
)
CONFIGURATION_CODES = AUTHENTICATION_CODES | {16, 47, 53, 60, 70, UNKNOWN_DATABASE, 115, 164, 497}
"""Besides who we are: another schema than ours (no row is to blame), read-only, not allowed."""
ENCODING_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What encoding a row with a wrong value raises on our side, and `struct.error`."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def connect(settings: Settings, /, **options: Any) -> Client:
    """Open a client on the configured database; `options` go to clickhouse-connect.

    No session id: a client then survives a lost connection and may be used for parallel queries.
    Our inserts are batched already and must be stored when they return: `async_insert=0`, and
    `distributed_foreground_insert=1` even if nobody has said that there is a cluster.
    """
    stored = {"async_insert": 0, "distributed_foreground_insert": 1}
    on_cluster = SESSION_SETTINGS if settings.clickhouse_cluster else {}
    server_settings = {**stored, **on_cluster, **options.pop("settings", {})}
    arguments = {
        **_address(settings),
        "settings": server_settings,
        "autogenerate_session_id": False,
        "show_clickhouse_errors": True,
        "client_name": "touchstream",
        **options,
    }
    try:
        return clickhouse_connect.get_client(**arguments)
    except (ClickHouseError, OSError) as error:
        raise explain(error, settings) from error


def explain(error: Exception, settings: Settings) -> TouchstreamError:
    """Say what a failed connection means for the operator."""
    code = getattr(error, "code", None)
    if code in AUTHENTICATION_CODES or "HTTP status 401" in str(error):
        return ConfigurationError(
            f"ClickHouse at {settings.clickhouse_url} refused user {settings.clickhouse_user}: set "
            f"{PREFIX}CLICKHOUSE_USER and {PREFIX}CLICKHOUSE_PASSWORD"
        )
    if code == UNKNOWN_DATABASE:
        return ConfigurationError(
            f"ClickHouse at {settings.clickhouse_url} has no database "
            f"{settings.clickhouse_database}: run `touchstream migrate`"
        )
    return TransientError(
        f"ClickHouse at {settings.clickhouse_url} cannot be reached: start it or set "
        f"{PREFIX}CLICKHOUSE_URL ({_first_line(error)})"
    )


class Failure(Enum):
    """What to do about a failed insert."""

    TRANSIENT = "send the same block again"
    DATA = "find the bad rows"
    CONFIGURATION = "stop"


def failure_of(error: Exception) -> Failure:
    """Sort an error of an insert; in doubt it is transient: a retry is seen and loses nothing."""
    if isinstance(error, TouchstreamError):
        stop = isinstance(error, ConfigurationError)
        return Failure.CONFIGURATION if stop else Failure.TRANSIENT
    if not isinstance(error, ClickHouseError):
        wrong_value = isinstance(error, (*ENCODING_ERRORS, struct.error))
        return Failure.DATA if wrong_value else Failure.TRANSIENT
    code = getattr(error, "code", None)
    if code in CONFIGURATION_CODES:
        return Failure.CONFIGURATION
    refused_here = code is None and isinstance(error, (DataError, ProgrammingError))
    return Failure.DATA if code in DATA_CODES or refused_here else Failure.TRANSIENT


def _address(settings: Settings) -> dict[str, Any]:
    url = urlsplit(settings.clickhouse_url)
    try:
        port = url.port or (8443 if url.scheme == "https" else 8123)
    except ValueError:
        raise ConfigurationError(
            f"{PREFIX}CLICKHOUSE_URL: {settings.clickhouse_url} has no valid port"
        ) from None
    return {
        "interface": url.scheme,
        "host": url.hostname,
        "port": port,
        "proxy_path": url.path,
        "username": settings.clickhouse_user,
        "password": settings.clickhouse_password.get_secret_value(),
        "database": settings.clickhouse_database,
        # On loopback compressing costs more than it saves (measured: a fifth of the client's time).
        "compress": url.hostname not in LOOPBACK,
    }


def _first_line(error: Exception) -> str:
    """Say why in one line; urllib3 keeps the reason below the request that it describes."""
    reason = getattr(error.__cause__, "reason", None) or error
    return (str(reason).splitlines() or [type(error).__name__])[0][:300]
