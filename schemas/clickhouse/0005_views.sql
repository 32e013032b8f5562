-- The views BI tools read. Names and types are a contract: columns are added, never changed.

-- Facts with the customer of today: an identity that has moved (version above 1) overrides the
-- customer it had at event time; only moved identities are in the join.
CREATE OR REPLACE VIEW touchpoints
(
    identity String COMMENT 'token of the identity the touchpoint was seen with',
    channel LowCardinality(String) COMMENT 'web, chat, phone, ...',
    event_id String COMMENT 'id given by the publisher',
    customer_id String COMMENT 'customer now, after all merges and splits',
    customer_id_then String COMMENT 'customer when the touchpoint was processed',
    occurred_at DateTime64(3, 'UTC') COMMENT 'event time',
    received_at DateTime64(3, 'UTC') COMMENT 'time of the record in Kafka',
    action LowCardinality(String) COMMENT 'what happened',
    account_id String COMMENT 'business account, empty when there is none',
    session_id String COMMENT 'session given by the publisher',
    campaign LowCardinality(String) COMMENT 'campaign, empty when there is none',
    locale LowCardinality(String) COMMENT 'language and country',
    consent Map(LowCardinality(String), Bool) COMMENT 'consent by purpose, as sent',
    value Nullable(Decimal(18, 4)) COMMENT 'money, in currency',
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
    properties Map(String, String) COMMENT 'properties given by the publisher'
)
AS SELECT
    f.identity AS identity,
    f.channel AS channel,
    f.event_id AS event_id,
    if(m.customer_id = '', f.customer_id, m.customer_id) AS customer_id,
    f.customer_id AS customer_id_then,
    f.occurred_at AS occurred_at,
    f.received_at AS received_at,
    f.action AS action,
    f.account_id AS account_id,
    f.session_id AS session_id,
    f.campaign AS campaign,
    f.locale AS locale,
    f.consent AS consent,
    CAST(toDecimal128(f.value_e4, 4) / 10000 AS Nullable(Decimal(18, 4))) AS value,
    f.currency AS currency,
    f.order_id AS order_id,
    f.quantity AS quantity,
    f.question AS question,
    f.score AS score,
    f.scale_min AS scale_min,
    f.scale_max AS scale_max,
    f.about_channel AS about_channel,
    f.conversation_id AS conversation_id,
    f.queue AS queue,
    f.topic AS topic,
    f.agent_id AS agent_id,
    f.wait_ms AS wait_ms,
    f.handle_ms AS handle_ms,
    f.resolved AS resolved,
    f.text AS text,
    f.details AS details,
    f.properties AS properties
FROM touchpoint_facts AS f FINAL
LEFT ANY JOIN
(
    SELECT identity, customer_id FROM identity_states FINAL WHERE version > 1
) AS m ON f.identity = m.identity
SETTINGS join_use_nulls = 0
COMMENT 'Every touchpoint once, with its customer of today';

CREATE OR REPLACE VIEW identities
(
    identity String COMMENT 'token of the identity',
    kind LowCardinality(String) COMMENT 'kind of identifier',
    customer_id String COMMENT 'customer it belongs to now',
    first_seen_at DateTime64(3, 'UTC') COMMENT 'event time of its first touchpoint',
    changed_at DateTime64(3, 'UTC') COMMENT 'when it last changed its customer'
)
AS SELECT identity, kind, customer_id, first_seen_at, changed_at
FROM identity_states FINAL
COMMENT 'Every identity with its customer';

CREATE OR REPLACE VIEW customers
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
    revenue Decimal(18, 4) COMMENT 'value of the orders',
    average_order_value Nullable(Decimal(18, 4)) COMMENT 'revenue by order, NULL without orders',
    last_order_at Nullable(DateTime64(3, 'UTC')) COMMENT 'event time of the last order',
    last_csat Nullable(Float64) COMMENT 'last satisfaction answer, scale 1 to 5',
    last_nps Nullable(Float64) COMMENT 'last recommendation answer, 0 to 10',
    nps_category LowCardinality(Nullable(String)) COMMENT 'promoter, passive, detractor or NULL',
    last_ces Nullable(Float64) COMMENT 'last effort answer, scale 1 to 7',
    changed_at DateTime64(3, 'UTC') COMMENT 'when this state was written'
)
AS SELECT
    customer_id,
    identities,
    identity_kinds,
    account_id,
    first_touch_at,
    first_touch_channel,
    first_touch_campaign,
    last_touch_at,
    last_touch_channel,
    last_touch_campaign,
    touchpoints,
    touchpoints_by_channel,
    contacts,
    orders,
    CAST(toDecimal128(revenue_e4, 4) / 10000 AS Decimal(18, 4)) AS revenue,
    CAST(round(toDecimal128(revenue_e4, 8) / 10000 / nullIf(orders, 0), 4)
        AS Nullable(Decimal(18, 4))) AS average_order_value,
    last_order_at,
    last_csat,
    last_nps,
    multiIf(last_nps IS NULL, NULL, last_nps >= 9, 'promoter', last_nps >= 7, 'passive',
        'detractor') AS nps_category,
    last_ces,
    changed_at
FROM customer_states FINAL
WHERE is_deleted = 0
COMMENT 'The single customer view: one row a customer';

CREATE OR REPLACE VIEW dead_letters
(
    topic LowCardinality(String) COMMENT 'topic of the rejected record',
    source UInt64 COMMENT 'hash of the topic id: tells topics of the same name apart',
    partition Int32 COMMENT 'partition of the rejected record',
    offset Int64 COMMENT 'offset of the rejected record',
    reason LowCardinality(String) COMMENT 'why it was rejected',
    detail String COMMENT 'what exactly was wrong',
    received_at DateTime64(3, 'UTC') COMMENT 'time of the record in Kafka',
    key String COMMENT 'original key, bytes',
    value String COMMENT 'original value, bytes',
    value_base64 String COMMENT 'original value in base64, safe to show'
)
AS SELECT topic, source, partition, offset, reason, detail, received_at, key, value,
    base64Encode(value) AS value_base64
FROM dead_letter_records FINAL
COMMENT 'Rejected records, each once';
