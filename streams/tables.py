"""The ClickHouse tables that agents write: columns and types, in the order of the row tuples.

The same tables are created by `schemas/clickhouse/*.sql`; a test compares the two.
"""

from touchstream.streams.customer_tables import CUSTOMER_TABLES
from touchstream.streams.table import MOMENT, TEXT, WORD, Table

FACTS = Table(
    "touchpoint_facts",
    (
        ("identity", TEXT),
        ("channel", WORD),
        ("event_id", TEXT),
        ("customer_id", TEXT),
        ("occurred_at", MOMENT),
        ("received_at", MOMENT),
        ("action", WORD),
        ("account_id", TEXT),
        ("session_id", TEXT),
        ("campaign", WORD),
        ("locale", WORD),
        ("consent", "Map(LowCardinality(String), Bool)"),
        ("value_e4", "Nullable(Int64)"),
        ("currency", WORD),
        ("order_id", TEXT),
        ("quantity", "Nullable(Int64)"),
        ("question", WORD),
        ("score", "Nullable(Float64)"),
        ("scale_min", "Nullable(Float64)"),
        ("scale_max", "Nullable(Float64)"),
        ("about_channel", WORD),
        ("conversation_id", TEXT),
        ("queue", WORD),
        ("topic", WORD),
        ("agent_id", WORD),
        ("wait_ms", "Nullable(Int64)"),
        ("handle_ms", "Nullable(Int64)"),
        ("resolved", "Nullable(Bool)"),
        ("text", TEXT),
        ("details", "Map(LowCardinality(String), String)"),
        ("properties", "Map(String, String)"),
        ("source_partition", "Int32"),
        ("source_offset", "Int64"),
        ("precedence", "UInt64"),
        ("identity_version", "UInt64"),
    ),
)
"""One row a touchpoint; of duplicates (same identity, channel and event id) the highest
`precedence` stays, which is the first to arrive. `value_e4` is money in ten-thousandths. The
customer is that of the identity at `identity_version`."""

OVERRIDES = Table(
    "identity_overrides",
    (
        ("identity", TEXT),
        ("customer_id", TEXT),
        ("version", "UInt64"),
    ),
    last=True,
)
"""An identity left one customer for another: facts of lower versions are the new one's. It is
stored after those facts, so whoever sees it can see them all."""

IDENTITIES = Table(
    "identity_states",
    (
        ("identity", TEXT),
        ("kind", WORD),
        ("customer_id", TEXT),
        ("first_seen_at", MOMENT),
        ("changed_at", MOMENT),
        ("version", "UInt64"),
    ),
)
"""Which customer an identity belongs to; the highest `version` is the truth."""

DEAD_LETTERS = Table(
    "dead_letter_records",
    (
        ("topic", WORD),
        ("source", "UInt64"),
        ("partition", "Int32"),
        ("offset", "Int64"),
        ("reason", WORD),
        ("detail", TEXT),
        ("received_at", MOMENT),
        ("key", TEXT),
        ("value", TEXT),
    ),
)
"""Rejected records with their original bytes; `source` tells topics of the same name apart."""

LINKS = Table(
    "identity_link_sights",
    (
        ("identity", TEXT),
        ("other", TEXT),
        ("kind", WORD),
        ("other_kind", WORD),
        ("channel", WORD),
        ("verified", "Bool"),
        ("other_verified", "Bool"),
        ("seen_at", MOMENT),
        ("event_id", TEXT),
        ("precedence", "UInt64"),
    ),
)
"""Evidence: two identities that one touchpoint carried. One row a pair (`identity` is the one that
the touchpoint is filed under), channel and verification of the two ends; the highest `precedence`
stays, which is the earliest touchpoint."""

REFUSED = Table(
    "refused_link_states",
    (
        ("identity", TEXT),
        ("other", TEXT),
        ("kind", WORD),
        ("reason", WORD),
        ("detail", TEXT),
        ("decided_at", MOMENT),
        ("version", "UInt64"),
        ("is_deleted", "UInt8"),
    ),
)
"""Links that join no one, as the end `identity` was told (`kind` is its kind); the highest
`version` is the truth, `is_deleted` marks a link that is no longer refused."""

CHANGES = Table(
    "identity_change_records",
    (
        ("identity", TEXT),
        ("version", "UInt64"),
        ("kind", WORD),
        ("former_customer_id", TEXT),
        ("customer_id", TEXT),
        ("changed_at", MOMENT),
        ("cause", TEXT),
        ("who", WORD),
        ("caused_at", MOMENT),
    ),
)
"""Audit: an identity left one customer for another. `cause` is the touchpoint, the operator's word
or the rules; `who` the channel or the operator; `caused_at` when that record was written."""

WORDS = Table(
    "operator_word_states",
    (
        ("identity", TEXT),
        ("other", TEXT),
        ("allow", "Bool"),
        ("operator", WORD),
        ("note", TEXT),
        ("said_at", MOMENT),
        ("number", "UInt64"),
    ),
)
"""What operators said of two identities (`identity` is the smaller token); the highest `number` is
the truth: with `allow` they are one customer, else they are not."""

MARKS = Table(
    "identity_mark_records",
    (
        ("identity", TEXT),
        ("mark", WORD),
        ("operator", WORD),
        ("note", TEXT),
        ("said_at", MOMENT),
        ("number", "UInt64"),
    ),
)
"""What operators said of one identity: `mark` is `shared`, `erased` or empty; the highest `number`
is the truth."""

RULES = Table(
    "identity_rules_records",
    (
        ("number", "UInt64"),
        ("operator", WORD),
        ("said_at", MOMENT),
        ("text", TEXT),
    ),
)
"""Identity rules that were applied, as TOML; the highest `number` holds."""

TABLES = (
    FACTS,
    OVERRIDES,
    IDENTITIES,
    DEAD_LETTERS,
    LINKS,
    REFUSED,
    CHANGES,
    WORDS,
    MARKS,
    RULES,
    *CUSTOMER_TABLES,
)
