-- Panes are absolute values with a version, so replays are harmless. Not partitioned: a part for
-- each period of a backfill would cost more than it saves; the key leads straight to a window.
CREATE TABLE IF NOT EXISTS metric_panes
(
    metric LowCardinality(String) COMMENT 'name in metric_definitions',
    dimension LowCardinality(String) COMMENT 'what member is a member of: channel',
    member LowCardinality(String) COMMENT 'the channel',
    resolution LowCardinality(String) COMMENT 'minute, hour or day: every event is in all three',
    start DateTime('UTC') COMMENT 'start of the pane in event time',
    shard UInt16 COMMENT 'partition of customers that wrote the pane; add them up',
    n Int64 COMMENT 'number of measurements',
    total Int64 COMMENT 'their sum, in 1/scale',
    squares Int64 COMMENT 'sum of their squares, in 1/scale squared',
    version UInt64 COMMENT 'the highest is the truth'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (dimension, metric, resolution, start, member, shard)
COMMENT 'Additive panes of event time: read with FINAL and add up';

-- Filled from schemas/metrics.toml at the end of every migrate.
CREATE TABLE IF NOT EXISTS metric_definitions
(
    name LowCardinality(String) COMMENT 'name of the metric',
    family LowCardinality(String) COMMENT 'satisfaction, advocacy and loyalty, ...',
    help String COMMENT 'what is measured',
    kind LowCardinality(String) COMMENT 'mean, index (100 * total / n) or total',
    scale Int64 COMMENT 'panes hold 1/scale of the unit',
    squares Bool COMMENT 'whether panes keep squares, which give the interval',
    unit LowCardinality(String) COMMENT 'unit of value, low and high',
    direction LowCardinality(String) COMMENT 'which way is better: up, down or none'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT 'The metric catalogue';
