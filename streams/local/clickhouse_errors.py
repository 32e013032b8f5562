"""Errors as ClickHouse's HTTP interface reports them: a number, a text and an HTTP status."""

import re
from enum import IntEnum

ENGINE_CODE = re.compile(r"Code: (\d+)\. ?(?:DB::Exception: )?")
UNKNOWN_EXCEPTION = 1002


class Code(IntEnum):
    """ClickHouse's numbers of the errors that the HTTP interface itself raises."""

    BAD_ARGUMENTS = 36
    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    UNKNOWN_FORMAT = 73
    UNKNOWN_SETTING = 115
    READONLY = 164
    CANNOT_DECOMPRESS = 271
    SESSION_NOT_FOUND = 372
    SESSION_IS_LOCKED = 373
    ACCESS_DENIED = 497
    AUTHENTICATION_FAILED = 516


# From `exceptionCodeToHTTPStatus` of ClickHouse; every other code is a 500.
STATUS = {
    **dict.fromkeys((6, 15, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 72, 117, 271, 321, 376), 400),
    **dict.fromkeys((192, 193, 497, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336), 404),
    159: 408,
    48: 501,
    **dict.fromkeys((209, 439), 503),
}


class ClickHouseError(Exception):
    """An error for the client; its text reads as a server's."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"Code: {int(code)}. DB::Exception: {detail}")
        self.code = int(code)

    @property
    def status(self) -> int:
        """The HTTP status of this code."""
        return STATUS.get(self.code, 500)


def from_engine(text: str) -> ClickHouseError:
    """Read the engine's message, without the words that chDB puts before the code."""
    found = ENGINE_CODE.search(text)
    if found is None:
        return ClickHouseError(UNKNOWN_EXCEPTION, text)
    return ClickHouseError(int(found.group(1)), text[found.end() :].strip())
