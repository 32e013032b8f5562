-- What metrics_at said at the latest push, for readers that cannot wait for a sum or look all the
-- time, such as alerts. A push is one insert of one block, so it is seen whole or not at all.
CREATE TABLE IF NOT EXISTS rolling_metrics
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    window LowCardinality(String) COMMENT 'name in metric_windows, or now',
    dimension LowCardinality(String) COMMENT 'all, or a name in metric_dimensions',
    member String COMMENT 'member of the dimension; empty for all',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment of the push: the highest is the truth',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Nullable(Float64) COMMENT 'sum of the numerator; NULL when the value is hidden',
    denominator Nullable(Int64) COMMENT 'what it is divided by; NULL for totals',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0 or n too small',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value'
)
ENGINE = ReplacingMergeTree(as_of)
ORDER BY (metric, dimension, member, window)
TTL toDateTime(as_of) + INTERVAL 1 DAY
COMMENT 'Pushed values: read metrics_pushed';

-- Only rows of the latest push: a member that has left every window has no value.
CREATE OR REPLACE VIEW metrics_pushed
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    window LowCardinality(String) COMMENT 'name in metric_windows, or now',
    dimension LowCardinality(String) COMMENT 'all, or a name in metric_dimensions',
    member String COMMENT 'member of the dimension; empty for all',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment of the push',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Nullable(Float64) COMMENT 'sum of the numerator; NULL when the value is hidden',
    denominator Nullable(Int64) COMMENT 'what it is divided by; NULL for totals',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0 or n too small',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value',
    unit LowCardinality(String) COMMENT 'unit of value, low and high',
    direction LowCardinality(String) COMMENT 'which way is better: up, down or none'
)
AS SELECT r.metric AS metric, d.family AS family, r.window AS window, r.dimension AS dimension,
    r.member AS member, r.as_of AS as_of, r.n AS n, r.numerator AS numerator,
    r.denominator AS denominator, r.value AS value, r.low AS low, r.high AS high, d.unit AS unit,
    d.direction AS direction
FROM (SELECT * FROM rolling_metrics FINAL) AS r
INNER JOIN (SELECT * FROM metric_definitions FINAL) AS d ON r.metric = d.name
WHERE r.as_of = (SELECT max(as_of) FROM rolling_metrics)
COMMENT 'Rolling metrics as they were pushed last: a few seconds old, and read at once';
