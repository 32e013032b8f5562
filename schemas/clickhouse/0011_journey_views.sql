-- What customers lived through, and what led to their orders.
CREATE OR REPLACE VIEW sessions
(
    customer_id String COMMENT 'id of the customer',
    started_at DateTime64(3, 'UTC') COMMENT 'event time of the first touchpoint',
    ended_at DateTime64(3, 'UTC') COMMENT 'event time of the last touchpoint',
    duration_seconds Float64 COMMENT 'from the first touchpoint to the last',
    touchpoints UInt32 COMMENT 'number of touchpoints',
    channels Array(LowCardinality(String)) COMMENT 'channels, each once',
    campaign LowCardinality(String) COMMENT 'first campaign in it, empty when there is none',
    orders UInt32 COMMENT 'orders placed in it'
)
AS SELECT
    customer_id,
    started_at,
    ended_at,
    dateDiff('millisecond', started_at, ended_at) / 1000 AS duration_seconds,
    touchpoints,
    channels,
    campaign,
    orders
FROM session_states FINAL
WHERE is_deleted = 0
COMMENT 'Sessions of customers over all channels';

-- Silence writes nothing, so the visit of those who have just lapsed is put in here; like this the
-- last visit of a customer is always the stage in customers.
CREATE OR REPLACE VIEW journeys
(
    customer_id String COMMENT 'id of the customer',
    entered_at DateTime64(3, 'UTC') COMMENT 'when the stage was entered',
    stage LowCardinality(String) COMMENT 'stage of the journey',
    cycle LowCardinality(String) COMMENT 'buy, own, advocate or lapsed',
    previous LowCardinality(String) COMMENT 'stage before, empty when there is none',
    backward Bool COMMENT 'whether the stage before has a higher rank',
    left_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when it was left, NULL for the stage of now',
    dwell_seconds Float64 COMMENT 'time in the stage, so far when it was not left'
)
AS SELECT
    customer_id,
    entered_at,
    stage,
    cycle,
    previous,
    backward,
    left_at,
    greatest(dateDiff('millisecond', entered_at, ifNull(left_at, now64(3, 'UTC'))), 0) / 1000
        AS dwell_seconds
FROM
(
    SELECT
        v.customer_id AS customer_id,
        v.entered_at AS entered_at,
        v.stage AS stage,
        v.cycle AS cycle,
        v.previous AS previous,
        v.backward AS backward,
        ifNull(v.left_at, c.lapses_at) AS left_at
    FROM stage_visit_states AS v FINAL
    LEFT ANY JOIN
    (
        SELECT customer_id, lapses_at FROM customer_states FINAL
        WHERE is_deleted = 0 AND stage NOT IN ('', 'lapsed') AND lapses_at <= now64(3, 'UTC')
    ) AS c ON v.customer_id = c.customer_id
    WHERE v.is_deleted = 0
    UNION ALL
    SELECT customer_id, assumeNotNull(lapses_at), 'lapsed', 'lapsed', stage, false, NULL
    FROM customer_states FINAL
    WHERE is_deleted = 0 AND stage NOT IN ('', 'lapsed') AND lapses_at <= now64(3, 'UTC')
)
SETTINGS join_use_nulls = 0
COMMENT 'Journeys of customers: one row a visit of a stage';

CREATE OR REPLACE VIEW stage_transitions
(
    from_stage LowCardinality(String) COMMENT 'stage that was left, empty for new customers',
    to_stage LowCardinality(String) COMMENT 'stage that was entered',
    visits UInt64 COMMENT 'how often',
    customers UInt64 COMMENT 'by how many customers',
    probability Float64 COMMENT 'share of all that left from_stage',
    mean_dwell_seconds Nullable(Float64) COMMENT 'mean time in from_stage before; NULL for new ones'
)
AS SELECT
    from_stage,
    to_stage,
    count() AS visits,
    uniqExact(customer_id) AS customers,
    count() / sum(count()) OVER (PARTITION BY from_stage) AS probability,
    avg(stayed) AS mean_dwell_seconds
