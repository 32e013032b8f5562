-- Overrides: an identity that has moved gives its facts another customer, until the squash has put
-- that customer into the facts themselves (streams/squash.py says what may go, and when).
--
-- Facts know the version of their identity, and an override holds for facts of lower versions only:
-- one that is old, repeated, or back after it was dropped does no harm. Facts of before have version
-- 0, below every override. The key of facts stays: the squash writes a fact again under the same key,
-- with a higher precedence.
ALTER TABLE touchpoint_facts
    ADD COLUMN IF NOT EXISTS identity_version UInt64
    COMMENT 'version of the identity that customer_id is of';

ALTER TABLE touchpoint_facts
    ADD COLUMN IF NOT EXISTS customer_id_then String
    COMMENT 'customer when it was processed; empty: still customer_id';

-- By identity, as facts are. Not partitioned: it is small and stays so. The squash marks and drops a
-- row by inserting it again, and a merge removes it a day later. written_at is the server's time, not
-- the record's: it says how long the row has been there to be seen.
CREATE TABLE IF NOT EXISTS identity_overrides
(
    identity String COMMENT 'token of the identity',
    customer_id String COMMENT 'customer it belongs to from this version on',
    version UInt64 COMMENT 'the highest is the truth',
    written_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when this row was written',
    settled Bool COMMENT 'whether all facts have its customer, so that none needs it',
    is_deleted UInt8 COMMENT '1: dropped'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY identity
TTL toDateTime(written_at) + INTERVAL 1 DAY DELETE WHERE is_deleted = 1
COMMENT 'Customers of moved identities that may not be in all their facts yet';

-- Whoever has moved before. (The join was with the identities of versions above 1 until now. That is
-- every identity: it gets version 1 when it is seen and 2 with its first customer.) Rows have versions,
-- so all of them may be inserted again.
INSERT INTO identity_overrides (identity, customer_id, version)
SELECT identity, customer_id, version
FROM identity_change_records;

-- As before, only with the overrides on the right side of the join.
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
    if(o.version > f.identity_version, o.customer_id, f.customer_id) AS customer_id,
    if(f.customer_id_then = '', f.customer_id, f.customer_id_then) AS customer_id_then,
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
    SELECT identity, customer_id, version FROM identity_overrides FINAL
) AS o ON f.identity = o.identity
SETTINGS join_use_nulls = 0
COMMENT 'Every touchpoint once, with its customer of today';

CREATE OR REPLACE VIEW touchpoints_raw
(
    identity String COMMENT 'token of the identity the touchpoint was seen with',
    channel LowCardinality(String) COMMENT 'web, chat, phone, ...',
    event_id String COMMENT 'id given by the publisher',
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
    identity,
    channel,
    event_id,
    if(f.customer_id_then = '', f.customer_id, f.customer_id_then) AS customer_id_then,
    occurred_at,
    received_at,
    action,
    account_id,
    session_id,
    campaign,
    locale,
    consent,
    CAST(toDecimal128(value_e4, 4) / 10000 AS Nullable(Decimal(18, 4))) AS value,
    currency,
    order_id,
    quantity,
    question,
    score,
    scale_min,
    scale_max,
    about_channel,
    conversation_id,
    queue,
    topic,
    agent_id,
    wait_ms,
    handle_ms,
    resolved,
    text,
    details,
    properties
FROM touchpoint_facts AS f FINAL
COMMENT 'Every touchpoint once, with the customer it had when it was processed';

-- One customer's touchpoints, as WHERE customer_id = ... on touchpoints, which reads all of them:
-- facts are stored by identity, so the identities come first.
-- ClickHouse does not enforce the types declared for a view with a parameter; a test does.
CREATE OR REPLACE VIEW customer_timeline
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
    identity,
    channel,
    event_id,
    customer_id,
    customer_id_then,
    occurred_at,
    received_at,
    action,
    account_id,
    session_id,
    campaign,
    locale,
    consent,
    value,
    currency,
    order_id,
    quantity,
    question,
    score,
    scale_min,
    scale_max,
    about_channel,
    conversation_id,
    queue,
    topic,
    agent_id,
    wait_ms,
    handle_ms,
    resolved,
    text,
    details,
    properties
FROM touchpoints
WHERE identity IN
    (
        SELECT arrayJoin(identities) FROM customer_states FINAL
        WHERE customer_id = {customer_id:String} AND is_deleted = 0
    )
    AND customer_id = {customer_id:String}
COMMENT 'Every touchpoint of one customer once'
