"""Touchpoints to bytes and back: Confluent framing (0, four bytes of schema id) around Avro.

`decode` turns any bytes into a dict with every field of the channel's schema (times are
epoch milliseconds) or raises PoisonError with a reason; with a registry it may also raise
TransientError while it fetches a writer schema that it has not met before, and may block for it.
`encode` takes a touchpoint that `validate_touchpoint` accepts.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from io import BytesIO
from struct import error as StructError
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import to_parsing_canonical_form

from touchstream.schemas import load_schema
from touchstream.streams.avro_reader import reader_of
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.fields import LONGEST, shape_of
from touchstream.streams.moments import epoch_ms
from touchstream.streams.registry import connect_registry, publishing_ids, shipped_id
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CHANNELS
from touchstream.streams.validation import InvalidTouchpoint, Touchpoint
from touchstream.streams.writer_schemas import WriterSchemas, without_logical_types

HEADER_BYTES = 5
Decode = Callable[[bytes], dict[str, Any]]


def framing(schema_id: int) -> bytes:
    """First bytes of every record of a schema."""
    return b"\x00" + schema_id.to_bytes(4, "big")


class TouchpointCodec:
    """Encodes and decodes the touchpoints of all channels; built once, with the ids to publish."""

    def __init__(
        self,
        *,
        max_payload_bytes: int,
        ids: Mapping[str, int] | None = None,
        writers: WriterSchemas | None = None,
    ) -> None:
        self._limit_bytes = max_payload_bytes
        self._writers = writers or WriterSchemas(None)
        self._schemas = {c: parse_schema(without_logical_types(load_schema(c))) for c in CHANNELS}
        ids = {channel: shipped_id(channel) for channel in CHANNELS} if ids is None else ids
        self._framing = {channel: framing(schema_id) for channel, schema_id in ids.items()}
        self._decoders: dict[str, dict[bytes, Decode]] = {c: {} for c in CHANNELS}
        for channel in CHANNELS:
            decode = _shipped_decoder(channel)
            self._decoders[channel][framing(shipped_id(channel))] = decode
            if channel in self._framing:
                self._decoders[channel][self._framing[channel]] = decode

    @classmethod
    def from_settings(
        cls, settings: Settings, *, channels: Iterable[str] = ()
    ) -> "TouchpointCodec":
        """Build it with the registry's schemas, if one is set; asks for the ids of `channels`."""
        registry = connect_registry(settings.schema_registry_url)
        ids = publishing_ids(channels, registry=registry, topic_prefix=settings.topic_prefix)
        return cls(
            max_payload_bytes=settings.max_payload_bytes, ids=ids, writers=WriterSchemas(registry)
        )

    def encode(self, channel: str, touchpoint: Touchpoint) -> bytes:
        """Frame and encode a valid touchpoint; aware datetimes become epoch milliseconds."""
        record = dict(touchpoint)
        for name in shape_of(channel).times:
            if isinstance(moment := record.get(name), datetime):
                record[name] = epoch_ms(moment)
        stream = BytesIO()
        stream.write(self._framing[channel])
        try:
            schemaless_writer(stream, self._schemas[channel], record)
        except (ValueError, OverflowError) as error:
            raise _unencodable(channel, record, error) from None
        value = stream.getvalue()
        if len(value) > self._limit_bytes:
            text = f"takes {len(value)} bytes, above the limit of {self._limit_bytes}"
            raise InvalidTouchpoint(channel, "payload", text)
        return value

    def decode(self, channel: str, value: bytes | None) -> dict[str, Any]:
        """Decode one record's value; raises PoisonError with the reason it cannot be read."""
        if value is None:
            raise PoisonError(Reason.NULL_VALUE, "the record has no value")
        if len(value) > self._limit_bytes:
            text = f"{len(value)} bytes, above the limit of {self._limit_bytes}"
            raise PoisonError(Reason.TOO_LARGE, text)
        decode = self._decoders[channel].get(value[:HEADER_BYTES])
        if decode is None:
            decode = self._decoder_of(channel, value)
        return decode(value)

    def _decoder_of(self, channel: str, value: bytes) -> Decode:
        header = value[:HEADER_BYTES]
        if len(header) < HEADER_BYTES:
            raise PoisonError(Reason.BAD_FRAMING, f"only {len(value)} bytes")
        if header[0] != 0:
            raise PoisonError(Reason.BAD_FRAMING, f"the first byte is {header[0]}, not 0")
        schema_id = int.from_bytes(header[1:], "big")
        for other in CHANNELS:
            if self._framing.get(other) == header or framing(shipped_id(other)) == header:
                text = f"schema id {schema_id} is of channel {other}, not {channel}"
                raise PoisonError(Reason.WRONG_TYPE, text)
        writer = self._writers.parsed_for(channel, schema_id)
        reader = self._schemas[channel]
        if to_parsing_canonical_form(writer) == to_parsing_canonical_form(reader):
            decode = _shipped_decoder(channel)
        else:
            decode = _resolving_decoder(channel, writer, reader)
        self._decoders[channel][header] = decode
        return decode