FROM
(
    SELECT
        customer_id,
        previous AS from_stage,
        stage AS to_stage,
        if(previous != '' AND lagInFrame(stage) OVER visits_in_order = previous,
            dateDiff('millisecond', lagInFrame(entered_at) OVER visits_in_order, entered_at) / 1000,
            NULL) AS stayed
    FROM journeys
    -- of visits in the same millisecond the one that was not left at once is the last
    WINDOW visits_in_order AS (PARTITION BY customer_id ORDER BY entered_at, left_at NULLS LAST)
)
GROUP BY from_stage, to_stage
COMMENT 'Transition matrix of the journey: which stage leads where';

-- Customers may skip stages, so a share is that of customers who were in both stages.
CREATE OR REPLACE VIEW funnel
(
    rank UInt8 COMMENT 'place of the stage in the journey',
    stage LowCardinality(String) COMMENT 'stage of the journey',
    customers UInt64 COMMENT 'customers that were ever in it',
    stage_before LowCardinality(String) COMMENT 'stage that leads to it, empty for the first',
    customers_before UInt64 COMMENT 'customers that were ever in the stage before',
    customers_of_both UInt64 COMMENT 'customers that were in both',
    share Nullable(Float64) COMMENT 'customers_of_both by customers_before; NULL without any'
)
AS WITH
    [1, 2, 3, 4, 4, 4] AS ranks,
    ['consider', 'evaluate', 'purchase', 'enjoy', 'advocate', 'bond'] AS names,
    ['', 'consider', 'evaluate', 'purchase', 'purchase', 'purchase'] AS names_before
SELECT
    row.1 AS rank,
    row.2 AS stage,
    row.3 AS customers,
    row.4 AS stage_before,
    row.5 AS customers_before,
    row.6 AS customers_of_both,
    row.6 / nullIf(row.5, 0) AS share
FROM
(
    SELECT arrayJoin(arrayZip(
        ranks,
        names,
        arrayResize(sumForEach(arrayMap(s -> has(stages, s), names)), 6),
        names_before,
        arrayResize(sumForEach(arrayMap(s -> has(stages, s), names_before)), 6),
        arrayResize(sumForEach(arrayMap((s, before) -> has(stages, s) AND has(stages, before),
            names, names_before)), 6))) AS row
    FROM
    (
        SELECT groupUniqArray(toString(stage)) AS stages
        FROM stage_visit_states FINAL
        WHERE is_deleted = 0
        GROUP BY customer_id
    )
)
COMMENT 'How many customers ever got to each stage of the journey';

CREATE OR REPLACE VIEW issues
(
    customer_id String COMMENT 'id of the customer',
    topic LowCardinality(String) COMMENT 'what it is about, empty when nobody said',
    opened_at DateTime64(3, 'UTC') COMMENT 'event time of the first contact',
    last_contact_at DateTime64(3, 'UTC') COMMENT 'event time of the last contact',
    duration_seconds Float64 COMMENT 'from the first contact to the last',
    contacts UInt32 COMMENT 'number of contacts',
    channels Array(LowCardinality(String)) COMMENT 'channels, each once',
    switched Bool COMMENT 'whether it was seen on two channels or more',
    solved Bool COMMENT 'whether the last contact said so',
    reopened UInt32 COMMENT 'contacts after one that had solved it'
)
AS SELECT
    customer_id,
    topic,
    opened_at,
    last_contact_at,
    dateDiff('millisecond', opened_at, last_contact_at) / 1000 AS duration_seconds,
    contacts,
    channels,
    toBool(length(channels) > 1) AS switched,
    solved,
    reopened
FROM issue_states FINAL
WHERE is_deleted = 0
COMMENT 'Issues of customers: contacts on one topic';

