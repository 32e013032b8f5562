"""Fields of a channel's touchpoints, read off its schema, and the values that fit them.

Enters a channel or a value, leaves its `Shape` or what is wrong with the value's type. Pure.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from touchstream.schemas import load_schema

LONGEST = 1 << 63


class Field(NamedTuple):
    """A field: `kind` is an Avro type, `time`, `booleans`, `texts`, or the name of a record."""

    name: str
    kind: str
    nullable: bool
    required: bool


class Shape(NamedTuple):
    """A channel's fields, sorted for quick checks; `plain` has types that need no second look."""

    fields: dict[str, Field]
    plain: dict[str, frozenset[type]]
    required: tuple[str, ...]
    times: tuple[str, ...]
    doubles: tuple[str, ...]
    durations: tuple[str, ...]

    @property
    def collections(self) -> list[str]:
        """Names of the lists and mappings."""
        kinds = ("booleans", "texts", *_RECORDS)
        return [field.name for field in self.fields.values() if field.kind in kinds]


@cache
def shape_of(channel: str) -> Shape:
    """Shape of a channel's touchpoints."""
    fields = {field["name"]: _field(field) for field in load_schema(channel)["fields"]}
    return Shape(
        fields=fields,
        plain={name: _plain_types(field) for name, field in fields.items()},
        required=tuple(name for name, field in fields.items() if field.required),
        times=tuple(name for name, field in fields.items() if field.kind == "time"),
        doubles=tuple(name for name, field in fields.items() if field.kind == "double"),
        durations=tuple(name for name in fields if name.endswith("_ms")),
    )


def _field(field: dict[str, Any]) -> Field:
    nullable = isinstance(field["type"], list)
    kind = _kind(field["type"][1] if nullable else field["type"])
    # Avro lets an empty list stand for identifiers, the rules do not.
    return Field(field["name"], kind, nullable, "default" not in field or kind == "Identifier")


def _kind(avro_type: Any) -> str:
    if isinstance(avro_type, str):
        return avro_type
    if "logicalType" in avro_type:
        return "time"
    if avro_type["type"] == "map":
        return {"boolean": "booleans", "string": "texts"}[avro_type["values"]]
    return str(avro_type["items"]["name"])


def _plain_types(field: Field) -> frozenset[type]:
    """Whole numbers of 32 bits, datetimes, lists and mappings are not plain."""
    plain = _PLAIN.get(field.kind, ())
    return frozenset((*plain, type(None)) if field.nullable else plain)


_PLAIN: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "long": (int,),
    "time": (int,),
    "double": (float, int),
    "boolean": (bool,),
}
_EXPECTED: dict[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "text"),
    "int": (int, "a whole number of at most 32 bits"),
    "long": (int, "a whole number of at most 64 bits"),
    "double": ((float, int), "a number"),
    "boolean": (bool, "true or false"),
    "time": ((int, datetime), "a datetime with a time zone, or milliseconds since 1970"),
}
_RECORDS: dict[str, tuple[Field, ...]] = {
    "Identifier": (
        Field("kind", "string", False, True),
        Field("value", "string", False, True),
        Field("verified", "boolean", False, False),
    ),
    "Item": (
        Field("sku", "string", False, True),
        Field("quantity", "long", True, False),
        Field("price", "double", False, True),
    ),
}


def type_problem(field: Field, value: Any) -> str | None:
    """Say what is wrong with the type of a value; None if nothing is."""
    if value is None:
        return None if field.nullable else "must not be null"
    if field.kind in ("booleans", "texts"):
        return _mapping_problem(bool if field.kind == "booleans" else str, value)
    if field.kind in _RECORDS:
        return _list_problem(field.kind, value)
    wanted, name = _EXPECTED[field.kind]
    fits = isinstance(value, wanted) and (field.kind == "boolean" or not isinstance(value, bool))
    if fits and isinstance(value, int) and field.kind in ("int", "long", "time"):
        limit = 1 << 31 if field.kind == "int" else LONGEST
        fits = -limit <= value < limit
    if not fits:
        return f"must be {name}, is {_shown(value)}"
    if isinstance(value, datetime) and value.utcoffset() is None:
        return f"has no time zone: {value.isoformat()} could be any"
    return None


def _mapping_problem(wanted: type, value: Any) -> str | None:
    if type(value) is not dict and not isinstance(value, Mapping):
        return f"must be a mapping, is {_shown(value)}"
    for key, entry in value.items():
        if not isinstance(key, str):
            return f"must have text as keys, has {_shown(key)}"
        if not isinstance(entry, wanted):
            kind = "true or false" if wanted is bool else "text"
            return f"has {key!r}, which must be {kind}, as {_shown(entry)}"
    return None


def _list_problem(kind: str, value: Any) -> str | None:
    if type(value) is not list and not isinstance(value, list | tuple):
        return f"must be a list, is {_shown(value)}"
    for number, entry in enumerate(value, 1):
        if kind == "Identifier" and _is_plain_identifier(entry):
            continue
        if not isinstance(entry, Mapping):
            return f"must have mappings as entries, number {number} is {_shown(entry)}"
        problem = _entry_problem(_RECORDS[kind], entry)
        if problem:
            return f"number {number}: {problem}"
    return None


def _is_plain_identifier(entry: Any) -> bool:
    """Whether the usual form needs no second look: one comes with every touchpoint."""
    return (
        type(entry) is dict
        and type(value := entry.get("value")) is str
        and type(kind := entry.get("kind")) is str
        and bool(value.strip() and kind.strip())
        and (len(entry) == 2 or (len(entry) == 3 and type(entry.get("verified")) is bool))
    )


def _entry_problem(fields: tuple[Field, ...], entry: Mapping[Any, Any]) -> str | None:
    known = 0
    for field in fields:
        if field.name in entry:
            known += 1
            value = entry[field.name]
            problem = type_problem(field, value)
            if problem:
                return f"{field.name} {problem}"
            if field.required and field.kind == "string" and not value.strip():
                return f"{field.name} is empty"
        elif field.required:
            return f"{field.name} is missing"
    if known == len(entry):
        return None
    names = [field.name for field in fields]
    odd = next(name for name in entry if name not in names)
    return f"{odd!r} is not one of {', '.join(names)}"


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    return f"{type(value).__name__} {str(value)[:40]!r}"
