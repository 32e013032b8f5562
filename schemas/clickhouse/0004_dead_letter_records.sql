-- Rejected records. A record that is rejected again after a replay replaces itself.
CREATE TABLE IF NOT EXISTS dead_letter_records
(
    topic LowCardinality(String) COMMENT 'topic of the rejected record',
    source UInt64 COMMENT 'hash of the topic id: tells topics of the same name apart',
    partition Int32 COMMENT 'partition of the rejected record',
    offset Int64 COMMENT 'offset of the rejected record',
    reason LowCardinality(String) COMMENT 'why it was rejected',
    detail String COMMENT 'what exactly was wrong',
    received_at DateTime64(3, 'UTC') COMMENT 'time of the record in Kafka',
    key String COMMENT 'original key, bytes',
    value String COMMENT 'original value, bytes'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, source, partition, offset)
COMMENT 'Rejected records with their original bytes; read it through the view dead_letters';
