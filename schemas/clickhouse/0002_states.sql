-- Absolute states with a version: any replay writes what is already there, or an older version
-- that ReplacingMergeTree drops. Not partitioned: a state has no time of its own to cut by.
CREATE TABLE IF NOT EXISTS identity_states
(
    identity String COMMENT 'token of the identity',
    kind LowCardinality(String) COMMENT 'kind of identifier',
    customer_id String COMMENT 'customer it belongs to now',
    first_seen_at DateTime64(3, 'UTC') COMMENT 'event time of its first touchpoint',
    changed_at DateTime64(3, 'UTC') COMMENT 'when it last changed its customer',
    version UInt64 COMMENT '1 is the first customer; the highest is the truth'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY identity
COMMENT 'Customer of each identity; read it through the view identities';

CREATE TABLE IF NOT EXISTS customer_states
(
    customer_id String COMMENT 'id of the customer',
    identities Array(String) COMMENT 'tokens of its identities',
    identity_kinds Array(LowCardinality(String)) COMMENT 'kinds, in the order of identities',
    account_id String COMMENT 'business account, empty when there is none',
    first_touch_at Nullable(DateTime64(3, 'UTC')) COMMENT 'event time of the first touchpoint',
    first_touch_channel LowCardinality(String) COMMENT 'channel of the first touchpoint',
    first_touch_campaign LowCardinality(String) COMMENT 'campaign of the first touchpoint',
    last_touch_at Nullable(DateTime64(3, 'UTC')) COMMENT 'event time of the last touchpoint',
    last_touch_channel LowCardinality(String) COMMENT 'channel of the last touchpoint',
    last_touch_campaign LowCardinality(String) COMMENT 'campaign of the last touchpoint',
    touchpoints UInt64 COMMENT 'number of touchpoints',
    touchpoints_by_channel Map(LowCardinality(String), UInt64) COMMENT 'touchpoints by channel',
    contacts UInt64 COMMENT 'finished contacts with the service',
    orders UInt64 COMMENT 'orders placed',
    revenue_e4 Int64 COMMENT 'value of the orders in ten-thousandths',
    last_order_at Nullable(DateTime64(3, 'UTC')) COMMENT 'event time of the last order',
    last_csat Nullable(Float64) COMMENT 'last satisfaction answer, scale 1 to 5',
    last_nps Nullable(Float64) COMMENT 'last recommendation answer, 0 to 10',
    last_ces Nullable(Float64) COMMENT 'last effort answer, scale 1 to 7',
    changed_at DateTime64(3, 'UTC') COMMENT 'when this state was written',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: the customer was merged into another'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY customer_id
COMMENT 'The single customer view; read it through the view customers';
