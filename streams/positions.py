"""Exactly once between agents: where an internal record comes from, and whether it was seen before.

Every record an agent writes starts with its position: the upstream topic as it exists now (a hash
of Kafka's topic id, so that a topic that was created again does not look like a replay), partition
and offset of the input record that caused it, and a sequence number among that record's outputs.
Agents are deterministic, so a replay writes the same records with the same positions; the reader
remembers the highest position of each upstream partition and skips what is not above it. The memory
is part of the reader's state and becomes durable in the same record batch as everything else.
"""

from struct import Struct

import msgspec

from touchstream.streams.state import State

_INPUT = Struct(">QIQ").pack
_SEQUENCE = Struct(">I").pack
_UPSTREAM_BYTES = 12
POSITION_BYTES = 24
PREFIX = b"\x01"
"""Of the state keys that remember positions."""
_decode = msgspec.msgpack.Decoder(bytes).decode


def input_position(source: int, partition: int, offset: int) -> bytes:
    """First part of the positions of all records that one input record causes."""
    return _INPUT(source, partition, offset)


def frame(cause: bytes, sequence: int, body: bytes) -> bytes:
    """Value of an internal record: its position, then its body."""
    return cause + _SEQUENCE(sequence) + body


def is_new(value: bytes, state: State) -> bool:
    """True once for each position of an upstream partition, which it then remembers.

    Positions are big-endian, so their bytes are in the order of (offset, sequence).
    """
    key = PREFIX + value[:_UPSTREAM_BYTES]
    place = value[_UPSTREAM_BYTES:POSITION_BYTES]
    highest = state.get(key, _decode)
    if highest is not None and place <= highest:
        return False
    state.put(key, place)
    return True
