-- Keys, partitions, TTL and codecs of all tables, in one place.
--
-- Keys follow the readers: what is known of identities by identity, lives by customer, panes by what
-- a metric is asked for and then by time. A version is never in a key, except where every version is
-- a record of its own. No table is partitioned; 0001 says why.
-- TTL: only rolling_metrics has one here, of a day, as nobody reads any but the latest push. All else
-- is kept for ever, or as long as the retention file says (streams/retention.py): how long is for
-- whoever runs this to decide, and a migration must not decide it twice.
--
-- Codecs, where they were measured to pay. Read single-threaded from merged parts of 1,000,000 rows
-- as benchmarks/bi.py makes them, against LZ4, the default of ClickHouse:
--   T64, ZSTD(1) on times and on numbers that grow: a third to a half smaller, read as fast
--   ZSTD(1) on hexadecimal and on texts: half as large, read half as fast
-- So T64 where it fits, and ZSTD for texts that are read for single customers. What every count with
-- FINAL or every join reads stays with LZ4: identity, customer_id, event_id. Delta and DoubleDelta
-- gain little, as rows are not sorted by time. In all, touchpoint_facts is a fifth smaller.
-- Parts that are there get the codecs when they are merged.
ALTER TABLE touchpoint_facts
    MODIFY COLUMN occurred_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN received_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN precedence CODEC(T64, ZSTD(1)),
    MODIFY COLUMN source_offset CODEC(T64, ZSTD(1)),
    MODIFY COLUMN account_id CODEC(ZSTD(1)),
    MODIFY COLUMN session_id CODEC(ZSTD(1)),
    MODIFY COLUMN conversation_id CODEC(ZSTD(1)),
    MODIFY COLUMN order_id CODEC(ZSTD(1)),
    MODIFY COLUMN text CODEC(ZSTD(1)),
    MODIFY COLUMN details CODEC(ZSTD(1)),
    MODIFY COLUMN properties CODEC(ZSTD(1)),
    MODIFY COLUMN consent CODEC(ZSTD(1));

ALTER TABLE session_states
    MODIFY COLUMN started_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN ended_at CODEC(T64, ZSTD(1));

ALTER TABLE metric_panes MODIFY COLUMN version CODEC(T64, ZSTD(1));

-- Original bytes, read one record at a time.
ALTER TABLE dead_letter_records
    MODIFY COLUMN detail CODEC(ZSTD(1)),
    MODIFY COLUMN key CODEC(ZSTD(1)),
    MODIFY COLUMN value CODEC(ZSTD(1));