CREATE OR REPLACE VIEW paths
(
    customer_id String COMMENT 'id of the customer',
    ordered_at DateTime64(3, 'UTC') COMMENT 'event time of the order',
    order_id String COMMENT 'id of the order',
    value Decimal(18, 4) COMMENT 'value of the order',
    touches UInt64 COMMENT 'number of touches, 0 for a direct order',
    channels Array(LowCardinality(String)) COMMENT 'channels of the touches, the oldest first',
    campaigns Array(LowCardinality(String)) COMMENT 'their campaigns, in the order of channels',
    touched_at Array(DateTime64(3, 'UTC')) COMMENT 'their event times, in the order of channels',
    lead_seconds Nullable(Float64) COMMENT 'from the first touch to the order; NULL without touches'
)
AS SELECT
    customer_id,
    ordered_at,
    order_id,
    CAST(toDecimal128(value_e4, 4) / 10000 AS Decimal(18, 4)) AS value,
    length(channels) AS touches,
    channels,
    campaigns,
    touched_at,
    if(empty(touched_at), NULL, dateDiff('millisecond', touched_at[1], ordered_at) / 1000)
        AS lead_seconds
FROM order_path_states FINAL
WHERE is_deleted = 0
COMMENT 'What led to each order';

-- Chain of first order: paths end in '(order)'; what customers without any order did, session by
-- session, ends in '(none)'. Channels in a row that are the same are one step, which changes no
-- removal effect.
CREATE OR REPLACE VIEW channel_transitions
(
    from_channel LowCardinality(String) COMMENT 'channel, or (start)',
    to_channel LowCardinality(String) COMMENT 'channel that came next, (order) or (none)',
    transitions UInt64 COMMENT 'how often',
    probability Float64 COMMENT 'share of all that left from_channel'
)
AS SELECT
    step.1 AS from_channel,
    step.2 AS to_channel,
    count() AS transitions,
    count() / sum(count()) OVER (PARTITION BY from_channel) AS probability
FROM
(
    SELECT arrayJoin(arrayZip(arrayConcat(['(start)'], steps), arrayConcat(steps, [finish])))
        AS step
    FROM
    (
        SELECT CAST(arrayCompact(channels) AS Array(String)) AS steps, '(order)' AS finish
        FROM order_path_states FINAL
        WHERE is_deleted = 0 AND notEmpty(channels)
        UNION ALL
        SELECT
            CAST(arrayCompact(arrayFilter(c -> c NOT IN ('purchase', 'survey', 'employee'),
                arrayFlatten(arrayMap(s -> s.2, arraySort(groupArray((started_at, channels)))))))
                AS Array(String)) AS steps,
            '(none)' AS finish
        FROM session_states FINAL
        WHERE is_deleted = 0 AND customer_id IN
        (
            SELECT customer_id FROM customer_states FINAL WHERE is_deleted = 0 AND orders = 0
        )
        GROUP BY customer_id
        HAVING notEmpty(steps)
    )
)
GROUP BY from_channel, to_channel
COMMENT 'Transition matrix of channels, to an order or to none';

-- Removal effect: 1 - P(order without the channel) / P(order). Without a channel its row is all 0,
-- so whoever comes to it is lost. P(order) is what has come from (start) to (order) after 2^20
-- steps: the matrix squared 20 times.
CREATE OR REPLACE VIEW channel_effects
(
    channel LowCardinality(String) COMMENT 'the channel',
    removal_effect Float64 COMMENT 'share of orders that would be lost without it',
    share Float64 COMMENT 'removal effect by the sum of all: the share of credit'
)
AS WITH
    chain AS
    (
        SELECT
            arraySort(groupUniqArrayIf(toString(from_channel), from_channel != '(start)'))
                AS channels,
            arrayConcat(['(start)'], channels, ['(order)']) AS states,
            mapFromArrays(groupArray(concat(from_channel, ' > ', to_channel)),
                groupArray(probability)) AS probabilities
        FROM channel_transitions
    ),
    chains AS
    (
        SELECT
            arrayJoin(arrayConcat([''], channels)) AS removed,
            length(states) AS size,
            arrayMap(f -> arrayMap(t -> multiIf(
                f = removed, 0.,
                f = '(order)' AND t = '(order)', 1.,
                probabilities[concat(f, ' > ', t)]), states), states) AS matrix
        FROM chain
    ),
    solved AS
    (
        SELECT
            removed,
            arrayFold((m, i) -> arrayMap(row -> arrayMap(
                    j -> arraySum(arrayMap((x, other) -> x * other[j], row, m)), range(1, size + 1)
                ), m), range(20), matrix)[1][size] AS p_order
        FROM chains
    ),
    effects AS
    (
        SELECT removed, 1 - p_order / maxIf(p_order, removed = '') OVER () AS effect
        FROM solved
        WHERE p_order >= 0
    )
