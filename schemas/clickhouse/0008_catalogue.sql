-- The catalogue as formulas: panes are of measures, metrics are formulas over them.
ALTER TABLE metric_panes
    ADD COLUMN IF NOT EXISTS buckets Map(Int32, Int64)
        COMMENT 'measurements by bucket of a histogram; empty without one' AFTER squares,
    COMMENT COLUMN metric 'name of a measure; of a level also its window: buyers@30d',
    COMMENT COLUMN dimension 'what member is a member of: channel, ...; levels also have all',
    COMMENT COLUMN member 'member of the dimension: phone',
    COMMENT COLUMN total 'their sum, in 1/scale; of a level its change on that day';

-- All filled from the catalogue at the end of every migrate.
CREATE OR REPLACE TABLE metric_definitions
(
    name LowCardinality(String) COMMENT 'name of the metric',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    help String COMMENT 'what it says',
    numerator Map(String, Int64) COMMENT 'weight by term: measure, measure.n or measure.all',
    denominator Map(String, Int64) COMMENT 'weight by term; empty for totals and quantiles',
    factor Int64 COMMENT '100 for percentages and indexes',
    quantile Nullable(Float64) COMMENT 'of the histogram of the numerator, instead of a division',
    below Int64 COMMENT 'with fewer measurements than this the value is hidden',
    squared Bool COMMENT 'whether the interval follows from squares',
    unit LowCardinality(String) COMMENT 'unit of value, low and high',
    direction LowCardinality(String) COMMENT 'which way is better: up, down or none',
    span LowCardinality(String) COMMENT 'rolling; days: whole UTC days; now: no window',
    windows Array(LowCardinality(String)) COMMENT 'windows it is given for',
    dimensions Array(LowCardinality(String)) COMMENT 'dimensions it is given for'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT 'The metric catalogue';

CREATE TABLE IF NOT EXISTS measure_definitions
(
    name LowCardinality(String) COMMENT 'name of the measure',
    help String COMMENT 'what is measured',
    scale Int64 COMMENT 'panes hold 1/scale of the unit',
    squares Bool COMMENT 'whether panes keep squares, which give the interval',
    histogram Bool COMMENT 'whether panes keep a histogram, which gives quantiles',
    level LowCardinality(String) COMMENT 'windows or now for a number of customers; else empty'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT 'What metrics are made of';

CREATE TABLE IF NOT EXISTS metric_windows
(
    name LowCardinality(String) COMMENT '5m, 1h, ...; all has no beginning',
    seconds Int64 COMMENT 'length; 0 for all'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT 'Windows of rolling metrics';

CREATE TABLE IF NOT EXISTS metric_dimensions
(
    name LowCardinality(String) COMMENT 'channel, queue, ...',
    help String COMMENT 'what its members are',
    step Int64 COMMENT 'seconds of its smallest panes: 60 or 3600'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT 'What measurements are told apart by';

CREATE OR REPLACE VIEW metric_terms
(
    metric String COMMENT 'name in metric_definitions',
    side String COMMENT 'numerator or denominator',
    measure String COMMENT 'name in measure_definitions',
    part String COMMENT 'n: the number of measurements; all: the level of all time; else empty',
    weight Int64 COMMENT 'factor of the term',
    scale Int64 COMMENT 'scale of the measure',
    level LowCardinality(String) COMMENT 'level of the measure',
    span LowCardinality(String) COMMENT 'span of the metric',
    windows Array(String) COMMENT 'windows of the metric',
    dimensions Array(String) COMMENT 'dimensions of the metric'
)
AS SELECT
    toString(t.metric) AS metric,
    t.term.1 AS side,
    toString(m.name) AS measure,
    splitByChar('.', t.term.2)[2] AS part,
    t.term.3 AS weight,
    m.scale AS scale,
    m.level AS level,
    t.span AS span,
    t.windows AS windows,
    t.dimensions AS dimensions
FROM
(
    SELECT name AS metric, span, CAST(windows, 'Array(String)') AS windows,
        CAST(dimensions, 'Array(String)') AS dimensions,
        arrayJoin(arrayConcat(
            arrayMap((t, w) -> ('numerator', t, w), mapKeys(numerator), mapValues(numerator)),
            arrayMap((t, w) -> ('denominator', t, w), mapKeys(denominator), mapValues(denominator))
        )) AS term
    FROM metric_definitions FINAL
) AS t
INNER JOIN (SELECT * FROM measure_definitions FINAL) AS m
    ON splitByChar('.', t.term.2)[1] = toString(m.name)
COMMENT 'The formulas of the catalogue, a row a term';

-- Seconds since 1970 throughout; [h0, h1) and [d0, d1) bound the whole hours and days inside.
CREATE OR REPLACE VIEW metric_spans
(
    step Int64 COMMENT 'finish is rounded up to it: 60, 3600 or, for whole UTC days, 86400',
    window String COMMENT 'name in metric_windows',
    begin Int64 COMMENT 'first second',
    finish Int64 COMMENT 'second after the last one',
    h0 Int64 COMMENT 'begin of the first whole hour',
    h1 Int64 COMMENT 'end of the last whole hour',
    d0 Int64 COMMENT 'begin of the first whole day',
    d1 Int64 COMMENT 'end of the last whole day'
)
AS SELECT
    step,
    window,
    if(seconds = 0, 0, finish - seconds) AS begin,
    toInt64(ceil(toUnixTimestamp64Milli({as_of:DateTime64(3, 'UTC')}) / (1000 * step))) * step
        AS finish,
    intDiv(begin + 3599, 3600) * 3600 AS h0,
    intDiv(finish, 3600) * 3600 AS h1,
    intDiv(begin + 86399, 86400) * 86400 AS d0,
    intDiv(finish, 86400) * 86400 AS d1
FROM
(
    SELECT toString(name) AS window, seconds, toInt64(arrayJoin([60, 3600, 86400])) AS step
    FROM metric_windows FINAL
)
WHERE seconds % step = 0 AND (step = 60 OR seconds >= 86400 OR seconds = 0)
COMMENT 'Where windows begin and end at a moment';

-- Panes added up. A day inside a window counts as a day, an hour inside it but in no such day as an
-- hour, a minute inside it but in no such hour as a minute: 30 days are a few hundred panes.
-- Dimension all is the sum over channels. A level is the sum of its changes until the day ends.
CREATE OR REPLACE VIEW metric_sums
(
    measure String COMMENT 'name in measure_definitions',
    span String COMMENT 'rolling; days: of whole UTC days; or level',
    window String COMMENT 'name in metric_windows; empty for levels without one',
    dimension String COMMENT 'all, or a name in metric_dimensions',
    member String COMMENT 'member of the dimension; empty for all',
    n Int64 COMMENT 'number of measurements; of a level the level',
    total Int64 COMMENT 'sum of the measurements, in 1/scale',
    squares Int64 COMMENT 'sum of their squares, in 1/scale squared',
    buckets Map(Int32, Int64) COMMENT 'measurements by bucket'
)
AS WITH
    (
        SELECT groupArray((step, window, begin, finish, h0, h1, d0, d1))
        FROM {database}.metric_spans(as_of = {as_of:DateTime64(3, 'UTC')})
    ) AS spans,
    (
        SELECT mapFromArrays(groupArray(toString(name)), groupArray(step))
        FROM metric_dimensions FINAL
    ) AS steps,
    (SELECT groupArray('@' || name) FROM metric_windows FINAL) AS suffixes,
    level_names AS
    (
        SELECT toString(name) || arrayJoin(if(level = 'now', [''], suffixes)) AS name
        FROM measure_definitions FINAL
        WHERE level != ''
    ),
    edges AS
    (
        SELECT DISTINCT p.1 AS resolution, toDateTime(p.2, 'UTC') AS start
        FROM
        (
            SELECT arrayJoin(arrayConcat(
                arrayMap(s -> ('hour', s), arrayConcat(
                    range(h0, if(d0 < d1, d0, greatest(h0, h1)), 3600),
                    range(if(d0 < d1, d1, h1), h1, 3600))),
                arrayMap(s -> ('minute', s), arrayConcat(
                    range(begin, if(h0 < h1, h0, finish), 60),
                    range(if(h0 < h1, h1, finish), finish, 60)))
            )) AS p
            FROM {database}.metric_spans(as_of = {as_of:DateTime64(3, 'UTC')})
        )
    ),
    rolling AS
    (
        SELECT metric, dimension, member, w.1 AS span, w.2 AS window, sum(n) AS n,
            sum(total) AS total, sum(squares) AS squares, sumMap(buckets) AS buckets
        FROM
        (
            -- a span is (step, window, begin, finish, h0, h1, d0, d1)
            SELECT metric, dimension, member, n, total, squares, buckets,
                toInt64(toUnixTimestamp(start)) AS at,
                arrayJoin(arrayMap(
                    s -> (if(s.1 = 86400, 'days', 'rolling'), s.2),
                    arrayFilter(
                        s -> s.1 IN (steps[toString(dimension)], 86400) AND multiIf(
                            resolution = 'day', at >= s.7 AND at < s.8,
                            resolution = 'hour',
                                at >= s.5 AND at < s.6 AND NOT (at >= s.7 AND at < s.8),
                            at >= s.3 AND at < s.4 AND NOT (at >= s.5 AND at < s.6)),
                        spans))) AS w
            FROM metric_panes FINAL
            WHERE metric NOT IN (SELECT name FROM level_names)
                AND ((resolution = 'day' AND start < toDateTime(arrayMax(spans.4), 'UTC'))
                    OR (resolution, start) IN (SELECT resolution, start FROM edges))
        )
        GROUP BY metric, dimension, member, w
    ),
    levels AS
    (
        SELECT metric, dimension, member, sum(total) AS total
        FROM metric_panes FINAL
        WHERE metric IN (SELECT name FROM level_names)
            AND resolution = 'day' AND start < toDateTime(arrayMax(spans.4), 'UTC')
        GROUP BY metric, dimension, member
    )
SELECT toString(metric) AS measure, span, window, d.1 AS dimension, d.2 AS member, sum(n) AS n,
    sum(total) AS total, sum(squares) AS squares, sumMap(buckets) AS buckets
FROM
(
    SELECT metric, span, window, n, total, squares, buckets,
        arrayJoin(if(dimension = 'channel', [('all', ''), ('channel', toString(member))],
            [(toString(dimension), toString(member))])) AS d
    FROM rolling
)
GROUP BY measure, span, window, dimension, member
UNION ALL
SELECT splitByChar('@', toString(metric))[1], 'level', splitByChar('@', toString(metric))[2],
    toString(dimension), toString(member), total, total, 0, CAST(map(), 'Map(Int32, Int64)')
FROM levels
COMMENT 'Measures by window and member at a moment';

-- Rolling metrics at any moment. A window is [finish - length, finish), finish being as_of rounded
-- up to a full minute; to a full hour for dimensions without panes of a minute, whose windows are a
-- day or longer; to a full UTC day for metrics with numbers of customers in them.
-- ClickHouse does not enforce the types declared for a view with a parameter; a test does.
CREATE OR REPLACE VIEW metrics_at
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    window String COMMENT 'name in metric_windows, or now',
    dimension String COMMENT 'all, or a name in metric_dimensions',
    member String COMMENT 'member of the dimension; empty for all',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment asked for',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Nullable(Float64) COMMENT 'sum of the numerator; NULL when the value is hidden',
    denominator Nullable(Int64) COMMENT 'what it is divided by; NULL for totals',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0 or n too small',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value',
    unit LowCardinality(String) COMMENT 'unit of value, low and high',
    direction LowCardinality(String) COMMENT 'which way is better: up, down or none'
)
AS WITH
    terms AS
    (
        SELECT
            t.metric AS metric, t.side AS side, s.dimension AS dimension, s.member AS member,
            t.weight * if(t.part = 'n', toFloat64(s.n), s.total / t.scale) AS amount,
            s.n AS n, s.total AS total, s.squares AS squares, s.buckets AS buckets,
            t.scale AS scale,
            multiIf(
                t.part = 'all', if(s.window = 'all', t.windows, []),
                t.level = 'now', t.windows,
                s.span IN (t.span, 'level') AND has(t.windows, s.window), [s.window],
                []) AS windows
        FROM metric_terms AS t
        INNER JOIN {database}.metric_sums(as_of = {as_of:DateTime64(3, 'UTC')}) AS s
            ON t.measure = s.measure
        WHERE has(t.dimensions, s.dimension)
    ),
    sums AS
    (
        SELECT metric, window, dimension, member,
            sumIf(amount, side = 'numerator') AS numerator,
            sumIf(amount, side = 'denominator') AS denominator,
            sumIf(x.n, side = 'numerator') AS measured,
            sumIf(x.total, side = 'numerator') AS total,
            sumIf(x.squares, side = 'numerator') AS squares,
            sumMapIf(x.buckets, side = 'numerator') AS buckets,
            greatest(maxIf(x.scale, side = 'numerator'), 1) AS scale
        FROM
        (
            SELECT metric, side, window, dimension, member, amount, n, total, squares, buckets,
                scale
            FROM terms
            ARRAY JOIN windows AS window
            UNION ALL
            SELECT toString(name), 'none', arrayJoin(windows), 'all', '', 0., 0, 0, 0,
                CAST(map(), 'Map(Int32, Int64)'), 0
            FROM metric_definitions FINAL
        ) AS x
        GROUP BY metric, window, dimension, member
        HAVING dimension = 'all' OR max(x.n != 0 OR x.total != 0)
    ),
    notEmpty(d.denominator) AS divided,
    if(divided, toInt64(round(s.denominator)), s.measured) AS measurements,
    measurements < d.below AS hidden,
    -- Normal interval: 1.96 * sqrt(variance / n), in whole numbers until the root, so that nothing
    -- cancels.
    1.96 * sqrt(greatest(toInt128(s.squares) * s.measured - toInt128(s.total) * s.total, 0)
        / nullIf(s.measured, 0)) * d.factor / s.scale / nullIf(s.measured, 0) AS margin,
    -- Wilson interval of a share: center and margin, of 1; 3.8416 is the square of 1.96.
    d.unit = 'percent' AND d.factor = 100 AND divided AND s.scale = 1
        AND s.numerator >= 0 AND s.numerator <= s.denominator AS is_share,
    s.numerator / nullIf(s.denominator, 0) AS ratio,
    if(is_share, s.denominator, NULL) AS trials,
    (ratio + 1.9208 / trials) / (1 + 3.8416 / trials) AS center,
    1.96 * sqrt(ratio * (1 - ratio) / trials + 0.9604 / (trials * trials)) / (1 + 3.8416 / trials)
        AS around,
    -- Quantile: the bucket at which the count first exceeds quantile * (n - 1); bucket i holds
    -- (g^(i-1), g^i], g = 1.01/0.99, and -1 holds 0. Its representative is 1% off at most.
    arraySort(mapKeys(s.buckets)) AS bucket_keys,
    arrayCumSum(arrayMap(k -> s.buckets[k], bucket_keys)) AS counts,
    bucket_keys[arrayFirstIndex(c -> c > assumeNotNull(d.quantile) * (counts[-1] - 1), counts)]
        AS bucket,
    if(bucket < 0, 0, 2 * pow(1.01 / 0.99, bucket) / (1.01 / 0.99 + 1)) / s.scale AS quantile
SELECT
    d.name AS metric,
    d.family AS family,
    s.window AS window,
    s.dimension AS dimension,
    s.member AS member,
    {as_of:DateTime64(3, 'UTC')} AS as_of,
    measurements AS n,
    if(hidden, NULL, s.numerator) AS numerator,
    if(divided OR d.quantile IS NOT NULL, measurements, NULL) AS denominator,
    multiIf(
        hidden, NULL,
        d.quantile IS NOT NULL, if(empty(counts), NULL, quantile),
        divided, d.factor * ratio,
        d.factor * s.numerator) AS value,
    multiIf(hidden, NULL, d.squared, value - margin, 100 * (center - around)) AS low,
    multiIf(hidden, NULL, d.squared, value + margin, 100 * (center + around)) AS high,
    d.unit AS unit,
    d.direction AS direction
FROM sums AS s
INNER JOIN (SELECT * FROM metric_definitions FINAL) AS d ON s.metric = d.name
SETTINGS join_use_nulls = 0
COMMENT 'Rolling metrics at a moment: SELECT * FROM metrics_at(as_of = ''2026-01-31 12:00:00'')';

CREATE OR REPLACE VIEW metrics
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    window String COMMENT 'name in metric_windows, or now',
    dimension String COMMENT 'all, or a name in metric_dimensions',
    member String COMMENT 'member of the dimension; empty for all',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment asked for',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Nullable(Float64) COMMENT 'sum of the numerator; NULL when the value is hidden',
    denominator Nullable(Int64) COMMENT 'what it is divided by; NULL for totals',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0 or n too small',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value',
    unit LowCardinality(String) COMMENT 'unit of value, low and high',
    direction LowCardinality(String) COMMENT 'which way is better: up, down or none'
)
AS SELECT * FROM {database}.metrics_at(as_of = now64(3, 'UTC'))
COMMENT 'Rolling metrics of now';
