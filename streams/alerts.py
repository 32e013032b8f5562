"""Alerts: what somebody should look at, to Avro bytes and back, and as a row.

Framed like touchpoints: 0 and four bytes of schema id, then plain Avro. The id follows from the
schema, as it does for touchpoints without a registry; `use_registry` asks a registry for it.
"""

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from io import BytesIO
from struct import error as StructError
from typing import Any

import msgspec
from fastavro import parse_schema, schemaless_writer

from touchstream.streams.avro_reader import Reader, reader_of
from touchstream.streams.codec import HEADER_BYTES, framing
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.records import Record
from touchstream.streams.registry import connect_registry, id_of
from touchstream.streams.settings import Settings
from touchstream.streams.table import Row
from touchstream.streams.topics import ALERTS
from touchstream.streams.writer_schemas import without_logical_types

Evidence = Mapping[str, object]
NOTHING: Evidence = {}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert; the fields of `schemas/alert.v1.avsc`."""

    alert_id: str
    kind: str
    raised_at: int
    """Milliseconds since 1970."""
    customer_id: str | None = None
    identity: str | None = None
    reason: str
    evidence: dict[str, str] = {}
    source_topic: str | None = None
    source_partition: int | None = None
    source_offset: int | None = None


def alert_id(kind: str, *cause: str) -> str:
    """Id of an alert: the same kind and cause have the same one, wherever and whenever."""
    return blake2b(msgspec.json.encode([kind, *cause]), digest_size=16).hexdigest()


def alert_about(
    kind: str,
    reason: str,
    *,
    cause: tuple[str, ...],
    raised_at: int,
    customer: str | None = None,
    identity: str | None = None,
    evidence: Evidence = NOTHING,
    source: Record | None = None,
) -> Alert:
    """Put an alert together; evidence that is None is left out."""
    return Alert(
        alert_id=alert_id(kind, *cause),
        kind=str(kind),
        raised_at=raised_at,
        customer_id=customer,
        identity=identity,
        reason=reason,
        evidence={name: _text(value) for name, value in evidence.items() if value is not None},
        source_topic=source.topic if source else None,
        source_partition=source.partition if source else None,
        source_offset=source.offset if source else None,
    )


def alert_row(alert: Alert) -> Row:
    """Row of `customer_tables.ALERTS`; the identity goes with the evidence."""
    identity = {"identity": alert.identity} if alert.identity else {}
    return (
        alert.alert_id,
        alert.kind,
        alert.raised_at,
        alert.customer_id or "",
        alert.reason,
        {**identity, **alert.evidence},
    )


def encode_alert(alert: Alert) -> bytes:
    """Value of a record on `cx.alerts`."""
    stream = BytesIO()
    stream.write(_header())
    schemaless_writer(stream, _writer_schema(), msgspec.structs.asdict(alert))
    return stream.getvalue()


def decode_alert(value: bytes | None) -> Alert:
    """Alert of a record on `cx.alerts`, whatever its schema id; raises PoisonError."""
    if value is None:
        raise PoisonError(Reason.NULL_VALUE, "an alert has no value")
    if len(value) < HEADER_BYTES or value[0] != 0:
        raise PoisonError(Reason.BAD_FRAMING, "not an alert in Confluent's framing")
    try:
        fields, end = _reader()(value, HEADER_BYTES)
    except (IndexError, StructError):
        raise PoisonError(Reason.TRUNCATED, f"ends after {len(value)} bytes") from None
    except ValueError as error:
        raise PoisonError(Reason.WRONG_TYPE, str(error)) from None
    if end != len(value):
        raise PoisonError(Reason.WRONG_TYPE, f"{len(value)} bytes, of which an alert takes {end}")
    return Alert(**fields)


def use_registry(settings: Settings) -> None:
    """From now on frame alerts with the registry's id of their schema, if a registry is set."""
    registry = connect_registry(settings.schema_registry_url)
    if registry is not None:
        subject = f"{settings.topic_prefix}{ALERTS}-value"
        _framed_with.append(registry.schema_id(subject, load_alert_schema()))


@cache
def load_alert_schema() -> dict[str, Any]:
    """The shipped Avro schema of alerts, as it stands in its file."""
    text = files("touchstream.schemas").joinpath("alert.v1.avsc").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


_framed_with: list[int] = []
"""Ids that a registry gave; the last one holds. Empty: the id of the shipped schema."""


def _header() -> bytes:
    return framing(_framed_with[-1]) if _framed_with else _shipped_header()


@cache
def _shipped_header() -> bytes:
    return framing(id_of(load_alert_schema()))


@cache
def _writer_schema() -> Any:
    return parse_schema(without_logical_types(load_alert_schema()))


@cache
def _reader() -> Reader:
    return reader_of(load_alert_schema())


def _text(value: object) -> str:
    """A value as text: `true`, and numbers without needless digits."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
