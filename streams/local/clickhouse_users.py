"""Who calls the embedded ClickHouse: `default`, who may do anything, or `bi`, who may read.

Pure. Credentials come as clients send them: HTTP basic,
`X-ClickHouse-User` and `-Key`, or the arguments `user` and `password`.
"""

import base64
import binascii
from collections.abc import Mapping
from enum import Enum
from hmac import compare_digest

from touchstream.streams.local.clickhouse_errors import ClickHouseError, Code
from touchstream.streams.local.clickhouse_request import HttpRequest


class User(Enum):
    """The two users; the writer has no password: the server listens on loopback alone."""

    WRITER = "default"
    READER = "bi"


def authenticate(request: HttpRequest, reader_token: str) -> User:
    """The user of a request; raises ClickHouseError if there is none of that name and password."""
    name, password = _credentials(request)
    passwords = {User.WRITER.value: "", User.READER.value: reader_token}
    wanted = passwords.get(name)
    if wanted is None or not compare_digest(wanted.encode(), password.encode()):
        raise _refusal(
            f"{name}: Authentication failed: password is incorrect, or there is no user with such"
            " name."
        )
    return User(name)


def _credentials(request: HttpRequest) -> tuple[str, str]:
    headers, arguments = request.headers, request.arguments
    ways = [
        _pair(headers, "x-clickhouse-user", "x-clickhouse-key"),
        _basic(headers["authorization"]) if "authorization" in headers else None,
        _pair(arguments, "user", "password"),
    ]
    given = [way for way in ways if way is not None]
    if len(given) > 1:
        raise _refusal("Invalid authentication: user and password may come in one way only")
    return given[0] if given else (User.WRITER.value, "")


def _pair(source: Mapping[str, str], name: str, password: str) -> tuple[str, str] | None:
    if name not in source and password not in source:
        return None
    return source.get(name) or User.WRITER.value, source.get(password, "")


def _basic(header: str) -> tuple[str, str]:
    scheme, _, text = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        raise _refusal("Invalid authentication: only HTTP basic is understood") from None
    return name or User.WRITER.value, password


def _refusal(text: str) -> ClickHouseError:
    return ClickHouseError(Code.AUTHENTICATION_FAILED, f"{text} (AUTHENTICATION_FAILED)")
