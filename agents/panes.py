"""Metric panes: additive by event time, in minutes, hours and days; absolute, with a version.

When a contribution changes, the old one is subtracted and the new one added, so that every pane
corrects itself after merges, splits and late events. A window is a sum of panes.
"""

from collections.abc import Iterator
from struct import Struct

import msgspec

from touchstream.agents.measures import Measure
from touchstream.schemas import load_metrics
from touchstream.streams.tables import Row

RESOLUTIONS = ((b"m", "minute", 60), (b"h", "hour", 3_600), (b"d", "day", 86_400))
PANE = b"\x03"
DIMENSION = "channel"
_key = Struct(">ccq").pack
_unkey = Struct(">ccq").unpack_from
_HEAD = Struct(">ccq").size
_NAMES = {mark: name for mark, name, _ in RESOLUTIONS}
WITH_SQUARES = {name for name, metric in load_metrics().items() if metric["squares"]}
"""Metrics that keep squares, for intervals."""


class Pane(msgspec.Struct, array_like=True):
    """One pane of one channel: by metric the number of measurements, their sum, and of squares."""

    version: int = 0
    metrics: dict[str, tuple[int, int, int]] = {}

    def add(self, measure: Measure, sign: int) -> None:
        """Add a measurement (sign 1) or take it back (sign -1)."""
        metric, value = measure
        n, total, squares = self.metrics.get(metric, (0, 0, 0))
        square = value * value if metric in WITH_SQUARES else 0
        self.metrics[metric] = n + sign, total + sign * value, squares + sign * square


decode_pane = msgspec.msgpack.Decoder(Pane).decode


def pane_keys(member: str, occurred_at: int) -> Iterator[bytes]:
    """State keys of the panes that hold a moment (ms), one for each resolution."""
    seconds = occurred_at // 1000
    suffix = member.encode()
    for mark, _, length in RESOLUTIONS:
        yield _key(PANE, mark, seconds - seconds % length) + suffix


def pane_rows(key: bytes, pane: Pane, shard: int) -> Iterator[Row]:
    """Rows of `tables.PANES` for one pane."""
    _, mark, start = _unkey(key)
    member = key[_HEAD:].decode()
    for metric, (n, total, squares) in pane.metrics.items():
        resolution = _NAMES[mark]
        yield (
            metric,
            DIMENSION,
            member,
            resolution,
            start,
            shard,
            n,
            total,
            squares,
            pane.version,
        )
