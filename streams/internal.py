"""Reading a record that another agent wrote: its key, its value and its body."""

from touchstream.streams.dead_letters import Reason
from touchstream.streams.errors import PoisonError
from touchstream.streams.positions import POSITION_BYTES
from touchstream.streams.records import Record

KEY_BYTES = 16


def unframe(record: Record) -> tuple[bytes, bytes, bytes]:
    """Key, value (which starts with the position) and body; raises PoisonError when it is none."""
    key, value = record.key, record.value
    if value is None:
        raise PoisonError(Reason.NULL_VALUE, "an internal record has no value")
    if key is None or len(key) != KEY_BYTES or len(value) <= POSITION_BYTES:
        raise PoisonError(Reason.BAD_FRAMING, "not a record that an agent wrote")
    return key, value, value[POSITION_BYTES:]
