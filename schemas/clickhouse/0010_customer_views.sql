-- What customers are worth and what they lived through. The tables are written by the profile agent
-- (the contract is streams/customer_tables.py); a view that has been there keeps its columns, new
-- ones come after them.
ALTER TABLE customer_states
    ADD COLUMN IF NOT EXISTS segment LowCardinality(String)
        COMMENT 'segment given last, empty when there is none' AFTER last_ces,
    ADD COLUMN IF NOT EXISTS contacts_by_channel Map(LowCardinality(String), UInt64)
        COMMENT 'contacts by channel' AFTER segment,
    ADD COLUMN IF NOT EXISTS sessions UInt64
        COMMENT 'number of sessions' AFTER contacts_by_channel,
    ADD COLUMN IF NOT EXISTS open_issues UInt64
        COMMENT 'issues that are not solved' AFTER sessions,
    ADD COLUMN IF NOT EXISTS solved_issues UInt64
        COMMENT 'issues that are solved' AFTER open_issues,
    ADD COLUMN IF NOT EXISTS returns UInt64
        COMMENT 'returns' AFTER solved_issues,
    ADD COLUMN IF NOT EXISTS returned_e4 Int64
        COMMENT 'value of the returns in ten-thousandths' AFTER returns,
    ADD COLUMN IF NOT EXISTS first_order_at Nullable(DateTime64(3, 'UTC'))
        COMMENT 'event time of the first order' AFTER returned_e4,
    ADD COLUMN IF NOT EXISTS order_days UInt64
        COMMENT 'UTC days with an order' AFTER first_order_at,
    ADD COLUMN IF NOT EXISTS usual_gap_days UInt32
        COMMENT 'days usually between order days' AFTER order_days,
    ADD COLUMN IF NOT EXISTS at_risk_from Nullable(DateTime64(3, 'UTC'))
        COMMENT 'when the silence since the last order gets longer than usual' AFTER usual_gap_days,
    ADD COLUMN IF NOT EXISTS last_trust Nullable(Float64)
        COMMENT 'last trust answer, scale 1 to 5' AFTER at_risk_from,
    ADD COLUMN IF NOT EXISTS answers Map(LowCardinality(String), UInt64)
        COMMENT 'answers by question' AFTER last_trust,
    ADD COLUMN IF NOT EXISTS answer_sums Map(LowCardinality(String), Float64)
        COMMENT 'sum of the answers by question, on its usual scale' AFTER answers,
    ADD COLUMN IF NOT EXISTS texts_scored UInt64
        COMMENT 'texts with a sentiment' AFTER answer_sums,
    ADD COLUMN IF NOT EXISTS sentiment_sum Float64
        COMMENT 'sum of their sentiments' AFTER texts_scored,
    ADD COLUMN IF NOT EXISTS advocacy Map(LowCardinality(String), UInt64)
        COMMENT 'referrals, shares, reviews and events attended' AFTER sentiment_sum,
    ADD COLUMN IF NOT EXISTS consent Map(LowCardinality(String), Bool)
        COMMENT 'latest word by purpose' AFTER advocacy,
    ADD COLUMN IF NOT EXISTS stage LowCardinality(String)
        COMMENT 'stage of the journey after the last touchpoint' AFTER consent,
    ADD COLUMN IF NOT EXISTS stage_since Nullable(DateTime64(3, 'UTC'))
        COMMENT 'when it was entered' AFTER stage,
    ADD COLUMN IF NOT EXISTS lapses_at Nullable(DateTime64(3, 'UTC'))
        COMMENT 'when the customer lapses unless something happens' AFTER stage_since;

