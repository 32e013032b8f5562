-- What somebody should look at, and how far metrics are from where they should be.
--
-- An alert that is raised again for the same cause has the same id and replaces itself. Kept for
-- ever: there are few, and they are the record of what was noticed when.
CREATE TABLE IF NOT EXISTS alert_records
(
    alert_id String COMMENT '32 hexadecimal digits that follow from kind and cause',
    kind LowCardinality(String) COMMENT 'shared, component_full, churn_risk, target_missed, ...',
    raised_at DateTime64(3, 'UTC') COMMENT 'time of the record that caused it, or when it was noticed',
    customer_id String COMMENT 'customer it is about, empty when there is none',
    reason String COMMENT 'why, in one plain sentence',
    evidence Map(LowCardinality(String), String) COMMENT 'figures and names behind the reason'
)
ENGINE = ReplacingMergeTree
ORDER BY (kind, alert_id)
COMMENT 'Alerts as they were written to cx.alerts; read it through the view alerts';

CREATE OR REPLACE VIEW alerts
(
    alert_id String COMMENT '32 hexadecimal digits that follow from kind and cause',
    kind LowCardinality(String) COMMENT 'shared, component_full, churn_risk, target_missed, ...',
    raised_at DateTime64(3, 'UTC') COMMENT 'time of the record that caused it, or when it was noticed',
    customer_id String COMMENT 'customer it is about, as of then; empty when there is none',
    identity String COMMENT 'token of the identity it is about, empty when there is none',
    reason String COMMENT 'why, in one plain sentence',
    evidence Map(LowCardinality(String), String) COMMENT 'figures and names behind the reason'
)
AS SELECT alert_id, kind, raised_at, customer_id, evidence['identity'] AS identity, reason, evidence
FROM alert_records FINAL
COMMENT 'Every alert once';

