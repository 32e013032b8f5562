"""Migrations without a server: splitting, numbering, rendering, catalogue."""

import re

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.migrations import (
    TIMEOUT_EXCEEDED,
    Migration,
    migrating,
    render,
    shipped_migrations,
    split_statements,
)
from touchstream.streams.settings import Settings

FILLS_AN_EMPTY_TABLE = r"INSERT INTO (\w+) .*WHERE \(SELECT count\(\) FROM \1\) = 0"


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;\nSELECT 2;\n", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' AS a; SELECT 2", ["SELECT ';' AS a", "SELECT 2"]),
        (r"SELECT 'it\'s; so'; SELECT 'a''b;c'", [r"SELECT 'it\'s; so'", "SELECT 'a''b;c'"]),
        ('SELECT `a;b`, "c;d"; SELECT 2', ['SELECT `a;b`, "c;d"', "SELECT 2"]),
        ("-- one; two\nSELECT 1;", ["SELECT 1"]),
        ("/* one;\n two */ SELECT 1 /* ; */ ;", ["SELECT 1"]),
        ("SELECT '-- no comment'; -- it's one\n;;", ["SELECT '-- no comment'"]),
        ("SELECT 5--1\n- 2", ["SELECT 5 \n- 2"]),
    ],
)
def test_statements_are_cut_outside_quotes_and_comments(text: str, statements: list[str]) -> None:
    assert split_statements(text) == statements


def test_shipped_migrations_are_numbered_from_one_without_a_gap() -> None:
    numbers = [migration.number for migration in shipped_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_the_database_is_put_in_and_parameters_of_views_are_left_alone() -> None:
    migration = Migration(1, "x", "SELECT {as_of:DateTime64(3)} FROM {database}.t;")
    settings = Settings(clickhouse_database="other")
    assert render(migration, settings) == ["SELECT {as_of:DateTime64(3)} FROM other.t"]


def test_the_checksum_is_that_of_the_file_whatever_the_database() -> None:
    assert Migration(1, "x", "SELECT 1").checksum == Migration(2, "y", "SELECT 1").checksum
    assert Migration(1, "x", "SELECT 1").checksum != Migration(1, "x", "SELECT 1 ").checksum


def test_every_statement_may_be_run_again() -> None:
    repeatable = (
        *("CREATE TABLE IF NOT EXISTS ", "CREATE OR REPLACE ", "ALTER TABLE "),
        "INSERT INTO identity_overrides ",  # rows with versions: once or twice is the same
    )
    for migration in shipped_migrations():
        for statement in render(migration, Settings()):
            fills = re.fullmatch(FILLS_AN_EMPTY_TABLE, statement, re.DOTALL)
            assert fills or statement.startswith(repeatable), statement[:60]
            assert not re.search(r"ADD COLUMN (?!IF NOT EXISTS )", statement)


class LateServer:
    """A client that does not hear of every server in time."""

    def command(self, _: str) -> None:
        error = DatabaseError("Distributed DDL task is not finished on 1 of 4 hosts")
        error.code = TIMEOUT_EXCEEDED
        raise error

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("cluster", "kind"), [("c", TransientError), ("", ConfigurationError)])
def test_a_server_that_is_late_is_not_a_mistake(
    monkeypatch: pytest.MonkeyPatch, cluster: str, kind: type[Exception]
) -> None:
    monkeypatch.setattr("touchstream.streams.migrations.connect", lambda *_, **__: LateServer())
    with (
        pytest.raises(kind, match="1 of 4 hosts"),
        migrating(Settings(clickhouse_cluster=cluster)) as client,
    ):
        client.command("CREATE TABLE x ON CLUSTER c")
