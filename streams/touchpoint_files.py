"""Files of touchpoints: lines of NDJSON or CSV in, touchpoints or the reasons against them out.

Pure: nothing is read but the lines, nothing is sent. Times are ISO-8601 with an offset or `Z`, a
date alone (midnight UTC), or epoch milliseconds. Whether a touchpoint is complete and sensible is
for `validation` to say; here a line is only turned into values of the right types.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

from touchstream.streams.fields import shape_of
from touchstream.streams.touchpoint_csv import read_csv
from touchstream.streams.touchpoint_lines import BYTE_ORDER_MARK, Line, parse_time


class FileFormat(StrEnum):
    """How the lines are written."""

    NDJSON = "ndjson"
    CSV = "csv"


def guess_format(name: str, first_line: bytes) -> FileFormat:
    """Tell the format by the file's name, else by how its first line begins."""
    if name.lower().endswith(".csv"):
        return FileFormat.CSV
    if name.lower().endswith((".ndjson", ".jsonl", ".json")):
        return FileFormat.NDJSON
    begins = first_line.removeprefix(BYTE_ORDER_MARK).lstrip()[:1]
    return FileFormat.NDJSON if begins == b"{" else FileFormat.CSV


def read_touchpoints(
    channel: str, file_format: FileFormat, lines: Iterable[bytes]
) -> Iterator[Line]:
    """Read the lines of a file in order; empty lines are skipped."""
    if file_format is FileFormat.CSV:
        return read_csv(channel, lines)
    return read_ndjson(channel, lines)


def read_ndjson(channel: str, lines: Iterable[bytes]) -> Iterator[Line]:
    """Read one touchpoint a line, a JSON object."""
    times = shape_of(channel).times
    for number, line in enumerate(lines, 1):
        raw = (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip()
        if not raw:
            continue
        text = raw.decode(errors="backslashreplace")
        try:
            yield Line(number, text, _from_json(raw, times))
        except ValueError as error:
            yield Line(number, text, None, str(error))


def _from_json(raw: bytes, times: tuple[str, ...]) -> dict[str, Any]:
    try:
        touchpoint = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(touchpoint, dict):
        raise ValueError("not a JSON object")
    for name in times:
        value = touchpoint.get(name)
        if isinstance(value, str) or type(value) is int:
            touchpoint[name] = parse_time(name, value)
    return touchpoint