def _shipped_decoder(channel: str) -> Decode:
    read = reader_of(load_schema(channel))

    def decode(value: bytes) -> dict[str, Any]:
        try:
            touchpoint, end = read(value, HEADER_BYTES)
        except (IndexError, StructError):
            raise PoisonError(Reason.TRUNCATED, f"ends after {len(value)} bytes") from None
        except UnicodeDecodeError as error:
            raise _not_utf8(error, value) from None
        except ValueError as error:
            raise PoisonError(Reason.WRONG_TYPE, str(error)) from None
        if end != len(value):
            raise _wrong_end(end, len(value))
        decoded: dict[str, Any] = touchpoint
        return decoded

    return decode


def _resolving_decoder(channel: str, writer: Any, reader: Any) -> Decode:
    collections = shape_of(channel).collections

    def decode(value: bytes) -> dict[str, Any]:
        stream = BytesIO(value)
        stream.seek(HEADER_BYTES)
        try:
            touchpoint: Any = schemaless_reader(stream, writer, reader)
        except UnicodeDecodeError as error:
            raise _not_utf8(error, value) from None
        except Exception as error:  # fastavro meets foreign bytes: what it raises is not documented
            if stream.tell() >= len(value):
                raise PoisonError(Reason.TRUNCATED, f"ends after {len(value)} bytes") from None
            raise PoisonError(Reason.WRONG_TYPE, f"{type(error).__name__}: {error}") from None
        if stream.tell() != len(value):
            raise _wrong_end(stream.tell(), len(value))
        for name in collections:  # fastavro puts the schema's own default in: never share it
            if not touchpoint[name]:
                touchpoint[name] = type(touchpoint[name])()
        decoded: dict[str, Any] = touchpoint
        return decoded

    return decode


def _wrong_end(end: int, size: int) -> PoisonError:
    if end > size:
        return PoisonError(Reason.TRUNCATED, f"ends after {size} bytes")
    return PoisonError(Reason.WRONG_TYPE, f"{size - end} bytes follow the touchpoint")


def _not_utf8(error: UnicodeDecodeError, value: bytes) -> PoisonError:
    if error.reason == "unexpected end of data" and value.endswith(bytes(error.object)):
        return PoisonError(Reason.TRUNCATED, f"ends after {len(value)} bytes, within a character")
    return PoisonError(Reason.WRONG_TYPE, f"text that is not UTF-8: {error.reason}")


def _unencodable(channel: str, record: dict[str, Any], error: Exception) -> InvalidTouchpoint:
    """Name the field; looking for it before encoding would cost every touchpoint."""
    for name, value in record.items():
        if isinstance(value, int) and not -LONGEST <= value < LONGEST:
            return InvalidTouchpoint(channel, name, "is beyond 64 bits")
        if not isinstance(value, int | float) and _has_surrogate(value):
            return InvalidTouchpoint(channel, name, "contains half of a surrogate pair")
    return InvalidTouchpoint(channel, "touchpoint", f"cannot be encoded: {error}")


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, Mapping):
        return any(_has_surrogate(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple) and any(_has_surrogate(entry) for entry in value)
