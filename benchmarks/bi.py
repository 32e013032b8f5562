"""`make bench-bi`: how long the questions of docs/bi.md take over millions of touchpoints.

The data is made by the engine itself, straight into the tables: ten touchpoints an identity, two
identities a customer, 90 days, one identity in ten has moved to another customer. Then every query
of the page runs a few times, and again after a squash has put the moved ones into their facts;
printed are the medians, first the one before.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from touchstream.streams.clickhouse import connect
from touchstream.streams.migrations import migrate
from touchstream.streams.settings import Settings
from touchstream.streams.squash import Squash

PAGE = Path(__file__).parents[1] / "docs" / "bi.md"
NUMBER = 5_000_000
RUNS = 5
BLOCK = 500_000
"""Touchpoints an insert, so that there are several parts, as in operation."""
QUIET_SECONDS = 120.0
SAMPLE_CUSTOMER = re.compile(r"'[0-9a-f]{32}'")
"""How the page writes an id of a customer."""

TOKEN = "lower(hex(sipHash128('i', toUInt64({}))))"
CUSTOMER = "lower(hex(sipHash128('c', toUInt64({}))))"
BEFORE = "now64(3, 'UTC') - toIntervalSecond({} % 7776000)"
CHANNELS = "['web', 'web', 'web', 'email', 'chat', 'phone', 'purchase', 'survey', 'social', 'sms']"
ACTIONS = (
    "['viewed', 'clicked', 'viewed', 'opened', 'ended', 'ended', 'placed', 'answered', 'messaged',"
    " 'delivered']"
)
QUEUES = "['billing', 'delivery', 'returns', 'technical', 'sales', 'vip', 'german', 'general']"
CAMPAIGNS = "['', '', '', 'spring', 'summer', 'winback', 'launch', 'newsletter']"
STAGES = "['consider', 'evaluate', 'purchase', 'enjoy', 'advocate', 'bond']"
CYCLES = "['buy', 'buy', 'buy', 'own', 'advocate', 'advocate']"
SEGMENTS = "['', 'consumer', 'business', 'student']"
MEASURES = "['nps', 'csat', 'first_contact_resolved', 'order', 'revenue', 'contact', 'handle_time']"

FACTS = f"""
INSERT INTO touchpoint_facts (identity, channel, event_id, customer_id, occurred_at, received_at,
    action, session_id, campaign, value_e4, currency, order_id, question, score, scale_min,
    scale_max, conversation_id, queue, topic, handle_ms, resolved, text, properties, precedence,
    identity_version)
SELECT {TOKEN.format("who")}, {CHANNELS}[kind], concat('event-', toString(number)),
    {CUSTOMER.format("if(who % 10 = 0, who + 1000000000, intDiv(who, 2))")},
    {BEFORE.format("cityHash64(number, 'when')")} AS moment, moment,
    {ACTIONS}[kind], if(kind <= 3, concat('s-', toString(intDiv(number, 4))), ''),
    {CAMPAIGNS}[1 + h % 8], if(kind = 7, toInt64(h % 2000000), NULL), if(kind = 7, 'EUR', ''),
    if(kind = 7, concat('order-', toString(number)), ''), if(kind = 8, 'nps', ''),
    if(kind = 8, toFloat64(h % 11), NULL), if(kind = 8, 0., NULL), if(kind = 8, 10., NULL),
    if(kind IN (5, 6), concat('c-', toString(number)), ''), if(kind IN (5, 6), {QUEUES}[1 + h % 8],
    ''), if(kind IN (5, 6), {QUEUES}[1 + h % 5], ''),
    if(kind IN (5, 6), toInt64(h % 900000), NULL),
    if(kind IN (5, 6), h % 3 > 0, NULL), if(kind = 9, 'thank you, that was quick', ''),
    if(kind <= 3, map('page', concat('/product/', toString(h % 500))), map()), number, 2
FROM
(
    SELECT number, cityHash64(number) AS h, toUInt8(1 + intDiv(h, 1000) % 10) AS kind,
        intDiv(h, 7) % {{identities:UInt64}} AS who
    FROM numbers({{first:UInt64}}, {{block:UInt64}})
)
"""
STATES = {
    "identity_states": f"""
INSERT INTO identity_states
SELECT {TOKEN.format("number")}, ['email', 'anonymous_id'][1 + number % 2],
    {CUSTOMER.format("intDiv(number, 2)")}, now64(3, 'UTC') - toIntervalDay(90), now64(3, 'UTC'),
    if(number % 10 = 0, 3, 2)
