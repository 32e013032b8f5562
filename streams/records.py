"""The nouns of the pipeline: what is read from a log, and what is written to one."""

from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]
Place = tuple[str, int]
"""Logical topic and partition."""


class Record(NamedTuple):
    """One record as it was read from a partition of a topic (logical name, without prefix)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Message(NamedTuple):
    """A record to append to a partition of a topic (logical name)."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
