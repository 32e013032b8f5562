"""Writer schemas by id: what other versions of a touchpoint schema the registry knows.

Enters a schema id of a record, leaves a schema that is safe and sensible to resolve to the shipped
one, or the reason why there is none. Fetched on first sight, then kept; "unknown" is kept for
`forget_seconds` only, as the registry may learn of it later.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from touchstream.schemas import load_schema
from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.registry import SchemaRegistry

_MISSES = 10_000


class WriterSchema(NamedTuple):
    """A schema of the registry: its record, its form without logical types, and those apart."""

    record: str
    parsed: Any
    units: tuple[tuple[str, str], ...]


class WriterSchemas:
    """The registry's schemas as far as records needed them."""

    def __init__(
        self,
        registry: SchemaRegistry | None,
        *,
        forget_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._forget_seconds = forget_seconds
        self._clock = clock
        self._known: dict[int, WriterSchema] = {}
        self._missing: dict[int, float] = {}

    def parsed_for(self, channel: str, schema_id: int) -> Any:
        """Return the schema if records of it can be read as touchpoints of the channel."""
        schema = self._find(schema_id)
        if schema is None:
            raise PoisonError(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id} is not known")
        mismatch = _mismatch(schema, channel)
        if mismatch:
            raise PoisonError(Reason.WRONG_TYPE, f"schema id {schema_id} {mismatch}")
        return schema.parsed

    def _find(self, schema_id: int) -> WriterSchema | None:
        if schema_id in self._known or self._registry is None:
            return self._known.get(schema_id)
        now = self._clock()
        if self._missing.get(schema_id, float("-inf")) > now:
            return None
        prepared = _prepare(self._registry.writer_schema(schema_id))
        if prepared is not None:
            self._known[schema_id] = prepared
            return prepared
        if len(self._missing) >= _MISSES:  # a flood of made-up ids must not fill the memory
            self._missing.clear()
        self._missing[schema_id] = now + self._forget_seconds
        return None


def _prepare(schema: dict[str, Any] | None) -> WriterSchema | None:
    if schema is None or schema.get("type") != "record":
        return None
    try:
        parsed: Any = parse_schema(without_logical_types(schema))
        _least_bytes(parsed, {})
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, RecursionError):
        return None
    return WriterSchema(parsed["name"], parsed, tuple(_logical_types(schema)))


def without_logical_types(schema: Any) -> Any:
    """Copy a schema without logical types, so that times are read and written as integers."""
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if "logicalType" in schema and isinstance(schema["type"], str) and schema["type"] != "fixed":
        return schema["type"]
    nested = ("type", "items", "values", "fields")
    return {
        key: without_logical_types(value) if key in nested else value
        for key, value in schema.items()
        if key not in ("doc", "logicalType")
    }


def _logical_types(schema: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for field in schema["fields"]:
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for branch in branches:
            if isinstance(branch, dict) and "logicalType" in branch:
                found.append((field["name"], str(branch["logicalType"])))
    return found


@cache
def _shipped(channel: str) -> tuple[str, dict[str, str]]:
    schema = load_schema(channel)
    return f"{schema['namespace']}.{schema['name']}", dict(_logical_types(schema))


def _mismatch(schema: WriterSchema, channel: str) -> str | None:
    record, units = _shipped(channel)
    if schema.record != record:
        return f"is {schema.record}, not {record}"
    for name, unit in schema.units:
        if units.get(name, unit) != unit:
            return f"has {name} as {unit}, not {units[name]}"
    return None


def _least_bytes(schema: Any, named: dict[str, int]) -> int:
    """Fewest bytes a value takes; ValueError where the bytes would not bound depth or size."""
    if isinstance(schema, str):
        return named.get(schema, 0 if schema == "null" else 1)
    if isinstance(schema, list):
        return 1 + min((_least_bytes(branch, named) for branch in schema), default=0)
    kind = schema["type"]
    if kind == "record":
        return _least_record_bytes(schema, named)
    if kind in ("enum", "fixed"):
        named[schema["name"]] = least = int(schema["size"]) if kind == "fixed" else 1
        return least
    if kind in ("array", "map"):
        least = _least_bytes(schema["items" if kind == "array" else "values"], named)
        if kind == "array" and least == 0:
            raise ValueError("items without bytes: a few bytes could stand for any number of them")
        return 1
    return _least_bytes(kind, named)


def _least_record_bytes(schema: dict[str, Any], named: dict[str, int]) -> int:
    name = schema["name"]
    fields = schema["fields"]
    if _mentions(fields, name):
        raise ValueError(f"{name} contains itself: its depth has no bound")
    named[name] = sum(_least_bytes(field["type"], named) for field in fields)
    if named[name] == 0:
        raise ValueError(f"{name} takes no bytes")
    return named[name]


def _mentions(schema: Any, name: str) -> bool:
    if isinstance(schema, dict):
        parts = [schema.get(key) for key in ("type", "items", "values", "fields")]
        return any(_mentions(part, name) for part in parts)
    if isinstance(schema, list):
        return any(_mentions(part, name) for part in schema)
    return bool(schema == name)
