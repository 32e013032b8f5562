-- Facts: one row a touchpoint, written by the stitch agent (the contract is streams/tables.py).
--
-- Key: identity first, because customers are read identity by identity. The customer id is not in
-- the key: it changes when identities move, and a duplicate must collapse whatever its customer is.
-- No partitions. FINAL cannot use partitions that are not part of the key (seen in EXPLAIN on 26.9:
-- nothing is pruned by year; the index by_time is what cuts by time), copies in two partitions never
-- merge, every year of a backfill makes a part of its own, and a block of more than 100 years is
-- refused (code 252) however often it is sent again. Retention is for TTL and DELETE.
CREATE TABLE IF NOT EXISTS touchpoint_facts
(
    identity String COMMENT 'token of the identity the touchpoint was seen with',
    channel LowCardinality(String) COMMENT 'the topic it came from',
    event_id String COMMENT 'id given by the publisher, unique within channel and identity',
    customer_id String COMMENT 'customer of the identity when the touchpoint was processed',
    occurred_at DateTime64(3, 'UTC') COMMENT 'event time',
    received_at DateTime64(3, 'UTC') COMMENT 'time of the record in Kafka',
    action LowCardinality(String) COMMENT 'what happened',
    account_id String COMMENT 'business account, empty when there is none',
    session_id String COMMENT 'session given by the publisher',
    campaign LowCardinality(String) COMMENT 'campaign, empty when there is none',
    locale LowCardinality(String) COMMENT 'language and country',
    consent Map(LowCardinality(String), Bool) COMMENT 'consent by purpose, as sent',
    value_e4 Nullable(Int64) COMMENT 'money in ten-thousandths of the currency',
    currency LowCardinality(String) COMMENT 'ISO 4217 code',
    order_id String COMMENT 'order, empty when there is none',
    quantity Nullable(Int64) COMMENT 'units ordered',
    question LowCardinality(String) COMMENT 'csat, nps, ces or another survey question',
    score Nullable(Float64) COMMENT 'answer on the asked scale',
    scale_min Nullable(Float64) COMMENT 'lowest answer of the asked scale',
    scale_max Nullable(Float64) COMMENT 'highest answer of the asked scale',
    about_channel LowCardinality(String) COMMENT 'channel the answer is about',
    conversation_id String COMMENT 'call, chat or thread',
    queue LowCardinality(String) COMMENT 'queue of a contact',
    topic LowCardinality(String) COMMENT 'subject of a contact',
    agent_id LowCardinality(String) COMMENT 'who handled the contact',
    wait_ms Nullable(Int64) COMMENT 'milliseconds the customer waited',
    handle_ms Nullable(Int64) COMMENT 'milliseconds of handling',
    resolved Nullable(Bool) COMMENT 'whether the contact solved the matter',
    text String COMMENT 'free text of the customer',
    details Map(LowCardinality(String), String) COMMENT 'further fields of the channel',
    properties Map(String, String) COMMENT 'properties given by the publisher',
    source_partition Int32 COMMENT 'Kafka partition the touchpoint came from',
    source_offset Int64 COMMENT 'Kafka offset the touchpoint came from',
    precedence UInt64 COMMENT 'of duplicates the highest stays',
    INDEX by_time occurred_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (identity, channel, event_id)
COMMENT 'One row a touchpoint; read it through the view touchpoints';
