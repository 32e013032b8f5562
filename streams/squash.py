"""The squash: puts the customers of moved identities into their facts, so that overrides may go.

A fact says: at version v its identity was customer c. An override says: at version V the identity
became customer C. Both stay true for ever, because an identity alone decides whose it is, and every
change has a version. Readers take what has the higher version (the view `touchpoints`), so a fact
shows the right customer as long as this holds of each identity that has moved:

    Its latest override is there, or all its facts are of that version or a later one.

What keeps it so, with steps in any order, by several at once, dying anywhere, and with rows that
are written again at any time:

- Facts first: stitch stores a fact before an override of a later version (`Table.last`). So after
  the grace an override is seen together with all facts that it is for, on every replica. No other
  will come: a fact that is written again has the key of one that is there.
- Fold: facts of lower versions are written again, with the customer and version of the override.
  Their precedence is above that of any fact as it first came, and grows with the version. So what
  is written again later, by a worker or by another squash, does not win against them.
- Settle: an override is marked when no fact is of a lower version. One statement looks and marks,
  so the mark is for the version that was looked at; and it stays true.
- Drop: a marked override is deleted in its version. Queries that had begun before the fold have
  ended by then. An override of a later version outranks the deletion; one of that version or a
  lower one that comes back holds for no fact.

Fold and settle take overrides that were written at least `squash_grace_seconds` ago, by the clock
of ClickHouse; drop takes marks of that age. Nothing is deleted from facts; what they said first is
kept in `customer_id_then`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import Failure, connect, failure_of
from touchstream.streams.settings import Settings
from touchstream.streams.tables import FACTS, MARKS, OVERRIDES

log = logging.getLogger(__name__)
MOST = 20_000
"""Identities of one batch."""
FOLDED = 1 << 63
"""Precedence of a folded fact, less its version; a fact as it came has at most this."""
LEAST_REST = 10
"""Batches take at most one part in this many of the time."""
TIMEOUT_SECONDS = 300
STOP_SECONDS = 5.0
SETTINGS = {"max_threads": 2, "max_execution_time": TIMEOUT_SECONDS}
"""A batch leaves the other cores of the server to readers."""

# Of an identity that was erased nothing is written again while its facts are being deleted.
_OLD = f"""(SELECT * FROM {OVERRIDES.name} FINAL
    WHERE written_at <= now64(3) - toIntervalMillisecond({{grace_ms:UInt64}})
    AND identity NOT IN (SELECT identity FROM {MARKS.name} WHERE mark = 'erased'))"""
_RANGE = "identity >= {first:String} AND identity <= {last:String}"
_DUE = f"(SELECT * FROM {_OLD} WHERE NOT settled AND {_RANGE})"
# PREWHERE before FINAL is right because it is about the key; other columns are read of few rows.
_FACTS = f"""{FACTS.name} FINAL
    PREWHERE {_RANGE} AND identity IN (SELECT identity FROM {_DUE})"""
# In the order of identities, as facts are stored: a batch reads and writes a narrow range of them.
_BATCH = f"""SELECT min(identity), max(identity), count()
FROM (SELECT identity FROM {_OLD} WHERE NOT settled ORDER BY identity LIMIT {{most:UInt64}})"""
_LEFT = f"SELECT count() FROM {_DUE}"
_SETTLED = f"SELECT count() FROM {_OLD} WHERE settled"
_DROP = f"""INSERT INTO {OVERRIDES.name} (identity, customer_id, version, settled, is_deleted)
SELECT identity, customer_id, version, settled, 1 FROM {_OLD} WHERE settled"""
_SETTLE = f"""INSERT INTO {OVERRIDES.name} (identity, customer_id, version, settled)
SELECT o.identity, o.customer_id, o.version, true
FROM {_DUE} AS o
LEFT JOIN
(
    SELECT identity, min(identity_version) AS lowest FROM {_FACTS} GROUP BY identity
) AS f ON f.identity = o.identity
WHERE f.identity = '' OR f.lowest >= o.version
SETTINGS join_use_nulls = 0"""
_FOLDED_COLUMNS = {
    "customer_id": "o.customer_id",
    "precedence": f"toUInt64({FOLDED}) + o.version",
    "identity_version": "o.version",
}


def fold_statement(columns: list[str]) -> str:
    """Write facts again: `columns` are all that a fact has as it comes."""
    values = [_FOLDED_COLUMNS.get(name, f"f.{name}") for name in columns]
    return f"""INSERT INTO {FACTS.name} ({", ".join(columns)}, customer_id_then)