FROM numbers({{identities:UInt64}})""",
    "identity_overrides": f"""
INSERT INTO identity_overrides (identity, customer_id, version)
SELECT {TOKEN.format("number")}, {CUSTOMER.format("intDiv(number, 2)")}, 3
FROM numbers({{identities:UInt64}}) WHERE number % 10 = 0""",
    "customer_states": f"""
INSERT INTO customer_states (customer_id, identities, identity_kinds, first_touch_at,
    first_touch_channel, last_touch_at, last_touch_channel, touchpoints, touchpoints_by_channel,
    contacts, orders, revenue_e4, last_order_at, last_csat, last_nps, segment, first_order_at,
    order_days, usual_gap_days, at_risk_from, stage, stage_since, lapses_at, changed_at, version)
SELECT {CUSTOMER.format("number")},
    [{TOKEN.format("2 * number")}, {TOKEN.format("2 * number + 1")}], ['email', 'anonymous_id'],
    now64(3, 'UTC') - toIntervalDay(90), {CHANNELS}[1 + h % 10], {BEFORE.format("h")} AS last,
    {CHANNELS}[1 + intDiv(h, 10) % 10], 20,
    map('web', 12, 'email', 4, 'chat', 4), h % 4, h % 5 AS placed, placed * (h % 1000000),
    if(placed > 0, last, NULL), if(h % 3 = 0, 1 + h % 5, NULL), if(h % 4 = 0, h % 11, NULL),
    {SEGMENTS}[1 + intDiv(h, 100) % 4], if(placed > 0, last - toIntervalDay(h % 300), NULL),
    placed, 20 + h % 60, if(placed > 0, last + toIntervalDay(20 + h % 60), NULL),
    {STAGES}[1 + h % 6], last, last + toIntervalDay(80), now64(3, 'UTC'), 1
FROM (SELECT number, cityHash64(number, 'customer') AS h FROM numbers({{customers:UInt64}}))""",
    "session_states": f"""
INSERT INTO session_states
SELECT {CUSTOMER.format("intDiv(number, 4)")}, {BEFORE.format("h")} AS began,
    began + toIntervalMinute(h % 50), 5,
    [{CHANNELS}[1 + h % 10], {CHANNELS}[1 + intDiv(h, 10) % 10]], {CAMPAIGNS}[1 + h % 8],
    h % 5 = 0, 1, 0
FROM (SELECT number, cityHash64(number, 'session') AS h FROM numbers({{sessions:UInt64}}))""",
    "stage_visit_states": f"""
INSERT INTO stage_visit_states
SELECT {CUSTOMER.format("intDiv(number, 3)")}, now64(3, 'UTC') - toIntervalDay(80 - 20 * step),
    {STAGES}[1 + step + h % 4], {CYCLES}[1 + step + h % 4],
    if(step = 0, '', {STAGES}[step + h % 4]), false,
    if(step = 2, NULL, now64(3, 'UTC') - toIntervalDay(60 - 20 * step)), 1, 0
FROM (SELECT number, number % 3 AS step, cityHash64(intDiv(number, 3), 'visit') AS h
    FROM numbers({{visits:UInt64}}))""",
    "issue_states": f"""
INSERT INTO issue_states
SELECT {CUSTOMER.format("number")}, {BEFORE.format("h")} AS opened, {QUEUES}[1 + h % 5],
    opened + toIntervalHour(h % 100), 1 + h % 3, ['phone', 'chat'], h % 3 > 0, h % 7 = 0, 1, 0
FROM (SELECT number, cityHash64(number, 'issue') AS h FROM numbers({{issues:UInt64}}))""",
    "order_path_states": f"""
INSERT INTO order_path_states
SELECT {CUSTOMER.format("intDiv(number, 2)")}, {BEFORE.format("h")} AS ordered, number,
    concat('order-', toString(number)), h % 2000000,
    arrayMap(i -> {CHANNELS}[1 + intDiv(h, i) % 10], range(1, 2 + h % 5)),
    arrayMap(i -> {CAMPAIGNS}[1 + intDiv(h, i) % 8], range(1, 2 + h % 5)),
    arrayMap(i -> ordered - toIntervalHour(24 * (7 - i)), range(1, 2 + h % 5)), 1, 0
FROM (SELECT number, cityHash64(number, 'order') AS h FROM numbers({{orders:UInt64}}))""",
    "target_states": """
INSERT INTO target_states
SELECT concat(metric, '-', window), metric, window, 'all', '', 40, 'up', 2, 30, 1,
    toDateTime64('2020-01-01 00:00:00', 3, 'UTC'), NULL, 1, 0