SELECT
    removed AS channel,
    effect AS removal_effect,
    effect / sum(effect) OVER () AS share
FROM effects
WHERE removed != '' AND isFinite(effect)
COMMENT 'Removal effects of channels on orders, by a Markov chain of first order';

-- Every model gives out each order once. Orders without a touch go to channel '': direct.
--   first, last   the first or the last touch has it all
--   linear        all touches alike
--   position      0.4 the first, 0.4 the last, 0.2 those between; of two 0.5 each
--   time_decay    2^(-age / half_life_days), age at the order
--   shapley       by channel. An order comes about when all its channels are there, so the game is
--                 a sum of unanimity games; the Shapley value of each is an equal part for every
--                 channel in it.
--   markov        by channel, orders with touches by share in channel_effects
CREATE OR REPLACE VIEW attribution
(
    model LowCardinality(String) COMMENT 'how orders are credited: first, last, linear, ...',
    channel LowCardinality(String) COMMENT 'channel, empty for direct orders',
    campaign LowCardinality(String) COMMENT 'campaign; always empty for shapley and markov',
    orders Float64 COMMENT 'orders credited',
    revenue Float64 COMMENT 'value of the orders credited'
)
AS SELECT
    credit.1 AS model,
    credit.2 AS channel,
    credit.3 AS campaign,
    sum(credit.4) AS orders,
    sum(credit.4 * value_e4) / 10000 AS revenue
FROM
(
    WITH
        ifNull((SELECT value FROM model_parameters FINAL WHERE name = 'half_life_days'), 7)
            AS half_life_days,
        length(channels) AS n,
        -- by the age at the last touch: the same shares, and never all 0
        arrayMap(t -> exp2(-dateDiff('millisecond', t, touched_at[-1]) / 86400000 / half_life_days),
            touched_at) AS decayed
    SELECT
        value_e4,
        arrayJoin(if(n = 0,
            arrayMap(model -> (model, '', '', 1.),
                ['first', 'last', 'linear', 'position', 'time_decay', 'shapley']),
            arrayConcat(
                [('first', toString(channels[1]), toString(campaigns[1]), 1.)],
                [('last', toString(channels[-1]), toString(campaigns[-1]), 1.)],
                arrayMap((c, k) -> ('linear', toString(c), toString(k), 1 / n),
                    channels, campaigns),
                arrayMap((c, k, i) -> ('position', toString(c), toString(k),
                    multiIf(n <= 2, 1 / n, i IN (1, n), 0.4, 0.2 / (n - 2))),
                    channels, campaigns, arrayEnumerate(channels)),
                arrayMap((c, k, w) -> ('time_decay', toString(c), toString(k),
                    w / arraySum(decayed)), channels, campaigns, decayed),
                arrayMap(c -> ('shapley', toString(c), '', 1 / length(arrayDistinct(channels))),
                    arrayDistinct(channels))))) AS credit
    FROM order_path_states FINAL
    WHERE is_deleted = 0
)
GROUP BY model, channel, campaign
UNION ALL
SELECT 'markov', e.channel, '', e.share * o.orders, e.share * o.value_e4 / 10000
FROM channel_effects AS e
CROSS JOIN
(
    SELECT count() AS orders, sum(value_e4) AS value_e4
    FROM order_path_states FINAL
    WHERE is_deleted = 0 AND notEmpty(channels)
) AS o
WHERE e.share > 0
UNION ALL
SELECT 'markov', '', '', toFloat64(count()), sum(value_e4) / 10000
FROM order_path_states FINAL
WHERE is_deleted = 0 AND empty(channels)
HAVING count() > 0
COMMENT 'Orders and revenue credited to channels and campaigns, by model';
