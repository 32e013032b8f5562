"""The ClickHouse tables of the profile agent: customers, what they lived through, and panes."""

from touchstream.streams.table import MAYBE_MOMENT, MOMENT, TEXT, WORD, Table

COUNTS = "Map(LowCardinality(String), UInt64)"
VERSIONED = (("version", "UInt64"), ("is_deleted", "UInt8"))

CUSTOMERS = Table(
    "customer_states",
    (
        ("customer_id", TEXT),
        ("identities", "Array(String)"),
        ("identity_kinds", "Array(LowCardinality(String))"),
        ("account_id", TEXT),
        ("first_touch_at", MAYBE_MOMENT),
        ("first_touch_channel", WORD),
        ("first_touch_campaign", WORD),
        ("last_touch_at", MAYBE_MOMENT),
        ("last_touch_channel", WORD),
        ("last_touch_campaign", WORD),
        ("touchpoints", "UInt64"),
        ("touchpoints_by_channel", COUNTS),
        ("contacts", "UInt64"),
        ("orders", "UInt64"),
        ("revenue_e4", "Int64"),
        ("last_order_at", MAYBE_MOMENT),
        ("last_csat", "Nullable(Float64)"),
        ("last_nps", "Nullable(Float64)"),
        ("last_ces", "Nullable(Float64)"),
        ("segment", WORD),
        ("contacts_by_channel", COUNTS),
        ("sessions", "UInt64"),
        ("open_issues", "UInt64"),
        ("solved_issues", "UInt64"),
        ("returns", "UInt64"),
        ("returned_e4", "Int64"),
        ("first_order_at", MAYBE_MOMENT),
        ("order_days", "UInt64"),
        ("usual_gap_days", "UInt32"),
        ("at_risk_from", MAYBE_MOMENT),
        ("last_trust", "Nullable(Float64)"),
        ("answers", COUNTS),
        ("answer_sums", "Map(LowCardinality(String), Float64)"),
        ("texts_scored", "UInt64"),
        ("sentiment_sum", "Float64"),
        ("advocacy", COUNTS),
        ("consent", "Map(LowCardinality(String), Bool)"),
        ("stage", WORD),
        ("stage_since", MAYBE_MOMENT),
        ("lapses_at", MAYBE_MOMENT),
        ("changed_at", MOMENT),
        *VERSIONED,
    ),
)
"""The single customer view; the highest `version` is the truth, `is_deleted` marks a customer that
was merged away. `last_order_at` and `first_order_at` bound its orders; `order_days` counts their
UTC days; it is at risk from `at_risk_from` and has lapsed at `lapses_at` unless something happens.
Answers are on the usual scale of their question."""

SESSIONS = Table(
    "session_states",
    (
        ("customer_id", TEXT),
        ("started_at", MOMENT),
        ("ended_at", MOMENT),
        ("touchpoints", "UInt32"),
        ("channels", "Array(LowCardinality(String))"),
        ("campaign", WORD),
        ("orders", "UInt32"),
        *VERSIONED,
    ),
)
"""Touchpoints of one customer without a long silence between them."""

VISITS = Table(
    "stage_visit_states",
    (
        ("customer_id", TEXT),
        ("entered_at", MOMENT),
        ("stage", WORD),
        ("cycle", WORD),
        ("previous", WORD),
        ("backward", "Bool"),
        ("left_at", MAYBE_MOMENT),
        *VERSIONED,
    ),
)
"""Stages of the journey that a customer came into; without `left_at` it is there now."""

ISSUES = Table(
    "issue_states",
    (
        ("customer_id", TEXT),
        ("opened_at", MOMENT),
        ("topic", WORD),
        ("last_contact_at", MOMENT),
        ("contacts", "UInt32"),
        ("channels", "Array(LowCardinality(String))"),
        ("solved", "Bool"),
        ("reopened", "UInt32"),
        *VERSIONED,
    ),
)
"""Contacts of one customer on one topic, without many days between them."""

PATHS = Table(
    "order_path_states",
    (
        ("customer_id", TEXT),
        ("ordered_at", MOMENT),
        ("order_key", "UInt64"),
        ("order_id", TEXT),
        ("value_e4", "Int64"),
        ("channels", "Array(LowCardinality(String))"),
        ("campaigns", "Array(LowCardinality(String))"),
        ("touched_at", "Array(DateTime64(3, 'UTC'))"),
        *VERSIONED,
    ),
)
"""Touches that led to an order, the oldest first; `order_key` is the key of the touchpoint."""

PANES = Table(
    "metric_panes",
    (
        ("metric", WORD),
        ("dimension", WORD),
        ("member", WORD),
        ("resolution", WORD),
        ("start", "DateTime('UTC')"),
        ("shard", "UInt16"),
        ("n", "Int64"),
        ("total", "Int64"),
        ("squares", "Int64"),
        ("buckets", "Map(Int32, Int64)"),
        ("version", "UInt64"),
    ),
)
"""Additive panes by event time (`minute`, `hour`, `day`), one row a measure (in `metric`) and shard
(customer partition): number of measurements, their sum, the sum of their squares and their
histogram, in the measure's own scale. Levels have panes of a day only: `total` is the change on
that day, and `metric` carries its window: `buyers@30d`."""

ALERTS = Table(
    "alert_records",
    (
        ("alert_id", TEXT),
        ("kind", WORD),
        ("raised_at", MOMENT),
        ("customer_id", TEXT),
        ("reason", TEXT),
        ("evidence", "Map(LowCardinality(String), String)"),
    ),
)
"""What somebody should look at, once for each cause."""

CUSTOMER_TABLES = (CUSTOMERS, SESSIONS, VISITS, ISSUES, PATHS, PANES, ALERTS)
