"""Exactly once between agents: a reader remembers the highest position of each upstream partition.

Agents are deterministic, so a replay writes the same records with the same positions; whatever is
not above the highest position seen is a repetition. The memory is part of the reader's state and
becomes durable in the same record batch as everything else.
"""

from struct import Struct

import msgspec

from touchstream.streams.records import Position
from touchstream.streams.state import State

PREFIX = b"\x01"
_key = Struct(">cQI").pack
_decode = msgspec.msgpack.Decoder(tuple[int, int]).decode


def is_new(position: Position, state: State) -> bool:
    """True once for each position of an upstream partition, which it then remembers."""
    source, partition, offset, sequence = position
    key = _key(PREFIX, source, partition)
    highest = state.get(key, _decode)
    if highest is not None and (offset, sequence) <= highest:
        return False
    state.put(key, (offset, sequence))
    return True