FROM (SELECT arrayJoin(['nps', 'csat', 'first_contact_resolution', 'revenue']) AS metric,
    arrayJoin(['24h', '30d']) AS window)""",
    **{
        f"metric_panes by {resolution}": f"""
INSERT INTO metric_panes (metric, dimension, member, resolution, start, shard, n, total, squares,
    version)
SELECT {MEASURES}[1 + intDiv(h, 4) % 7], dimension.1, dimension.2[1 + intDiv(h, 28) % 8],
    '{resolution}', toStartOfInterval({BEFORE.format("intDiv(h, 224)")}, INTERVAL 1 {resolution}),
    h % 4, 10 AS measured, 4, 8, number
FROM (SELECT number, cityHash64(number, '{resolution}') AS h,
    [('channel', {CHANNELS}), ('queue', {QUEUES})][1 + number % 2] AS dimension
    FROM numbers({{panes:UInt64}}))"""
        for resolution in ("day", "hour", "minute")
    },
}


def questions() -> Iterator[tuple[str, str]]:
    """Headings of the page with the query below each."""
    for section in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        for sql in re.findall(r"^```sql\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            yield section.splitlines()[0], sql


def fill(client: Client, number: int) -> None:
    """Make the data."""
    identities = max(number // 10, 20)
    customers = identities // 2
    names: dict[str, Any] = {
        "identities": identities,
        "customers": customers,
        "sessions": 4 * customers,
        "visits": 3 * customers,
        "issues": customers // 2,
        "orders": customers // 2,
        "panes": max(number // 10, 1000),
    }
    for first in range(0, number, BLOCK):
        block = {"first": first, "block": min(BLOCK, number - first)}
        client.command(FACTS, parameters={**names, **block})
    for sql in STATES.values():
        client.command(sql, parameters=names)


def wait_for_merges(client: Client) -> None:
    """Wait until the engine has merged what it wants to, for a while at most."""
    deadline, quiet = time.monotonic() + QUIET_SECONDS, 0
    while quiet < 3 and time.monotonic() < deadline:
        time.sleep(1)
        merging = client.query("SELECT count() FROM system.merges").result_rows[0][0]
        quiet = 0 if merging else quiet + 1


def median_ms(client: Client, sql: str, runs: int) -> float:
    """Median time of a query; the first run is not counted. Fails if it has no rows."""
    assert client.query(sql).result_rows, sql
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        client.query(sql)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


@contextmanager
def embedded(folder: str) -> Iterator[str]:
    """The embedded ClickHouse on a free port."""
    module = [sys.executable, "-m", "touchstream.streams.local.clickhouse"]
    command = [*module, "--path", folder, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"'([\d.]+)', (\d+)", server.stdout.readline())
        if found is None:
            raise SystemExit("the embedded ClickHouse did not start")
        yield f"http://{found[1]}:{found[2]}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def medians_ms(client: Client, asked: dict[str, str], runs: int) -> dict[str, float]:
    """Median time of each query."""
    return {name: median_ms(client, sql, runs) for name, sql in asked.items()}


def squash(settings: Settings) -> int:
    """Squash until no override is left; returns the number of identities."""
    squash, settled = Squash(settings), 0
    try:
        while (done := squash.batch()).taken or done.dropped:
            settled += done.settled
    finally:
        squash.close()
    return settled


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=NUMBER, help="touchpoints")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="touchstream-bi-") as folder, embedded(folder) as url:
        settings = Settings(clickhouse_url=url, squash_grace_seconds=0)
        migrate(settings)
        client = connect(settings, dedicated_pool=True)
        began = time.monotonic()
        fill(client, options.number)
        wait_for_merges(client)
        seconds = time.monotonic() - began
        print(f"{options.number:,} touchpoints made in {seconds:.0f} s", flush=True)
        sample = client.query(f"SELECT {CUSTOMER.format(5)}").result_rows[0][0]
        asked = {name: SAMPLE_CUSTOMER.sub(f"'{sample}'", sql) for name, sql in questions()}
        before = medians_ms(client, asked, options.runs)
        began = time.monotonic()
        settled = squash(settings)
        seconds = time.monotonic() - began
        print(f"{settled:,} identities squashed in {seconds:.0f} s", flush=True)
        wait_for_merges(client)
        after = medians_ms(client, asked, options.runs)
        for name in asked:
            print(f"{name:<50} {before[name]:>8,.0f} ms {after[name]:>8,.0f} ms")
        client.close()


if __name__ == "__main__":
    main()
