"""What the report shows, asked of ClickHouse through the views that BI tools read."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from touchstream.streams.demo.checks import BY_CHANNEL, END, Check
from touchstream.streams.demo.expected import Event

EXAMPLE = """
SELECT c.customer_id, c.identity_kinds, c.orders, c.revenue, c.touchpoints
FROM customers AS c
WHERE c.customer_id IN (
    SELECT customer_id FROM touchpoints
    WHERE channel = {channel:String} AND event_id = {event_id:String}
)
"""
TIMELINE = """
SELECT
    t.occurred_at, t.channel, t.action, i.kind,
    if(t.session_id = '', t.conversation_id, t.session_id),
    multiIf(
        t.channel = 'purchase', concat(toString(t.quantity), ' for $', toString(t.value)),
        isNotNull(t.score), concat(
            t.question, ' ', toString(t.score), ' of ', toString(t.scale_max),
            if(t.about_channel = '', '', concat(' about ', t.about_channel))),
        t.question != '', t.question,
        t.text != '', t.text,
        t.topic != '', t.topic,
        mapContains(t.details, 'search_term'), t.details['search_term'],
        mapContains(t.details, 'product_id'), t.details['product_id'],
        mapContains(t.details, 'template'), t.details['template'],
        mapContains(t.details, 'page_url'), path(t.details['page_url']),
        t.details['purpose']),
    t.customer_id_then
FROM touchpoints AS t INNER JOIN identities AS i ON t.identity = i.identity
WHERE t.customer_id = {customer:String}
ORDER BY t.occurred_at, t.event_id
"""
SHOWN = (
    "csat",
    "csat_top2",
    "ces",
    "nps",
    "retention",
    "repeat_purchase_rate",
    "churn_risk_share",
    "purchase_frequency",
    "average_order_value",
    "orders",
    "revenue",
    "contacts",
    "first_contact_resolution_final",
    "repeat_contact_rate",
    "channel_switch_rate",
    "first_response_time_p90",
    "service_level",
    "abandonment",
    "average_handle_time",
)
"""Metrics in the report, in this order."""
METRICS = f"""
WITH found AS (
    SELECT metric, window, value, low, high, n, unit FROM metrics_at(as_of = '{END}')
    WHERE dimension = 'all' AND window IN ('30d', 'all', 'now')
)
SELECT
    e.metric, m.value, m.low, m.high, m.n, e.value, e.n, e.unit
FROM (SELECT * FROM found WHERE window != '30d') AS e
LEFT JOIN (SELECT * FROM found WHERE window = '30d') AS m ON m.metric = e.metric
WHERE e.metric IN {{shown:Array(String)}}
ORDER BY indexOf({{shown:Array(String)}}, e.metric)
SETTINGS join_use_nulls = 1
"""


class Moment(NamedTuple):
    """One touchpoint of a timeline."""

    occurred_at: datetime
    channel: str
    action: str
    known_by: str
    """Kind of the identifier it is filed under."""
    session_id: str
    """Visit, chat or call; empty for other touchpoints."""
    what: str
    customer_then: str
    """The customer it seemed to belong to when it was processed."""


class Metric(NamedTuple):
    """A metric over the 30 days before July 1998, with its interval, and over all time."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    value_ever: float | None
    n_ever: int
    unit: str


class Person(NamedTuple):
    """The customer whose timeline is shown."""

    customer_id: str
    identity_kinds: list[str]
    orders: int
    revenue: float
    touchpoints: int


@dataclass(frozen=True)
class Speed:
    """What the load cost."""

    touchpoints: int
    seconds: float
    """From the first publish until all of them could be queried."""
    workers: int
    probe_per_second: float
    latencies: list[float] = field(repr=False)
    """Seconds from publish to visible, of the touchpoints that were published steadily."""


@dataclass(frozen=True)
class Findings:
    """Everything that the report shows."""

    by_channel: dict[str, int]
    identities: int
    customers: int
    person: Person
    timeline: list[Moment]
    metrics: list[Metric]
    checks: list[Check]
    speed: Speed


def find(client: Any, example: Event, checks: list[Check], speed: Speed) -> Findings:
    """Ask for all that the report shows."""
    channel, event_id = example
    wanted = {"channel": channel, "event_id": event_id}
    person = Person(*client.query(EXAMPLE, parameters=wanted).result_rows[0])
    events = client.query(TIMELINE, parameters={"customer": person.customer_id}).result_rows
    return Findings(
        by_channel=dict(client.query(BY_CHANNEL).result_rows),
        identities=client.query("SELECT count() FROM identities").result_rows[0][0],
        customers=client.query("SELECT count() FROM customers").result_rows[0][0],
        person=person,
        timeline=[Moment(*event) for event in events],
        metrics=[
            Metric(*row)
            for row in client.query(METRICS, parameters={"shown": [*SHOWN]}).result_rows
        ],
        checks=checks,
        speed=speed,
    )
