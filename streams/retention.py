"""How long rows and records are kept: a TOML file in, days by table and by group of topics out.

The file names what is not kept as shipped, in whole days. Not every table can be named: nothing is
dropped that agents or views need as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from touchstream.streams.catalogue import DAY_SECONDS, load_catalogue
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.settings import PREFIX, Settings
from touchstream.streams.toml_table import TomlTable, read_toml
from touchstream.streams.topics import RETENTION_DAYS

MOST_DAYS = 36_525
PANES = "metric_panes"
EXPIRY: Mapping[str, str] = {
    # By the time of the record, so that a backfill of old touchpoints is not dropped as it comes.
    "touchpoint_facts": "toDateTime(received_at) + toIntervalDay({days})",
    "dead_letter_records": "toDateTime(received_at) + toIntervalDay({days})",
    "alert_records": "toDateTime(raised_at) + toIntervalDay({days})",
    "identity_change_records": "toDateTime(changed_at) + toIntervalDay({days})",
    # By columns that all versions of a row share: else an older version could outlive the newest.
    "session_states": "toDateTime(started_at) + toIntervalDay({days})",
    "issue_states": "toDateTime(opened_at) + toIntervalDay({days})",
    "order_path_states": "toDateTime(ordered_at) + toIntervalDay({days})",
    # Panes of hours and days stay: windows begin with minutes, all of history is made of days.
    PANES: "start + toIntervalDay({days}) WHERE resolution = 'minute'",
}
"""When a row goes; written as ClickHouse shows it, to be compared. Tables that are not here are
needed as a whole: states of identities and customers, evidence, words of operators, definitions."""


@dataclass(frozen=True)
class Retention:
    """Days by table; days by group of topics, complete."""

    tables: Mapping[str, int] = field(default_factory=dict)
    topics: Mapping[str, int] = field(default_factory=lambda: RETENTION_DAYS)


def load_retention(settings: Settings) -> Retention:
    """Retention of the settings; raises ConfigurationError with file and line of a mistake."""
    path = settings.retention_file
    if path is None:
        return Retention()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{PREFIX}RETENTION_FILE: cannot read {path}: {error}") from None
    windows = load_catalogue(settings.metrics_file).windows.values()
    return parse_retention(text, str(path), longest_days=max(windows) // DAY_SECONDS)


def parse_retention(text: str, name: str, *, longest_days: int) -> Retention:
    """Retention as a file says it; `longest_days` is the longest window of a metric."""
    top = read_toml(text, name)
    top.only("tables", "topics")
    # A window begins with panes of minutes, and a day more for questions of yesterday.
    least = {PANES: longest_days + 2}
    tables = _days(top.table("tables"), EXPIRY, least)
    topics = _days(top.table("topics"), RETENTION_DAYS, {})
    return Retention(tables, {**RETENTION_DAYS, **topics})


def _days(
    table: TomlTable | None, known: Mapping[str, object], least: Mapping[str, int]
) -> dict[str, int]:
    if table is None:
        return {}
    table.only(*known)
    return {name: table.whole(name, least.get(name, 1), MOST_DAYS) for name in table}
