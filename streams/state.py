"""State of one partition as an agent sees it for the length of one chunk.

Values are bytes (msgpack) at rest. An object is decoded at most once a chunk, changed in place,
and encoded once when the chunk ends, however many records touched it.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")

encode = msgspec.msgpack.Encoder().encode


class State:
    """A chunk's view over a partition's values: `get`, change in place, `put`."""

    __slots__ = ("_changed", "_objects", "_values", "scratch")

    def __init__(self, values: Mapping[bytes, bytes]) -> None:
        self._values = values
        self._objects: dict[bytes, Any] = {}
        self._changed: dict[bytes, Any] = {}
        self.scratch: dict[Any, Any] = {}
        """What a stage collects during the chunk, to be put into the state when it ends."""

    def get(self, key: bytes, decode: Callable[[bytes], T]) -> T | None:
        """Object under `key`, decoded on first use; None when there is none."""
        objects = self._objects
        if key in objects:
            return cast("T | None", objects[key])
        value = self._values.get(key)
        if value is None:
            return None
        found = objects[key] = decode(value)
        return found

    def put(self, key: bytes, value: Any) -> None:
        """Keep `value` under `key` when the chunk ends; None removes the key."""
        self._objects[key] = self._changed[key] = value

    def keys(self, prefix: bytes, where: Callable[[bytes], bool] = bool) -> list[bytes]:
        """All keys with a prefix that `where` takes, sorted; looks at every key there is."""
        found = {key for key in self._values if key.startswith(prefix) and where(key)}
        for key, value in self._changed.items():
            if key.startswith(prefix) and where(key):
                (found.discard if value is None else found.add)(key)
        return sorted(found)

    @property
    def changed(self) -> Mapping[bytes, Any]:
        """Objects put during this chunk, in the order of their first change."""
        return self._changed

    def encode_changes(self) -> dict[bytes, bytes]:
        """New values of the changed keys; empty for a removed key."""
        return {
            key: b"" if value is None else encode(value) for key, value in self._changed.items()
        }