SELECT {", ".join(values)}, if(f.customer_id_then = '', f.customer_id, f.customer_id_then)
FROM (SELECT * FROM {_FACTS}) AS f
INNER JOIN {_DUE} AS o ON f.identity = o.identity
WHERE f.identity_version < o.version"""


_FOLD = fold_statement(FACTS.column_names)


@dataclass(frozen=True)
class Squashed:
    """What a batch did."""

    taken: int
    """Identities that were due."""
    settled: int
    """Of these, those whose facts all have their customer now."""
    dropped: int
    """Overrides."""
    is_full: bool = False
    """Whether more identities may be due."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be done now."""
        return not self.is_full or self.settled == 0


class Squash:
    """Does one batch after the other; used by one thread at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        most: int = MOST,
        connect: Callable[..., Client] = connect,
    ) -> None:
        self._settings = settings
        self._most = most
        self._connect = connect
        self._client: Client | None = None

    def batch(self) -> Squashed:
        """Drop what is settled, then fold and settle the next identities."""
        dropped = self._number(_SETTLED)
        if dropped:
            self._do(_DROP)
        first, last, taken = self._row(_BATCH, most=self._most)
        if not taken:
            return Squashed(0, 0, dropped)
        places = {"first": first, "last": last}
        self._do(_FOLD, **places)
        self._do(_SETTLE, **places)
        settled = max(0, taken - self._number(_LEFT, **places))
        return Squashed(taken, settled, dropped, is_full=taken == self._most)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()

    def _number(self, sql: str, **names: Any) -> int:
        return int(self._row(sql, **names)[0])

    def _row(self, sql: str, **names: Any) -> Sequence[Any]:
        row: Sequence[Any] = self._opened().query(sql, self._names(names)).result_rows[0]
        return row

    def _do(self, sql: str, **names: Any) -> None:
        self._opened().command(sql, self._names(names), settings=SETTINGS)

    def _names(self, names: dict[str, Any]) -> dict[str, Any]:
        return {"grace_ms": round(1000 * self._settings.squash_grace_seconds), **names}

    def _opened(self) -> Client:
        if self._client is None:
            self._client = self._connect(
                self._settings, send_receive_timeout=TIMEOUT_SECONDS, dedicated_pool=True
            )
        return self._client


class Squasher:
    """Squashes every `squash_seconds`; a batch that is full is followed by the next one sooner."""

    def __init__(
        self,
        settings: Settings,
        *,
        squash: Squash | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._seconds = settings.squash_seconds
        self._squash = squash or Squash(settings)
        self._sleep = sleep
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="squash")

    async def run(self) -> None:
        """Squash until cancelled; with 0 for `squash_seconds` never."""
        while self._seconds:
            started = self._clock()
            is_over = await self._squash_once()
            rest = (LEAST_REST - 1) * (self._clock() - started)
            await self._sleep(max(rest, self._seconds) if is_over else rest)

    async def close(self) -> None:
        """Close the connection; a batch that is under way has a few seconds to end."""
        loop = asyncio.get_running_loop()
        closed = loop.run_in_executor(self._thread, self._squash.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait([closed], timeout=STOP_SECONDS)

    async def _squash_once(self) -> bool:
        """Do a batch; True when nothing more can be done now."""
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, self._squash.batch)
        except Exception as error:  # the edge: a batch that failed is done again
            level = logging.WARNING if failure_of(error) is Failure.TRANSIENT else logging.ERROR
            log.log(level, "facts not squashed, tried again later: %s", error)
            return True
        if done.taken or done.dropped:
            log.info("squashed identities=%d dropped=%d", done.settled, done.dropped)
        return done.is_over
