-- Rolling metrics at any moment. A window is [finish - length, finish), finish being as_of rounded
-- up to a full minute. It is put together from whole days, then whole hours at its edges, then
-- minutes, so that 30 days are a few hundred panes; window_panes lists exactly which.
-- ClickHouse does not enforce the types declared for a view with a parameter; a test does.
-- Seconds since 1970 throughout; (h0, h1) and (d0, d1) bound the whole hours and days inside.
CREATE OR REPLACE VIEW metrics_at
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    window String COMMENT '5m, 1h, 24h, 7d or 30d',
    dimension String COMMENT 'all or channel',
    member String COMMENT 'the channel; empty for all',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment asked for',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Float64 COMMENT 'sum of the measurements',
    denominator Nullable(Int64) COMMENT 'n; NULL for totals, which are not divided',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value',
    unit LowCardinality(String) COMMENT 'unit of value, low and high'
)
AS WITH
    windows AS
    (
        SELECT
            t.1 AS window,
            toInt64(ceil(toUnixTimestamp64Milli({as_of:DateTime64(3, 'UTC')}) / 60000)) * 60 AS finish,
            finish - t.2 AS begin,
            intDiv(begin + 3599, 3600) * 3600 AS h0,
            intDiv(finish, 3600) * 3600 AS h1,
            intDiv(begin + 86399, 86400) * 86400 AS d0,
            intDiv(finish, 86400) * 86400 AS d1
        FROM
        (
            SELECT arrayJoin([('5m', 300), ('1h', 3600), ('24h', 86400), ('7d', 604800),
                ('30d', 2592000)]) AS t
        )
    ),
    window_panes AS
    (
        SELECT window, p.1 AS resolution, toDateTime(p.2, 'UTC') AS start
        FROM
        (
            SELECT window, arrayJoin(arrayConcat(
                arrayMap(s -> ('day', s), range(d0, greatest(d0, d1), 86400)),
                arrayMap(s -> ('hour', s), arrayConcat(
                    range(h0, if(d0 < d1, d0, greatest(h0, h1)), 3600),
                    range(if(d0 < d1, d1, h1), h1, 3600))),
                arrayMap(s -> ('minute', s), arrayConcat(
                    range(begin, if(h0 < h1, h0, finish), 60),
                    range(if(h0 < h1, h1, finish), finish, 60)))
            )) AS p
            FROM windows
        )
    ),
    sums AS
    (
        SELECT metric, window, m.1 AS dimension, m.2 AS member,
            sum(n) AS n, sum(total) AS total, sum(squares) AS squares
        FROM
        (
            SELECT p.metric AS metric, w.window AS window, p.n AS n, p.total AS total,
                p.squares AS squares, arrayJoin([('all', ''), ('channel', toString(p.member))]) AS m
            FROM
            (
                SELECT * FROM metric_panes FINAL
                WHERE dimension = 'channel'
                    AND (resolution, start) IN (SELECT resolution, start FROM window_panes)
            ) AS p
            INNER JOIN window_panes AS w ON p.resolution = w.resolution AND p.start = w.start
            UNION ALL
            SELECT name, window, 0, 0, 0, ('all', '')
            FROM (SELECT name FROM metric_definitions FINAL) AS d CROSS JOIN windows
        )
        GROUP BY metric, window, dimension, member
    ),
    -- an index is a percentage
    if(d.kind = 'index', 100, 1) / d.scale AS factor,
    -- 1.96 * sqrt(variance / n), times n; in whole numbers until the root, so nothing cancels
    1.96 * sqrt(greatest(toInt128(s.squares) * s.n - toInt128(s.total) * s.total, 0)
        / nullIf(s.n, 0)) AS margin
SELECT
    s.metric AS metric,
    d.family AS family,
    s.window AS window,
    s.dimension AS dimension,
    s.member AS member,
    {as_of:DateTime64(3, 'UTC')} AS as_of,
    s.n AS n,
    s.total / d.scale AS numerator,
    if(d.kind = 'total', NULL, s.n) AS denominator,
    if(d.kind = 'total', s.total / d.scale, s.total * factor / nullIf(s.n, 0)) AS value,
    if(d.squares, (s.total - margin) * factor / nullIf(s.n, 0), NULL) AS low,
    if(d.squares, (s.total + margin) * factor / nullIf(s.n, 0), NULL) AS high,
    d.unit AS unit
FROM sums AS s
INNER JOIN (SELECT * FROM metric_definitions FINAL) AS d ON s.metric = d.name
SETTINGS join_use_nulls = 0
COMMENT 'Rolling metrics at a moment: SELECT * FROM metrics_at(as_of = ''2026-01-31 12:00:00'')';

CREATE OR REPLACE VIEW metrics
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    window String COMMENT '5m, 1h, 24h, 7d or 30d',
    dimension String COMMENT 'all or channel',
    member String COMMENT 'the channel; empty for all',
    as_of DateTime64(3, 'UTC') COMMENT 'the moment asked for',
    n Int64 COMMENT 'number of measurements: judge every value by it',
    numerator Float64 COMMENT 'sum of the measurements',
    denominator Nullable(Int64) COMMENT 'n; NULL for totals, which are not divided',
    value Nullable(Float64) COMMENT 'the metric; NULL when the denominator is 0',
    low Nullable(Float64) COMMENT 'lower end of the 95% interval of value',
    high Nullable(Float64) COMMENT 'upper end of the 95% interval of value',
    unit LowCardinality(String) COMMENT 'unit of value, low and high'
)
AS SELECT * FROM {database}.metrics_at(as_of = now64(3, 'UTC'))
COMMENT 'Rolling metrics of now';
