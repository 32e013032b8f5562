"""Why a record was rejected, and how it is kept: reasons, headers and row, declared once."""

from enum import StrEnum

from touchstream.streams.errors import PoisonError
from touchstream.streams.records import Headers, Record
from touchstream.streams.table import Row


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


KEPT_BYTES = 4 << 20
"""What is kept of a rejected record's value; a longer one was compressed and would fit no batch."""


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
