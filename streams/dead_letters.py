"""Why a record was rejected: the reasons, declared once."""

from enum import StrEnum


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
