"""The closed loop on time: alerts about what comes true without a record, raised once each.

Customers that fall silent for longer than usual, and targets that are missed. Every `watch_seconds`
ClickHouse is asked for both; what has no alert yet goes to `cx.alerts`, then to `alert_records`.
One worker is to run this. A crash between the two repeats an alert, under the same id.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from touchstream.streams.alerts import Alert, alert_about, alert_row, encode_alert
from touchstream.streams.clickhouse import connect
from touchstream.streams.customer_tables import ALERTS as ALERT_ROWS
from touchstream.streams.log import Log, Sink
from touchstream.streams.settings import Settings
from touchstream.streams.targets import described
from touchstream.streams.topics import ALERTS, partition_of

log = logging.getLogger(__name__)
CHURN_RISK, TARGET_MISSED = "churn_risk", "target_missed"
AT_ONCE = 1_000
"""Alerts of one batch and of one insert."""
MOST = 5_000
"""Customers of one round; the others come in the next ones."""
TIMEOUT_SECONDS = 60
# Silent since: who was bought from again has a later version, which FINAL shows. The inner query
# reads one column, so that FINAL has few customers to look at.
_AT_RISK = """WITH fromUnixTimestamp64Milli(%(now)s, 'UTC') AS moment
SELECT customer_id, toString(at_risk_from) AS since, toString(last_order_at) AS ordered, orders,
    usual_gap_days
FROM customer_states FINAL
WHERE customer_id IN
    (
        SELECT customer_id FROM customer_states
        WHERE at_risk_from > moment - INTERVAL 1 DAY AND at_risk_from <= moment
    )
    AND is_deleted = 0 AND at_risk_from > moment - INTERVAL 1 DAY AND at_risk_from <= moment
    AND (customer_id, since) NOT IN
    (
        SELECT customer_id, evidence['at_risk_from'] FROM alert_records
        WHERE kind = %(kind)s AND raised_at > moment - INTERVAL 3 DAY
    )
ORDER BY at_risk_from, customer_id LIMIT %(most)s"""
_MISSED = """SELECT target_id, metric, window, dimension, member, direction, target, n, value, low,
    high, unit
FROM experience_gap WHERE status = 'missed' ORDER BY target_id"""
_KNOWN = """SELECT alert_id FROM alert_records
WHERE kind IN %(kinds)s AND alert_id IN %(ids)s"""


class Watch:
    """Finds and raises what is due; `run` goes on until it is cancelled."""

    def __init__(
        self,
        settings: Settings,
        alerts: Log,
        rows: Sink,
        *,
        raised: Callable[[Alert], object] = lambda alert: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        connect: Callable[..., Client] = connect,
    ) -> None:
        """`alerts` and `rows` are where they go; `raised` is told of each."""
        self._settings = settings
        self._alerts = alerts
        self._rows = rows
        self._raised = raised
        self._clock = clock
        self._sleep = sleep
        self._connect = connect
        self._client: Client | None = None

    async def run(self) -> None:
        """Watch every `watch_seconds`; 0 is never. A round that fails is tried again."""
        if not self._settings.watch_seconds:
            return
        try:
            while True:
                try:
                    await self.watch_once()
                except Exception as error:  # the edge: whatever it is, the worker goes on
                    log.warning("watch failed, tried again later: error=%r", error)
                await self._sleep(self._settings.watch_seconds)
        finally:
            self.close()

    async def watch_once(self) -> list[Alert]:
        """Raise what is due; returns it."""
        raised: list[Alert] = []
        due = await asyncio.to_thread(self._due)
        for start in range(0, len(due), AT_ONCE):
            batch = due[start : start + AT_ONCE]
            known = await asyncio.to_thread(self._known, batch)
            new = [alert for alert in batch if alert.alert_id not in known]
            await self._raise(new)
            raised += new
        return raised

    def close(self) -> None:
        """Close the connection to ClickHouse, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _raise(self, alerts: Sequence[Alert]) -> None:
        if not alerts:
            return
        partition = partition_of(bytes.fromhex(alerts[0].alert_id), self._settings.partitions)
        entries = [(None, encode_alert(alert), ()) for alert in alerts]
        await self._alerts.append(ALERTS, partition, entries)
        await self._rows.insert({ALERT_ROWS: [alert_row(alert) for alert in alerts]})
        for alert in alerts:
            self._raised(alert)

    def _due(self) -> list[Alert]:
        now_ms = int(self._clock() * 1000)
        names = {"now": now_ms, "kind": CHURN_RISK, "most": MOST}
        alerts = [churn_risk(row, now_ms) for row in self._select(_AT_RISK, names)]
        return alerts + [target_missed(row, now_ms) for row in self._select(_MISSED, {})]

    def _known(self, alerts: Sequence[Alert]) -> set[str]:
        kinds = tuple({alert.kind for alert in alerts})
        names = {"kinds": kinds, "ids": tuple(alert.alert_id for alert in alerts)}
        return {str(row["alert_id"]) for row in self._select(_KNOWN, names)}

    def _select(self, sql: str, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._client is None:
            self._client = self._connect(
                self._settings, send_receive_timeout=TIMEOUT_SECONDS, dedicated_pool=True
            )
        rows: Iterator[dict[str, Any]] = self._client.query(sql, parameters=names).named_results()
        return rows


def churn_risk(row: dict[str, Any], now_ms: int) -> Alert:
    """Alert about a customer that has been silent for longer than usual."""
    customer, since, days = row["customer_id"], row["since"], row["usual_gap_days"]
    return alert_about(
        CHURN_RISK,
        f"No order since {row['ordered'][:10]}, which is longer than the usual {days} days.",
        cause=(customer, since),
        raised_at=now_ms,
        customer=customer,
        evidence={
            "at_risk_from": since,
            "last_order_at": row["ordered"],
            "orders": row["orders"],
            "usual_gap_days": days,
        },
    )


def target_missed(row: dict[str, Any], now_ms: int) -> Alert:
    """Alert about a target that is missed, one a UTC day."""
    day = f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d}"
    side = "below" if row["direction"] == "up" else "above"
    names = ("target_id", "metric", "window", "dimension", "member", "target", "n", "value")
    return alert_about(
        TARGET_MISSED,
        f"{described(row)} is {_figure(row['value'])}, {side} the target of"
        f" {_figure(row['target'])} {row['unit']}.",
        cause=(row["target_id"], day),
        raised_at=now_ms,
        evidence={name: row[name] for name in (*names, "low", "high")} | {"day": day},
    )


def _figure(value: float) -> str:
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".")
