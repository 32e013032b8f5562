"""Moments as milliseconds since 1970."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970, rounded down; exact, unlike `timestamp()`."""
    return (moment - _EPOCH) // _MILLISECOND
