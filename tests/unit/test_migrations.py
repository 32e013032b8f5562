"""Migrations without a server: splitting, numbering, rendering, catalogue."""

import pytest

from touchstream.streams.migrations import (
    Migration,
    metric_definitions,
    render,
    shipped_migrations,
    split_statements,
)
from touchstream.streams.settings import Settings


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
    repeatable = ("CREATE TABLE IF NOT EXISTS ", "CREATE OR REPLACE VIEW ")
    for migration in shipped_migrations():
        for statement in render(migration, Settings()):
            assert statement.startswith(repeatable), statement[:60]


def test_the_catalogue_has_the_kinds_that_the_views_know() -> None:
    kinds = {row[3] for row in metric_definitions()}
    assert kinds <= {"mean", "index", "total"}
