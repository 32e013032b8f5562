"""The retention file: what it may say, and the line of a mistake."""

from pathlib import Path

import pytest

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.retention import Retention, load_retention, parse_retention
from touchstream.streams.settings import Settings
from touchstream.streams.topics import DAY_MS, RETENTION_DAYS, topic_specs


def parse(text: str) -> Retention:
    return parse_retention(text, "retention.toml", longest_days=90)


def test_what_is_not_named_is_kept_as_shipped() -> None:
    assert parse("") == Retention({}, RETENTION_DAYS) == load_retention(Settings())


def test_days_by_table_and_group_of_topics() -> None:
    found = parse("[tables]\ntouchpoint_facts = 730\n[topics]\nalerts = 1\n")
    assert found.tables == {"touchpoint_facts": 730}
    assert found.topics == {**RETENTION_DAYS, "alerts": 1}


def test_groups_of_topics_get_their_days_and_the_others_stay() -> None:
    shipped = {spec.name: spec.config for spec in topic_specs()}
    longer = {spec.name: spec.config for spec in topic_specs({**RETENTION_DAYS, "touchpoints": 9})}
    changed = {name for name, config in longer.items() if config != shipped[name]}
    assert changed == {name for name in shipped if name.startswith("touchpoints.")} - {
        "touchpoints.dead-letter"
    }
    assert {longer[name]["retention.ms"] for name in changed} == {str(9 * DAY_MS)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("days = 1", r"retention.toml:1: days is unknown: .*"),
        ("[tables]\nalert_record = 1", "retention.toml:2: .*did you mean alert_records?"),
        ("[tables]\ncustomer_states = 9", "retention.toml:2: tables.customer_states is unknown"),
        ("[tables]\nalert_records = 0", "must be a whole number from 1 to 36525, is 0"),
        ("[tables]\nmetric_panes = 91", "must be a whole number from 92 to 36525, is 91"),
        ('[topics]\nalerts = "7d"', 'must be a whole number from 1 to 36525, is "7d"'),
        ("[topics]\noperations = 7", "topics.operations is unknown"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="RETENTION_FILE: cannot read .*none.toml"):
        load_retention(Settings(retention_file=tmp_path / "none.toml"))
