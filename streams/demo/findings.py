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
METRICS = f"""
WITH ever AS (
    SELECT metric, sum(n) AS n, sum(total) AS total FROM metric_panes FINAL
    WHERE resolution = 'day' GROUP BY metric
)
SELECT
    m.metric, m.value, m.low, m.high, m.n,
    if(d.kind = 'total', ever.total / d.scale,
        ever.total / ever.n * if(d.kind = 'index', 100, 1) / d.scale),
    ever.n, m.unit
FROM metrics_at(as_of = '{END}') AS m
INNER JOIN (SELECT * FROM metric_definitions FINAL) AS d ON m.metric = d.name
INNER JOIN ever ON m.metric = ever.metric
WHERE m.window = '30d' AND m.dimension = 'all'
ORDER BY m.family, m.metric
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
    n: int
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
        metrics=[Metric(*row) for row in client.query(METRICS).result_rows],
        checks=checks,
        speed=speed,
    )
