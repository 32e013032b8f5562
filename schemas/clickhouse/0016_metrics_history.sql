-- Metrics by UTC day: what happened on that day alone, however late it was heard of. Summed from the
-- panes of days when it is asked, so a merge or a late touchpoint corrects the past, too. Sums of
-- numerators and denominators over days are those of longer windows; that is why there are no windows
-- here. Numbers of customers are levels, not sums of days: metrics_at has them at any moment.
CREATE OR REPLACE VIEW metrics_history
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    day Date COMMENT 'UTC day of event time',
    dimension String COMMENT 'all, or a name in metric_dimensions',
    member String COMMENT 'member of the dimension; empty for all',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Nullable(Float64) COMMENT 'sum of the numerator; NULL when the value is hidden',
    denominator Nullable(Int64) COMMENT 'what it is divided by; NULL for totals',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0 or n too small',
    unit LowCardinality(String) COMMENT 'unit of value',
    direction LowCardinality(String) COMMENT 'which way is better: up, down or none'
)
AS WITH
    days AS
    (
        SELECT metric, start, d.1 AS dimension, d.2 AS member, sum(n) AS n, sum(total) AS total,
            sumMap(buckets) AS buckets
        FROM
        (
            SELECT toString(metric) AS metric, start, n, total, buckets,
                arrayJoin(if(dimension = 'channel', [('all', ''), ('channel', toString(member))],
                    [(toString(dimension), toString(member))])) AS d
            FROM metric_panes FINAL
            WHERE resolution = 'day' AND dimension != 'all'
        )
        GROUP BY metric, start, dimension, member
    ),
    sums AS
    (
        SELECT
            t.metric AS metric, p.start AS start, p.dimension AS dimension, p.member AS member,
            sumIf(t.weight * if(t.part = 'n', toFloat64(p.n), p.total / t.scale),
                t.side = 'numerator') AS numerator,
            sumIf(t.weight * if(t.part = 'n', toFloat64(p.n), p.total / t.scale),
                t.side = 'denominator') AS denominator,
            sumIf(p.n, t.side = 'numerator') AS measured,
            sumMapIf(p.buckets, t.side = 'numerator') AS buckets,
            greatest(maxIf(t.scale, t.side = 'numerator'), 1) AS scale
        FROM metric_terms AS t
        INNER JOIN days AS p ON t.measure = p.metric
        WHERE has(t.dimensions, p.dimension)
            AND t.metric NOT IN (SELECT metric FROM metric_terms WHERE level != '')
        GROUP BY metric, start, dimension, member
        HAVING max(p.n != 0 OR p.total != 0)
    ),
    notEmpty(d.denominator) AS divided,
    if(divided, toInt64(round(s.denominator)), s.measured) AS measurements,
    measurements < d.below AS hidden,
    -- As in metrics_at: the bucket at which the count first exceeds quantile * (n - 1).
    arraySort(mapKeys(s.buckets)) AS bucket_keys,
    arrayCumSum(arrayMap(k -> s.buckets[k], bucket_keys)) AS counts,
    bucket_keys[arrayFirstIndex(c -> c > assumeNotNull(d.quantile) * (counts[-1] - 1), counts)]
        AS bucket,
    if(bucket < 0, 0, 2 * pow(1.01 / 0.99, bucket) / (1.01 / 0.99 + 1)) / s.scale AS quantile
SELECT
    d.name AS metric,
    d.family AS family,
    toDate(s.start) AS day,
    s.dimension AS dimension,
    s.member AS member,
    measurements AS n,
    if(hidden, NULL, s.numerator) AS numerator,
    if(divided OR d.quantile IS NOT NULL, measurements, NULL) AS denominator,
    multiIf(
        hidden, NULL,
        d.quantile IS NOT NULL, if(empty(counts), NULL, quantile),
        divided, d.factor * s.numerator / nullIf(s.denominator, 0),
        d.factor * s.numerator) AS value,
    d.unit AS unit,
    d.direction AS direction
FROM sums AS s
INNER JOIN (SELECT * FROM metric_definitions FINAL) AS d ON s.metric = d.name
SETTINGS join_use_nulls = 0
COMMENT 'Metrics by day, of what happened on that day alone';
