"""Metric panes: additive by event time, in minutes, hours and days; absolute, with a version.

When a measurement changes, the old one is subtracted and the new one added, so that every pane
corrects itself after merges, splits and late events. A window is a sum of panes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from math import ceil, log
from struct import Struct

import msgspec

from touchstream.agents.ledger import Measurement, Member, Members
from touchstream.agents.levels import changes_of
from touchstream.streams.catalogue import Catalogue
from touchstream.streams.state import State
from touchstream.streams.table import Row
from touchstream.streams.topics import DAY_MS

MINUTE_MS = 60_000
RESOLUTIONS = ((b"m", "minute", 1), (b"h", "hour", 60), (b"d", "day", 1440))
"""Mark in state keys, name, length in minutes."""
PANE = b"\x03"
MEMBERS = b"\x04"
MEASURED, CHANGED = "measured", "changed"
"""What a chunk collects: measures by members and minute, changes of levels by member."""
OTHER = "(other)"
"""Stands for all members beyond those that a dimension may have."""
ACCURACY = 0.01
"""Relative error of quantiles; buckets are powers of gamma (Masson, Rim, Lee: DDSketch, 2019)."""
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
ZERO_BUCKET = -1
_LOG_GAMMA = log(GAMMA)
_key = Struct(">ccq").pack
_unkey = Struct(">ccq").unpack_from
_HEAD = Struct(">ccq").size
_NAMES = {mark: name for mark, name, _ in RESOLUTIONS}


class Pane(msgspec.Struct, array_like=True):
    """One pane of one member, by measure."""

    sums: dict[str, tuple[int, int, int, int]] = {}
    """Number of measurements, their sum, the sum of their squares, and number of changes."""
    buckets: dict[str, dict[int, int]] = {}
    """Histograms: number of measurements by bucket."""


class Added:
    """What a chunk adds to the panes of one measure."""

    __slots__ = ("buckets", "changes", "n", "squares", "total")

    def __init__(self) -> None:
        self.n = self.total = self.squares = self.changes = 0
        self.buckets: dict[int, int] = {}


decode_pane = msgspec.msgpack.Decoder(Pane).decode
_decode_members: Callable[[bytes], set[str]] = msgspec.msgpack.Decoder(set[str]).decode


@lru_cache(10_000)
def bucket_of(value: int) -> int:
    """Bucket of a measurement."""
    return ceil(log(value) / _LOG_GAMMA) if value > 0 else ZERO_BUCKET


class Panes:
    """Adds measurements to the panes of a catalogue: what a chunk adds is summed up first."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._squares = {name for name, each in catalogue.measures.items() if each.squares}
        self._histograms = {name for name, each in catalogue.measures.items() if each.histogram}
        self._most = {name: each.members for name, each in catalogue.dimensions.items()}
        self._windows = catalogue.day_windows
        self._steps = {
            name: RESOLUTIONS if each.finest == "minute" else RESOLUTIONS[1:]
            for name, each in catalogue.dimensions.items()
        }

    def add(self, entries: Iterable[tuple[Measurement, int]], state: State) -> None:
        """Add each measurement as often as its number says; less than 0 takes it back.

        Which members get panes of their own is decided here, record by record: at the end of a
        chunk it would depend on where the chunk ends.
        """
        groups = state.scratch.setdefault(MEASURED, {})
        changed = state.scratch.setdefault(CHANGED, {})
        for (measure, at, value, members, level), number in entries:
            if level:
                levels = changed.get(members[0])
                if levels is None:
                    levels = changed[members[0]] = {}
                    self._known(members[0], state)
                total, changes = levels.get((measure, at), (0, 0))
                levels[measure, at] = total + number * value, changes + 1
                continue
            minute = members, at // MINUTE_MS
            measures = groups.get(minute)
            if measures is None:
                measures = groups[minute] = {}
                for member in members:
                    self._known(member, state)
            added = measures.get(measure)
            if added is None:
                added = measures[measure] = Added()
            added.changes += 1
            added.n += number
            added.total += number * value
            if measure in self._squares:
                added.squares += number * value * value
            if measure in self._histograms:
                bucket = bucket_of(value)
                added.buckets[bucket] = added.buckets.get(bucket, 0) + number

    def flush(self, shard: int, state: State) -> Iterator[Row]:
        """Put what was added into the panes; rows of `tables.PANES` that change."""
        changed: dict[bytes, dict[str, None]] = {}
        groups = state.scratch.get(MEASURED, {}).items()
        levels = state.scratch.get(CHANGED, {}).items()
        for key, measures in chain(
            chain.from_iterable(
                self._of_measures(at[0], at[1], found, state) for at, found in groups
            ),
            chain.from_iterable(self._of_levels(member, found, state) for member, found in levels),
        ):
            pane = state.get(key, decode_pane) or Pane()
            for measure, added in measures.items():
                _add(pane, measure, added)
            changed.setdefault(key, {}).update(dict.fromkeys(measures))
            state.put(key, pane)
        for key, names in changed.items():
            pane = state.get(key, decode_pane) or Pane()
            yield from pane_rows(key, pane, names, shard)

    def _of_measures(
        self, members: Members, minute: int, measures: Mapping[str, Added], state: State
    ) -> Iterator[tuple[bytes, Mapping[str, Added]]]:
        """State keys of all panes that hold a minute, one for each member and resolution."""
        for member in members:
            dimension, name = self._known(member, state)
            suffix = f"{dimension}\0{name}".encode()
            for mark, _, minutes in self._steps.get(dimension, ()):
                yield _key(PANE, mark, (minute - minute % minutes) * 60) + suffix, measures

    def _of_levels(
        self, member: Member, levels: Mapping[tuple[str, int], tuple[int, int]], state: State
    ) -> Iterator[tuple[bytes, Mapping[str, Added]]]:
        """State keys of the days on which levels change, and their changes."""
        days: dict[int, dict[str, Added]] = {}
        for (level, at), (total, changes) in levels.items():
            for each, day, by in changes_of(level, at // DAY_MS, self._windows):
                added = days.setdefault(day, {}).setdefault(each, Added())
                added.total += by * total
                added.changes += changes
        dimension, name = self._known(member, state)
        suffix = f"{dimension}\0{name}".encode()
        for day, measures in days.items():
            yield _key(PANE, b"d", day * DAY_MS // 1000) + suffix, measures

    def _known(self, member: Member, state: State) -> Member:
        """The member, or the one that stands for those beyond the limit."""
        dimension, name = member
        most = self._most.get(dimension)
        if most is None:
            return member
        key = MEMBERS + dimension.encode()
        known = state.get(key, _decode_members)
        if known is not None and name in known:
            return member
        known = known or set()
        if len(known) >= most:
            return dimension, OTHER
        state.put(key, known | {name})
        return member


def pane_rows(key: bytes, pane: Pane, measures: Iterable[str], shard: int) -> Iterator[Row]:
    """Rows of `tables.PANES` for some measures of one pane."""
    _, mark, start = _unkey(key)
    dimension, _, member = key[_HEAD:].decode().partition("\0")
    for measure in measures:
        *sums, version = pane.sums[measure]
        buckets = pane.buckets.get(measure, {})
        where = (measure, dimension, member, _NAMES[mark], start, shard)
        yield (*where, *sums, buckets, version)


def _add(pane: Pane, measure: str, added: Added) -> None:
    n, total, squares, changes = pane.sums.get(measure, (0, 0, 0, 0))
    pane.sums[measure] = (
        n + added.n,
        total + added.total,
        squares + added.squares,
        changes + added.changes,
    )
    if added.buckets:
        histogram = pane.buckets.setdefault(measure, {})
        for bucket, number in added.buckets.items():
            histogram[bucket] = histogram.get(bucket, 0) + number