-- Targets are set with `touchstream targets apply`.
CREATE TABLE IF NOT EXISTS target_states
(
    target_id String COMMENT 'name in the file of targets',
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    window LowCardinality(String) COMMENT '1h, 24h, 30d, ...',
    dimension LowCardinality(String) COMMENT 'all, channel, segment, ...',
    member String COMMENT 'member of the dimension; empty for all',
    target Float64 COMMENT 'where the metric should be, in its own unit',
    direction LowCardinality(String) COMMENT 'which way is better: up or down',
    tolerance Float64 COMMENT 'a miss by no more than this is at risk',
    minimum_n UInt64 COMMENT 'with fewer measurements nothing is said',
    weight Float64 COMMENT 'share in the experience index',
    valid_from DateTime64(3, 'UTC') COMMENT 'holds from then on',
    valid_to Nullable(DateTime64(3, 'UTC')) COMMENT 'holds before then; NULL: for good',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: the target is gone'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY target_id
COMMENT 'Targets of metrics; read it through the view targets';

CREATE OR REPLACE VIEW targets
(
    target_id String COMMENT 'name in the file of targets',
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    window LowCardinality(String) COMMENT '1h, 24h, 30d, ...',
    dimension LowCardinality(String) COMMENT 'all, channel, segment, ...',
    member String COMMENT 'member of the dimension; empty for all',
    target Float64 COMMENT 'where the metric should be, in its own unit',
    direction LowCardinality(String) COMMENT 'which way is better: up or down',
    tolerance Float64 COMMENT 'a miss by no more than this is at risk',
    minimum_n UInt64 COMMENT 'with fewer measurements nothing is said',
    weight Float64 COMMENT 'share in the experience index',
    valid_from DateTime64(3, 'UTC') COMMENT 'holds from then on',
    valid_to Nullable(DateTime64(3, 'UTC')) COMMENT 'holds before then; NULL: for good'
)
AS SELECT target_id, metric, window, dimension, member, target, direction, tolerance, minimum_n,
    weight, valid_from, valid_to
FROM target_states FINAL
WHERE is_deleted = 0
    AND valid_from <= now64(3, 'UTC') AND (valid_to IS NULL OR now64(3, 'UTC') < valid_to)
COMMENT 'Targets that hold now';

-- The order of the conditions is the meaning: no figure, too small a sample, good enough, nearly
-- good enough, and not to be told from good enough (the interval still holds the target).
CREATE OR REPLACE VIEW experience_gap
(
    target_id String COMMENT 'name in the file of targets',
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    window LowCardinality(String) COMMENT '1h, 24h, 30d, ...',
    dimension LowCardinality(String) COMMENT 'all, channel, segment, ...',
    member String COMMENT 'member of the dimension; empty for all',
    direction LowCardinality(String) COMMENT 'which way is better: up or down',
    target Float64 COMMENT 'where the metric should be',
    n Int64 COMMENT 'number of measurements',
    value Nullable(Float64) COMMENT 'where the metric is',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value',
    gap Nullable(Float64) COMMENT 'distance to the target; positive is better than the target',
    status LowCardinality(String) COMMENT 'met, at risk, missed, too few or no data',
    attainment Nullable(Float64) COMMENT 'how much of the target is reached, 0 to 1',
    tolerance Float64 COMMENT 'a miss by no more than this is at risk',
    minimum_n UInt64 COMMENT 'with fewer measurements nothing is said',
    weight Float64 COMMENT 'share in the experience index',
    unit LowCardinality(String) COMMENT 'unit of target, value, low, high, gap and tolerance'
)
AS SELECT
    t.target_id AS target_id,
    t.metric AS metric,
    t.window AS window,
    t.dimension AS dimension,
    t.member AS member,
    t.direction AS direction,
    t.target AS target,
    m.n AS n,
    m.value AS value,
    m.low AS low,
    m.high AS high,
    if(t.direction = 'up', m.value - t.target, t.target - m.value) AS gap,
    multiIf(
        isNull(m.value) AND m.n = 0, 'no data',
        m.n < t.minimum_n, 'too few',
        isNull(m.value), 'no data',
        gap >= 0, 'met',
        gap >= -t.tolerance, 'at risk',
        ifNull(if(t.direction = 'up', m.high >= t.target, m.low <= t.target), 0), 'at risk',
        'missed'
    ) AS status,
    multiIf(
        isNull(m.value), NULL,
        gap >= 0, 1.,
        t.direction = 'up' AND t.target > 0, greatest(m.value / t.target, 0.),
        t.direction = 'down' AND t.target > 0, t.target / m.value,
        0.
    ) AS attainment,
    t.tolerance AS tolerance,
    t.minimum_n AS minimum_n,
    t.weight AS weight,
    m.unit AS unit
FROM targets AS t
LEFT ANY JOIN
(
    SELECT metric, window, dimension, member, n, value, low, high, unit
    FROM metrics
    WHERE metric IN (SELECT metric FROM targets)
) AS m
    ON t.metric = m.metric AND t.window = m.window AND t.dimension = m.dimension
    AND t.member = m.member
SETTINGS join_use_nulls = 0
COMMENT 'Every target that holds now, and how far its metric is from it';

-- Targets without a figure, or with too small a sample, have no say.
CREATE OR REPLACE VIEW experience_index
(
    experience_index Nullable(Float64) COMMENT 'weighted mean of attainment, 0 to 100; NULL without a figure',
    targets UInt64 COMMENT 'targets that hold now',
    judged UInt64 COMMENT 'targets with a figure and a large enough sample',
    met UInt64 COMMENT 'targets that are met',
    at_risk UInt64 COMMENT 'targets that are at risk',
    missed UInt64 COMMENT 'targets that are missed',
    weight Float64 COMMENT 'sum of the weights of the judged targets'
)
AS SELECT
    100 * sumIf(g.weight * ifNull(g.attainment, 0.), has_say) / nullIf(sumIf(g.weight, has_say), 0)
        AS experience_index,
    count() AS targets,
    countIf(has_say) AS judged,
    countIf(g.status = 'met') AS met,
    countIf(g.status = 'at risk') AS at_risk,
    countIf(g.status = 'missed') AS missed,
    sumIf(g.weight, has_say) AS weight
FROM
(
    SELECT weight, attainment, status, status IN ('met', 'at risk', 'missed') AS has_say
    FROM experience_gap
) AS g
COMMENT 'How much of all targets is reached, in one figure';
