"""Statements for a cluster: what each form becomes, and what is refused."""

import re

import pytest

from touchstream.streams.cluster_sql import (
    EVERYWHERE,
    SHARD_LOCAL_VIEWS,
    SHARDING_KEYS,
    Cluster,
    for_cluster,
)
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.migrations import LEDGER, render, shipped_migrations
from touchstream.streams.settings import Settings

CLUSTER = Cluster("main-1", "cx")
FACTS_PLACE = "/clickhouse/tables/{shard}/cx/touchpoint_facts_shard"
DISTRIBUTED = (
    "touchpoint_facts ON CLUSTER 'main-1' AS cx.touchpoint_facts_shard\n"
    "ENGINE = Distributed('main-1', 'cx', 'touchpoint_facts_shard', cityHash64(identity))"
)
WORDS = "metric_windows (name String, seconds Int64) ENGINE = ReplacingMergeTree ORDER BY name"
WORDS_EVERYWHERE = (
    "CREATE TABLE IF NOT EXISTS metric_windows ON CLUSTER 'main-1' (name String, seconds Int64)"
    " ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/cx/metric_windows',"
    " '{shard}-{replica}') ORDER BY name"
)
FORMS = {
    "a sharded table is replicated within its shard, and distributed": (
        "CREATE TABLE IF NOT EXISTS touchpoint_facts (identity String COMMENT 'ENGINE = (x)')"
        "\nENGINE = ReplacingMergeTree(precedence)\nORDER BY identity\nCOMMENT 'facts'",
        "CREATE TABLE IF NOT EXISTS touchpoint_facts_shard ON CLUSTER 'main-1'"
        " (identity String COMMENT 'ENGINE = (x)')"
        f"\nENGINE = ReplicatedReplacingMergeTree('{FACTS_PLACE}', '{{replica}}', precedence)"
        "\nORDER BY identity\nCOMMENT 'facts'",
        f"CREATE TABLE IF NOT EXISTS {DISTRIBUTED}",
    ),
    "a small table has a replica on every server": (
        f"CREATE TABLE IF NOT EXISTS {WORDS}",
        WORDS_EVERYWHERE,
    ),
    "a replaced table leaves its place in Keeper first": (
        f"CREATE OR REPLACE TABLE {WORDS}",
        "DROP TABLE IF EXISTS metric_windows ON CLUSTER 'main-1' SYNC",
        WORDS_EVERYWHERE,
    ),
    "new columns come to the shards and then to the distributed table": (
        "ALTER TABLE touchpoint_facts\n    ADD COLUMN IF NOT EXISTS x UInt8 AFTER text",
        "ALTER TABLE touchpoint_facts_shard ON CLUSTER 'main-1'\n"
        "    ADD COLUMN IF NOT EXISTS x UInt8 AFTER text",
        f"CREATE OR REPLACE TABLE {DISTRIBUTED}",
    ),
    "what is no change of columns is for the shards alone": (
        "ALTER TABLE touchpoint_facts MODIFY TTL received_at",
        "ALTER TABLE touchpoint_facts_shard ON CLUSTER 'main-1' MODIFY TTL received_at",
    ),
    "a comment is no change of columns": (
        "ALTER TABLE touchpoint_facts MODIFY COMMENT 'each COLUMN'",
        "ALTER TABLE touchpoint_facts_shard ON CLUSTER 'main-1' MODIFY COMMENT 'each COLUMN'",
    ),
    "replicas of a small table tell each other": (
        "ALTER TABLE metric_windows ADD COLUMN IF NOT EXISTS x UInt8",
        "ALTER TABLE metric_windows ADD COLUMN IF NOT EXISTS x UInt8",
    ),
    "rows go in by the plain name": (
        "INSERT INTO touchpoint_facts (identity) VALUES ('x')",
        "INSERT INTO touchpoint_facts (identity) VALUES ('x')",
    ),
    "rows are deleted where they are": (
        "DELETE FROM touchpoint_facts WHERE identity = 'x'",
        "DELETE FROM touchpoint_facts_shard ON CLUSTER 'main-1' WHERE identity = 'x'",
    ),
    "parts are merged where they are": (
        "OPTIMIZE TABLE touchpoint_facts FINAL",
        "OPTIMIZE TABLE touchpoint_facts_shard ON CLUSTER 'main-1' FINAL",
    ),
    "both tables are dropped": (
        "DROP TABLE IF EXISTS touchpoint_facts",
        "DROP TABLE IF EXISTS touchpoint_facts ON CLUSTER 'main-1' SYNC",
        "DROP TABLE IF EXISTS touchpoint_facts_shard ON CLUSTER 'main-1' SYNC",
    ),
    "a view says how sharded tables are joined": (
        "CREATE OR REPLACE VIEW v\n(\n    a Enum('AS (' = 1) COMMENT 'b'\n)\n"
        "AS SELECT 1 AS a\nUNION ALL\nSELECT 2\nCOMMENT 'it''s AS it is'",
        "CREATE OR REPLACE VIEW v ON CLUSTER 'main-1'\n(\n    a Enum('AS (' = 1) COMMENT 'b'\n)\n"
        "AS SELECT * FROM\n(\nSELECT 1 AS a\nUNION ALL\nSELECT 2\n)\n"
        "SETTINGS distributed_product_mode = 'global'\nCOMMENT 'it''s AS it is'",
    ),
    "joins by the sharding key stay on the shard": (
        "CREATE OR REPLACE VIEW touchpoints AS SELECT 1 SETTINGS join_use_nulls = 0",
        "CREATE OR REPLACE VIEW touchpoints ON CLUSTER 'main-1'\nAS SELECT * FROM\n(\n"
        "SELECT 1 SETTINGS join_use_nulls = 0\n)\nSETTINGS distributed_product_mode = 'local'",
    ),
    "a view is dropped everywhere": (
        "DROP VIEW IF EXISTS touchpoints",
        "DROP VIEW IF EXISTS touchpoints ON CLUSTER 'main-1'",
    ),
}
REFUSED = {
    "a table that nobody has said the shard of": "CREATE TABLE IF NOT EXISTS other (a UInt8)"
    " ENGINE = MergeTree ORDER BY a",
    "an engine that does not replicate": "CREATE TABLE touchpoint_facts (a UInt8) ENGINE = Memory",
    "two engines": "CREATE TABLE touchpoint_facts (a UInt8) ENGINE = MergeTree ENGINE = MergeTree",
    "a table like another": "CREATE TABLE touchpoint_facts AS x ENGINE = MergeTree ORDER BY a",
    "a materialized view": "CREATE MATERIALIZED VIEW v ENGINE = MergeTree ORDER BY a AS SELECT 1",
    "a table of another database": "ALTER TABLE other.touchpoint_facts DROP COLUMN text",
    "a form that is not known": "RENAME TABLE touchpoint_facts TO x",
    "a column of a view": "ALTER TABLE touchpoints MODIFY QUERY SELECT 1",
    "a setting of a small table, which does not replicate": "ALTER TABLE metric_windows"
    " MODIFY SETTING index_granularity = 1",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    statement, *wanted = FORMS[form]
    assert for_cluster(statement, CLUSTER) == wanted


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_understood_is_refused(form: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot render for a cluster: \w+"):
        for_cluster(REFUSED[form], CLUSTER)


def test_every_shipped_statement_is_understood() -> None:
    """Fails for a new table: say in SHARDING_KEYS which shard its rows are on."""
    settings = Settings(clickhouse_cluster="main-1")
    statements = [each for file in shipped_migrations() for each in render(file, settings)]
    assert len(statements) > len(shipped_migrations())
    for statement in statements:
        alone = statement.startswith(("INSERT INTO ", "ALTER TABLE "))
        assert alone or " ON CLUSTER 'main-1'" in statement.partition("\n")[0], statement[:80]


def tables() -> dict[str, str]:
    """Sorting keys of all tables ever created, the last one of each."""
    found = {}
    for migration in shipped_migrations():
        for statement in render(migration, Settings()):
            created = re.match(r"CREATE (?:OR REPLACE )?TABLE (?:IF NOT EXISTS )?(\w+)", statement)
            if created:
                key = re.search(r"ORDER BY (\w+|\([^)]*\))\n", statement)
                assert key, statement[:80]
                found[created[1]] = key[1]
    return found


def test_every_entry_is_a_table() -> None:
    assert set(SHARDING_KEYS) == {*tables(), LEDGER}


@pytest.mark.parametrize("table", [name for name, key in SHARDING_KEYS.items() if key])
def test_all_versions_of_a_row_are_on_one_shard(table: str) -> None:
    columns = re.findall(r"\w+", SHARDING_KEYS[table])[1:]
    assert columns
    assert set(columns) <= set(re.findall(r"\w+", tables()[table]))


def test_shard_local_views_exist_and_read_tables_of_one_key() -> None:
    texts = {}
    for migration in shipped_migrations():
        for statement in render(migration, Settings()):
            if view := re.match(r"CREATE OR REPLACE VIEW (\w+)", statement):
                texts[view[1]] = statement
    for name in SHARD_LOCAL_VIEWS:
        read = set(re.findall(r"\b(?:FROM|JOIN) (\w+)", texts[name])) & set(SHARDING_KEYS)
        assert len({SHARDING_KEYS[table] for table in read} - {EVERYWHERE}) == 1, name