-- Rows of a life have a key within their customer, so a late touchpoint replaces what it changes. A
-- merge or a late touchpoint can also do away with rows: those get a version with is_deleted.
CREATE TABLE IF NOT EXISTS session_states
(
    customer_id String COMMENT 'id of the customer',
    started_at DateTime64(3, 'UTC') COMMENT 'event time of the first touchpoint',
    ended_at DateTime64(3, 'UTC') COMMENT 'event time of the last touchpoint',
    touchpoints UInt32 COMMENT 'number of touchpoints',
    channels Array(LowCardinality(String)) COMMENT 'channels, each once',
    campaign LowCardinality(String) COMMENT 'first campaign in it, empty when there is none',
    orders UInt32 COMMENT 'orders placed in it',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: there is no such session any more'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (customer_id, started_at)
COMMENT 'Touchpoints without a long silence between them; read it through the view sessions';

CREATE TABLE IF NOT EXISTS stage_visit_states
(
    customer_id String COMMENT 'id of the customer',
    entered_at DateTime64(3, 'UTC') COMMENT 'when the stage was entered',
    stage LowCardinality(String) COMMENT 'stage of the journey',
    cycle LowCardinality(String) COMMENT 'buy, own, advocate or lapsed',
    previous LowCardinality(String) COMMENT 'stage before, empty when there is none',
    backward Bool COMMENT 'whether the stage before has a higher rank',
    left_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when it was left, NULL when it was not',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: there is no such visit any more'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (customer_id, entered_at, stage)
COMMENT 'Stages that customers came into; read it through the view journeys';

CREATE TABLE IF NOT EXISTS issue_states
(
    customer_id String COMMENT 'id of the customer',
    opened_at DateTime64(3, 'UTC') COMMENT 'event time of the first contact',
    topic LowCardinality(String) COMMENT 'what it is about, empty when nobody said',
    last_contact_at DateTime64(3, 'UTC') COMMENT 'event time of the last contact',
    contacts UInt32 COMMENT 'number of contacts',
    channels Array(LowCardinality(String)) COMMENT 'channels, each once',
    solved Bool COMMENT 'whether the last contact said so',
    reopened UInt32 COMMENT 'contacts after one that had solved it',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: there is no such issue any more'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (customer_id, opened_at, topic)
COMMENT 'Contacts on one topic without many days between them; read it through the view issues';

CREATE TABLE IF NOT EXISTS order_path_states
(
    customer_id String COMMENT 'id of the customer',
    ordered_at DateTime64(3, 'UTC') COMMENT 'event time of the order',
    order_key UInt64 COMMENT 'key of the touchpoint',
    order_id String COMMENT 'id of the order',
    value_e4 Int64 COMMENT 'value of the order in ten-thousandths',
    channels Array(LowCardinality(String)) COMMENT 'channels of the touches, the oldest first',
    campaigns Array(LowCardinality(String)) COMMENT 'their campaigns, in the order of channels',
    touched_at Array(DateTime64(3, 'UTC')) COMMENT 'their event times, in the order of channels',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: there is no such order any more'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (customer_id, order_key)
COMMENT 'Touches that led to orders; read it through the views paths and attribution';

-- To change a number, insert a row of the same name: the last one holds.
CREATE TABLE IF NOT EXISTS model_parameters
(
    name LowCardinality(String) COMMENT 'name of the parameter',
    value Float64 COMMENT 'its value',
    set_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when it was set; the last holds'
)
ENGINE = ReplacingMergeTree(set_at)
ORDER BY name
COMMENT 'Parameters of the views customer_value and attribution';

-- BG/NBD: what Fader, Hardie and Lee published for CDNOW, weeks; fit your own and insert them.
INSERT INTO model_parameters (name, value)
SELECT p.1, p.2
FROM
(
    SELECT arrayJoin([('bgnbd_r', 0.243), ('bgnbd_alpha', 4.414), ('bgnbd_a', 0.793),
        ('bgnbd_b', 2.426), ('half_life_days', 7.)]) AS p
)
WHERE (SELECT count() FROM model_parameters) = 0;

-- Whoever has been silent past lapses_at is lapsed now, without a touchpoint that would say so.
-- segments are the one that was given and what behaviour says: buyer (1 order or more), repeat
-- buyer (2 or more), at risk, lapsed, and by the last recommendation answer promoter or detractor.
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
    changed_at DateTime64(3, 'UTC') COMMENT 'when this state was written',
    segment LowCardinality(String) COMMENT 'segment given last, empty when there is none',
    contacts_by_channel Map(LowCardinality(String), UInt64) COMMENT 'contacts by channel',
    sessions UInt64 COMMENT 'number of sessions',
    open_issues UInt64 COMMENT 'issues that are not solved',
    solved_issues UInt64 COMMENT 'issues that are solved',
    returns UInt64 COMMENT 'returns',
    returned_value Decimal(18, 4) COMMENT 'value of the returns',
    net_revenue Decimal(18, 4) COMMENT 'revenue without returns: the lifetime value so far',
    repeat_buyer Bool COMMENT 'whether there are two orders or more',
    first_order_at Nullable(DateTime64(3, 'UTC')) COMMENT 'event time of the first order',
    order_days UInt64 COMMENT 'UTC days with an order',
    usual_gap_days Nullable(UInt32) COMMENT 'days usually between order days; NULL without orders',
    mean_csat Nullable(Float64) COMMENT 'mean satisfaction answer, scale 1 to 5',
    mean_nps Nullable(Float64) COMMENT 'mean recommendation answer, 0 to 10 (not a score)',
    mean_ces Nullable(Float64) COMMENT 'mean effort answer, scale 1 to 7',
    mean_trust Nullable(Float64) COMMENT 'mean trust answer, scale 1 to 5',
    last_trust Nullable(Float64) COMMENT 'last trust answer, scale 1 to 5',
    mean_sentiment Nullable(Float64) COMMENT 'mean sentiment of what was written, -1 to 1',
    advocacy Map(LowCardinality(String), UInt64) COMMENT 'referrals, shares, reviews and events',
    consent Map(LowCardinality(String), Bool) COMMENT 'latest word by purpose',
    stage LowCardinality(String) COMMENT 'stage of the journey now, empty for new customers',
    stage_since Nullable(DateTime64(3, 'UTC')) COMMENT 'when it was entered',
    cycle LowCardinality(String) COMMENT 'buy, own, advocate or lapsed; empty for new customers',
    at_risk Bool COMMENT 'whether the silence since the last order is longer than usual',
    churn_risk Nullable(Float64) COMMENT 'UTC days since the last order by usual gap, > 1: at risk',
    segments Array(String) COMMENT 'segment given; buyer, repeat buyer, at risk, lapsed, ...'
)
AS WITH
    now64(3, 'UTC') AS now,
    c.stage NOT IN ('', 'lapsed') AND ifNull(c.lapses_at <= now, 0) AS has_fallen_silent,
    if(has_fallen_silent, 'lapsed', toString(c.stage)) AS stage_now,
    toBool(ifNull(c.at_risk_from <= now, 0)) AS is_at_risk
SELECT
    c.customer_id AS customer_id,
    c.identities AS identities,
    c.identity_kinds AS identity_kinds,
    c.account_id AS account_id,
    c.first_touch_at AS first_touch_at,
    c.first_touch_channel AS first_touch_channel,
    c.first_touch_campaign AS first_touch_campaign,
    c.last_touch_at AS last_touch_at,
    c.last_touch_channel AS last_touch_channel,
    c.last_touch_campaign AS last_touch_campaign,
    c.touchpoints AS touchpoints,
    c.touchpoints_by_channel AS touchpoints_by_channel,
    c.contacts AS contacts,
    c.orders AS orders,
    CAST(toDecimal128(c.revenue_e4, 4) / 10000 AS Decimal(18, 4)) AS revenue,
    CAST(round(toDecimal128(c.revenue_e4, 8) / 10000 / nullIf(c.orders, 0), 4)
        AS Nullable(Decimal(18, 4))) AS average_order_value,
    c.last_order_at AS last_order_at,
    c.last_csat AS last_csat,
    c.last_nps AS last_nps,
    multiIf(c.last_nps IS NULL, NULL, c.last_nps >= 9, 'promoter', c.last_nps >= 7, 'passive',
        'detractor') AS nps_category,
    c.last_ces AS last_ces,
    c.changed_at AS changed_at,
    c.segment AS segment,
    c.contacts_by_channel AS contacts_by_channel,
    c.sessions AS sessions,
    c.open_issues AS open_issues,
    c.solved_issues AS solved_issues,
    c.returns AS returns,
    CAST(toDecimal128(c.returned_e4, 4) / 10000 AS Decimal(18, 4)) AS returned_value,
    CAST(toDecimal128(c.revenue_e4 - c.returned_e4, 4) / 10000 AS Decimal(18, 4)) AS net_revenue,
    toBool(c.orders > 1) AS repeat_buyer,
    c.first_order_at AS first_order_at,
    c.order_days AS order_days,
    if(c.orders = 0, NULL, c.usual_gap_days) AS usual_gap_days,
    c.answer_sums['csat'] / nullIf(c.answers['csat'], 0) AS mean_csat,
    c.answer_sums['nps'] / nullIf(c.answers['nps'], 0) AS mean_nps,
    c.answer_sums['ces'] / nullIf(c.answers['ces'], 0) AS mean_ces,
    c.answer_sums['trust'] / nullIf(c.answers['trust'], 0) AS mean_trust,
    c.last_trust AS last_trust,
    c.sentiment_sum / nullIf(c.texts_scored, 0) AS mean_sentiment,
    c.advocacy AS advocacy,
    c.consent AS consent,
    stage_now AS stage,
    if(has_fallen_silent, c.lapses_at, c.stage_since) AS stage_since,
    transform(stage_now,
        ['consider', 'evaluate', 'purchase', 'enjoy', 'advocate', 'bond', 'lapsed'],
        ['buy', 'buy', 'buy', 'own', 'advocate', 'advocate', 'lapsed'], '') AS cycle,
    is_at_risk AS at_risk,
    -- as greatest() takes no notice of NULL
    if(c.last_order_at IS NULL, NULL, greatest(dateDiff('day', c.last_order_at, now), 0)
        / nullIf(c.usual_gap_days, 0)) AS churn_risk,
    arrayFilter(s -> s != '', arrayDistinct([
        toString(c.segment),
        if(c.orders > 0, 'buyer', ''),
        if(c.orders > 1, 'repeat buyer', ''),
        if(is_at_risk, 'at risk', ''),
        if(stage_now = 'lapsed', 'lapsed', ''),
        multiIf(c.last_nps >= 9, 'promoter', c.last_nps < 7, 'detractor', '')])) AS segments
FROM customer_states AS c FINAL
WHERE c.is_deleted = 0
COMMENT 'The single customer view: one row a customer';

-- RFM and P(alive) of what is known now; as_of only moves the clock, and customers without an order
-- by then are left out. Scores are quintiles: 1 + the fifths of all buyers that are strictly worse,
-- rounded down, so equal customers have equal scores. P(alive) is that of the BG/NBD model: x
-- repeat orders, the last one t_x weeks after the first order, which was T weeks ago (Fader, Hardie
-- and Lee).
-- ClickHouse does not enforce the types declared for a view with a parameter; a test does.
CREATE OR REPLACE VIEW customer_value
(
    customer_id String COMMENT 'id of the customer',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment asked for',
    recency_days UInt32 COMMENT 'UTC days since the last order',
    frequency UInt64 COMMENT 'orders placed',
    monetary Decimal(18, 4) COMMENT 'value of the orders without returns',
    recency_score UInt8 COMMENT '5 is the fifth of the buyers with the latest orders',
    frequency_score UInt8 COMMENT '5 is the fifth of the buyers with the most orders',
    monetary_score UInt8 COMMENT '5 is the fifth of the buyers who spent most',
    rfm String COMMENT 'the three scores in a row: 555 are the best customers',
    repeat_orders UInt64 COMMENT 'x: orders after the first',
    weeks_buying Float64 COMMENT 't_x: weeks from the first order to the last',
    weeks_known Float64 COMMENT 'T: weeks from the first order to as_of',
    p_alive Nullable(Float64) COMMENT 'probability that the customer will ever buy again'
)
AS WITH
    (SELECT value FROM model_parameters FINAL WHERE name = 'bgnbd_r') AS r,
    (SELECT value FROM model_parameters FINAL WHERE name = 'bgnbd_alpha') AS alpha,
    (SELECT value FROM model_parameters FINAL WHERE name = 'bgnbd_a') AS a,
    (SELECT value FROM model_parameters FINAL WHERE name = 'bgnbd_b') AS b
SELECT
    customer_id,
    as_of,
    recency_days,
    frequency,
    monetary,
    toUInt8(1 + intDiv(5 * (rank() OVER (ORDER BY recency_days DESC) - 1), count() OVER ()))
        AS recency_score,
    toUInt8(1 + intDiv(5 * (rank() OVER (ORDER BY frequency) - 1), count() OVER ()))
        AS frequency_score,
    toUInt8(1 + intDiv(5 * (rank() OVER (ORDER BY monetary) - 1), count() OVER ()))
        AS monetary_score,
    concat(toString(recency_score), toString(frequency_score), toString(monetary_score)) AS rfm,
    repeat_orders,
    weeks_buying,
    weeks_known,
    CAST(if(repeat_orders = 0, 1., 1 / (1 + a / (b + repeat_orders - 1)
        * pow((alpha + weeks_known) / (alpha + weeks_buying), r + repeat_orders)))
        AS Nullable(Float64)) AS p_alive
FROM
(
    SELECT
        c.customer_id AS customer_id,
        {as_of:DateTime64(3, 'UTC')} AS as_of,
        assumeNotNull(c.first_order_at) AS first,
        assumeNotNull(c.last_order_at) AS last,
        toUInt32(greatest(dateDiff('day', last, as_of), 0)) AS recency_days,
        c.orders AS frequency,
        CAST(toDecimal128(c.revenue_e4 - c.returned_e4, 4) / 10000 AS Decimal(18, 4)) AS monetary,
        toUInt64(c.orders - 1) AS repeat_orders,
        dateDiff('millisecond', first, last) / 604800000 AS weeks_buying,
        greatest(dateDiff('millisecond', first, as_of) / 604800000, weeks_buying) AS weeks_known
    FROM customer_states AS c FINAL
    WHERE c.is_deleted = 0 AND c.orders > 0 AND c.first_order_at <= {as_of:DateTime64(3, 'UTC')}
)
COMMENT 'RFM and P(alive) of buyers: SELECT * FROM customer_value(as_of = ''2026-01-31 12:00:00'')';
