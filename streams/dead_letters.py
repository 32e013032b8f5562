"""Why a record or a row was rejected, and how it is kept: declared once."""

import json
from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b
from math import isfinite
from typing import Any

from touchstream.streams.errors import PoisonError
from touchstream.streams.records import Headers, Record
from touchstream.streams.table import Row, Table


class Reason(StrEnum):
    """Reasons as they stand in the dead-letter topic, in ClickHouse and in Prometheus."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    BAD_FRAMING = "bad_framing"
    UNKNOWN_SCHEMA = "unknown_schema"
    TRUNCATED = "truncated"
    WRONG_TYPE = "wrong_type"
    MISSING_IDENTIFIER = "missing_identifier"
    INVALID_VALUE = "invalid_value"
    OUTSIDE_HORIZON = "outside_horizon"


REFUSED_ROW = "refused_row"
"""Reason of a row that ClickHouse refused: such a dead letter is in ClickHouse only."""
KEPT_BYTES = 4 << 20
"""What is kept of a rejected record's value; a longer one was compressed and would fit no batch."""
KEPT_CHARACTERS = 1000
"""What is kept of an error of ClickHouse."""


def kept_value(record: Record) -> bytes | None:
    """The original bytes, cut at `KEPT_BYTES`."""
    return record.value if record.value is None else record.value[:KEPT_BYTES]


def dead_letter_headers(record: Record, error: PoisonError) -> Headers:
    """Headers of the dead letter: where the record stood and why it was rejected."""
    return (
        ("reason", error.reason.encode()),
        ("detail", error.detail.encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("timestamp_ms", str(record.timestamp_ms).encode()),
        ("original_bytes", str(len(record.value or b"")).encode()),
    )


def dead_letter_row(record: Record, error: PoisonError, source: int) -> Row:
    """Row of `tables.DEAD_LETTERS`."""
    return (
        record.topic,
        source,
        record.partition,
        record.offset,
        str(error.reason),
        error.detail,
        record.timestamp_ms,
        record.key or b"",
        kept_value(record) or b"",
    )


def refused_row(table: Table, row: Row, error: Exception, now_ms: int) -> Row:
    """Row of `tables.DEAD_LETTERS` for a row of `table` that ClickHouse refused, as JSON.

    Its offset is a hash of the row: refused again after a crash, it replaces itself.
    """
    fits = len(row) == len(table.columns)
    kept = _plain(dict(zip(table.column_names, row, strict=True)) if fits else row)
    # A lone surrogate becomes its JSON escape, which is what ClickHouse can store.
    value = json.dumps(kept, ensure_ascii=False).encode("utf-8", "backslashreplace")
    offset = int.from_bytes(blake2b(value, digest_size=8).digest()) >> 1
    detail = f"{type(error).__name__}: {error}"[:KEPT_CHARACTERS]
    return (
        f"clickhouse.{table.name}",
        0,
        0,
        offset,
        REFUSED_ROW,
        detail.encode("utf-8", "backslashreplace").decode(),
        now_ms,
        b"",
        value[:KEPT_BYTES],
    )


def _plain(value: Any) -> Any:
    """Turn any value into one that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value is None or isinstance(value, (int, str)):
        return value
    return value if isinstance(value, float) and isfinite(value) else str(value)
