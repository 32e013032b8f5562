-- Why identities are, or are not, one customer: evidence, refusals, changes, and what operators said
-- (the contract is streams/tables.py). All are written by the stitch agent, and any replay writes
-- what is already there.

-- Evidence is found from both ends: by the key from `identity`, by the index from `other`.
CREATE TABLE IF NOT EXISTS identity_link_sights
(
    identity String COMMENT 'token of the identity that the touchpoint is filed under',
    other String COMMENT 'token of another identity on the same touchpoint',
    kind LowCardinality(String) COMMENT 'kind of identity',
    other_kind LowCardinality(String) COMMENT 'kind of other',
    channel LowCardinality(String) COMMENT 'channel of the touchpoint',
    verified Bool COMMENT 'whether identity was verified on it',
    other_verified Bool COMMENT 'whether other was verified on it',
    seen_at DateTime64(3, 'UTC') COMMENT 'event time of the earliest such touchpoint',
    event_id String COMMENT 'its id, given by the publisher',
    precedence UInt64 COMMENT 'the highest stays: the earliest touchpoint',
    INDEX by_other other TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (identity, other, channel, verified, other_verified)
COMMENT 'Identities seen together; read it through the view identity_links';

CREATE TABLE IF NOT EXISTS refused_link_states
(
    identity String COMMENT 'token of the end that was told',
    other String COMMENT 'token of the other end',
    kind LowCardinality(String) COMMENT 'kind of identity',
    reason LowCardinality(String) COMMENT 'why the link joins no one',
    detail String COMMENT 'over which kind, or which two identities',
    decided_at DateTime64(3, 'UTC') COMMENT 'when that was decided',
    version UInt64 COMMENT 'the highest is the truth',
    is_deleted UInt8 COMMENT '1: it is no longer refused',
    INDEX by_other other TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (identity, other)
COMMENT 'Links that join no one, by end; read it through the view refused_links';

CREATE TABLE IF NOT EXISTS identity_change_records
(
    identity String COMMENT 'token of the identity',
    version UInt64 COMMENT 'version of the identity after the change',
    kind LowCardinality(String) COMMENT 'kind of identifier',
    former_customer_id String COMMENT 'customer it left',
    customer_id String COMMENT 'customer it came to',
    changed_at DateTime64(3, 'UTC') COMMENT 'when it changed',
    cause String COMMENT 'the touchpoint, the word of an operator or the rules that caused it',
    who LowCardinality(String) COMMENT 'channel of the touchpoint, or operator',
    caused_at DateTime64(3, 'UTC') COMMENT 'when the record of the cause was written'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (identity, version)
COMMENT 'Every change of customer; read it through the view identity_changes';

CREATE TABLE IF NOT EXISTS operator_word_states
(
    identity String COMMENT 'the smaller token of the two',
    other String COMMENT 'the larger token of the two',
    allow Bool COMMENT 'true: they are one customer; false: they are not',
    operator LowCardinality(String) COMMENT 'who said so',
    note String COMMENT 'why',
    said_at DateTime64(3, 'UTC') COMMENT 'when',
    number UInt64 COMMENT 'place in the log of operations; the highest is the truth'
)
ENGINE = ReplacingMergeTree(number)
ORDER BY (identity, other)
COMMENT 'What operators said of two identities; read it through the view operator_words';

CREATE TABLE IF NOT EXISTS identity_mark_records
(
    identity String COMMENT 'token of the identity',
    mark LowCardinality(String) COMMENT 'shared, erased, or empty: nothing special any more',
    operator LowCardinality(String) COMMENT 'who said so',
    note String COMMENT 'why',
    said_at DateTime64(3, 'UTC') COMMENT 'when',
    number UInt64 COMMENT 'place in the log of operations; the highest is the truth'
)
ENGINE = ReplacingMergeTree(number)
ORDER BY (identity, number)
COMMENT 'What operators said of one identity; read it through the view identity_marks';

CREATE TABLE IF NOT EXISTS identity_rules_records
(
    number UInt64 COMMENT 'place in the log of operations',
    operator LowCardinality(String) COMMENT 'who applied them',
    said_at DateTime64(3, 'UTC') COMMENT 'when',
    text String COMMENT 'the file, TOML'
)
ENGINE = ReplacingMergeTree(number)
ORDER BY number
COMMENT 'Identity rules that were applied; read it through the view identity_rules';

-- The views BI tools read. Names and types are a contract: columns are added, never changed.

-- A pair may have been seen from either side, so rows are turned to one side and put together again.
CREATE OR REPLACE VIEW identity_links
(
    identity String COMMENT 'the smaller token of the two',
    other String COMMENT 'the larger token of the two',
    kind LowCardinality(String) COMMENT 'kind of identity',
    other_kind LowCardinality(String) COMMENT 'kind of other',
    channel LowCardinality(String) COMMENT 'channel that saw both on one touchpoint',
    verified Bool COMMENT 'whether identity was verified',
    other_verified Bool COMMENT 'whether other was verified',
    seen_at DateTime64(3, 'UTC') COMMENT 'event time of the earliest such touchpoint',
    event_id String COMMENT 'its id, given by the publisher'
)
AS SELECT
    least(s.identity, s.other) AS identity,
    greatest(s.identity, s.other) AS other,
    any(if(s.identity < s.other, s.kind, s.other_kind)) AS kind,
    any(if(s.identity < s.other, s.other_kind, s.kind)) AS other_kind,
    s.channel AS channel,
    if(s.identity < s.other, s.verified, s.other_verified) AS verified,
    if(s.identity < s.other, s.other_verified, s.verified) AS other_verified,
    min(s.seen_at) AS seen_at,
    argMin(s.event_id, (s.seen_at, s.event_id)) AS event_id
FROM identity_link_sights AS s
GROUP BY identity, other, channel, verified, other_verified
COMMENT 'Evidence: identities seen together, one row a pair, channel and verification';

-- Both ends write their own row. The kind of an end that has none (yet) is looked up.
CREATE OR REPLACE VIEW refused_links
(
    identity String COMMENT 'the smaller token of the two',
    other String COMMENT 'the larger token of the two',
    kind LowCardinality(String) COMMENT 'kind of identity, empty when it is not known',
    other_kind LowCardinality(String) COMMENT 'kind of other, empty when it is not known',
    reason LowCardinality(String) COMMENT 'why the link joins no one',
    detail String COMMENT 'over which kind, or which two identities',
    since DateTime64(3, 'UTC') COMMENT 'when that was decided'
)
AS SELECT
    p.identity AS identity,
    p.other AS other,
    if(p.kind = '', one.kind, p.kind) AS kind,
    if(p.other_kind = '', two.kind, p.other_kind) AS other_kind,
    p.reason AS reason,
    p.detail AS detail,
    p.since AS since
FROM
(
    SELECT
        least(r.identity, r.other) AS identity,
        greatest(r.identity, r.other) AS other,
        anyIf(r.kind, r.identity <= r.other) AS kind,
        anyIf(r.kind, r.identity > r.other) AS other_kind,
        r.reason AS reason,
        max(r.detail) AS detail,
        min(r.decided_at) AS since
    FROM refused_link_states AS r FINAL
    WHERE r.is_deleted = 0
    GROUP BY identity, other, reason
) AS p
LEFT ANY JOIN
(
    SELECT identity, kind FROM identity_states FINAL
    WHERE identity IN (SELECT other FROM refused_link_states)
) AS one ON p.identity = one.identity
LEFT ANY JOIN
(
    SELECT identity, kind FROM identity_states FINAL
    WHERE identity IN (SELECT other FROM refused_link_states)
) AS two ON p.other = two.identity
SETTINGS join_use_nulls = 0
COMMENT 'Links that join no one, as of now: one row a pair and reason';

CREATE OR REPLACE VIEW identity_changes
(
    identity String COMMENT 'token of the identity',
    kind LowCardinality(String) COMMENT 'kind of identifier',
    former_customer_id String COMMENT 'customer it left',
    customer_id String COMMENT 'customer it came to',
    changed_at DateTime64(3, 'UTC') COMMENT 'when it changed',
    cause String COMMENT 'the touchpoint, the word of an operator or the rules that caused it',
    who LowCardinality(String) COMMENT 'channel of the touchpoint, or operator',
    caused_at DateTime64(3, 'UTC') COMMENT 'when the record of the cause was written',
    seconds Float64 COMMENT 'from the cause to the change'
)
AS SELECT
    identity,
    kind,
    former_customer_id,
    customer_id,
    changed_at,
    cause,
    who,
    caused_at,
    dateDiff('millisecond', caused_at, changed_at) / 1000 AS seconds
FROM identity_change_records FINAL
COMMENT 'Audit: every change of customer, with its cause';

CREATE OR REPLACE VIEW operator_words
(
    identity String COMMENT 'the smaller token of the two',
    other String COMMENT 'the larger token of the two',
    allow Bool COMMENT 'true: they are one customer; false: they are not',
    operator LowCardinality(String) COMMENT 'who said so',
    note String COMMENT 'why',
    said_at DateTime64(3, 'UTC') COMMENT 'when',
    number UInt64 COMMENT 'place in the log of operations'
)
AS SELECT identity, other, allow, operator, note, said_at, number
FROM operator_word_states FINAL
COMMENT 'The latest word of operators on each two identities';

CREATE OR REPLACE VIEW identity_marks
(
    identity String COMMENT 'token of the identity',
    mark LowCardinality(String) COMMENT 'shared, erased, or empty: nothing special any more',
    operator LowCardinality(String) COMMENT 'who said so',
    note String COMMENT 'why',
    said_at DateTime64(3, 'UTC') COMMENT 'when',
    number UInt64 COMMENT 'place in the log of operations',
    in_force Bool COMMENT 'whether it holds now'
)
AS SELECT
    identity,
    mark,
    operator,
    note,
    said_at,
    number,
    toBool(number = max(number) OVER (PARTITION BY identity)) AS in_force
FROM identity_mark_records FINAL
COMMENT 'What operators said of single identities, with all that held before';

CREATE OR REPLACE VIEW identity_rules
(
    number UInt64 COMMENT 'place in the log of operations',
    operator LowCardinality(String) COMMENT 'who applied them',
    said_at DateTime64(3, 'UTC') COMMENT 'when',
    text String COMMENT 'the file, TOML',
    in_force Bool COMMENT 'whether they hold now'
)
AS SELECT
    number,
    operator,
    said_at,
    text,
    toBool(number = (SELECT max(number) FROM identity_rules_records)) AS in_force
FROM identity_rules_records FINAL
COMMENT 'Identity rules that were applied, with their text';
