"""Where settings come from, which source wins, and what a wrong one is told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.settings import LOCAL_IDENTITY_KEY, PREFIX, load_settings


class Sources:
    """Environment, secrets directory and configuration file of one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self._monkeypatch = monkeypatch
        self._secrets = directory / "secrets"
        self._secrets.mkdir()
        self.config = directory / "touchstream.toml"
        self.environment(secrets_dir=str(self._secrets))

    def environment(self, **values: str) -> None:
        for name, value in values.items():
            self._monkeypatch.setenv(PREFIX + name.upper(), value)

    def secret(self, name: str, value: str) -> None:
        (self._secrets / f"touchstream_{name}").write_text(value, encoding="utf-8")

    def toml(self, text: str) -> None:
        self.config.write_text(text, encoding="utf-8")


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sources:
    """Sources with nothing in them, whatever the machine has set."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Sources(monkeypatch, tmp_path / "work")


def refusal(**overrides: object) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(**overrides)
    return str(refused.value)


def test_without_any_source_defaults_hold(sources: Sources) -> None:
    settings = load_settings()
    assert (settings.profile, settings.partitions, settings.group) == ("local", 4, "touchstream")
    assert settings.identity_key.get_secret_value() == LOCAL_IDENTITY_KEY


def test_environment_is_read(sources: Sources) -> None:
    sources.environment(partitions="8", kafka_ca_file="/ca.pem", kafka_idempotence="false")
    settings = load_settings()
    assert (settings.partitions, settings.kafka_ca_file) == (8, Path("/ca.pem"))
    assert settings.kafka_idempotence is False


def test_toml_file_of_the_working_directory_is_read(sources: Sources) -> None:
    sources.toml('partitions = 8\ngroup = "night"\n')
    settings = load_settings()
    assert (settings.partitions, settings.group) == (8, "night")


def test_named_toml_file_is_read_instead(sources: Sources, tmp_path: Path) -> None:
    sources.toml("partitions = 8")
    named = tmp_path / "named.toml"
    named.write_text("partitions = 9")
    sources.environment(config=str(named))
    assert load_settings().partitions == 9


def test_secrets_directory_is_read(sources: Sources) -> None:
    sources.secret("clickhouse_password", "hidden\n")
    assert load_settings().clickhouse_password.get_secret_value() == "hidden"


Set = Callable[[Sources, int], None]
BY_STRENGTH: list[Set] = [
    lambda sources, value: sources.environment(partitions=str(value)),
    lambda sources, value: sources.secret("partitions", str(value)),
    lambda sources, value: sources.toml(f"partitions = {value}"),
]


@pytest.mark.parametrize("strongest", range(len(BY_STRENGTH)))
def test_environment_wins_over_secrets_and_secrets_over_toml(
    sources: Sources, strongest: int
) -> None:
    for value, put in enumerate(BY_STRENGTH[strongest:], strongest + 1):
        put(sources, value)
    assert load_settings().partitions == strongest + 1


def test_argument_wins_over_every_source(sources: Sources) -> None:
    for value, put in enumerate(BY_STRENGTH, 1):
        put(sources, value)
    assert load_settings(partitions=100).partitions == 100


def test_sources_complete_each_other(sources: Sources) -> None:
    sources.environment(partitions="8")
    sources.secret("identity_key", "of our own")
    sources.toml('group = "night"')
    settings = load_settings()
    assert (settings.partitions, settings.group) == (8, "night")
    assert settings.identity_key.get_secret_value() == "of our own"


def test_settings_are_frozen(sources: Sources) -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.partitions = 5  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", "many"),
        ("partitions", "0"),
        ("partitions", ""),
        ("metrics_port", "65536"),
        ("group", "two words"),
        ("clickhouse_url", "127.0.0.1:8123"),
        ("clickhouse_database", "drop table"),
        ("default_region", "us"),
        ("kafka_security_protocol", "plain"),
        ("log_level", "loud"),
        ("flush_seconds", "0"),
    ],
)
def test_wrong_value_names_its_variable(sources: Sources, name: str, value: str) -> None:
    sources.environment(**{name: value})
    assert f"{PREFIX}{name.upper()}: " in refusal()


def test_wrong_value_in_the_file_is_named_too(sources: Sources) -> None:
    sources.toml('partitions = "many"')
    assert "TOUCHSTREAM_PARTITIONS: " in refusal()


def test_every_wrong_value_is_named(sources: Sources) -> None:
    sources.environment(partitions="many", metrics_port="-1")
    text = refusal()
    assert "TOUCHSTREAM_PARTITIONS" in text and "TOUCHSTREAM_METRICS_PORT" in text


def test_refusal_does_not_show_secrets(sources: Sources) -> None:
    sources.environment(partitions="many", kafka_password="hidden")
    assert "hidden" not in refusal()


def test_settings_do_not_show_secrets(sources: Sources) -> None:
    sources.environment(kafka_password="hidden", identity_key="hidden")
    assert "hidden" not in repr(load_settings())


def test_unknown_variable_is_named(sources: Sources) -> None:
    sources.environment(partition="8")
    assert "TOUCHSTREAM_PARTITION:" in refusal()


def test_unknown_key_of_the_file_is_named(sources: Sources) -> None:
    sources.toml("partition = 8")
    assert "TOUCHSTREAM_PARTITION:" in refusal()


def test_variable_of_another_program_is_left_alone(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUCH_PARTITION", "8")
    assert load_settings().partitions == 4


def test_production_refuses_the_local_identity_key(sources: Sources) -> None:
    sources.environment(profile="production")
    assert "TOUCHSTREAM_IDENTITY_KEY" in refusal()


def test_production_with_a_key_of_its_own_is_accepted(sources: Sources) -> None:
    sources.environment(profile="production", identity_key="a secret of our own")
    assert load_settings().profile == "production"


def test_bad_toml_names_the_file_and_the_place(sources: Sources) -> None:
    sources.toml("partitions = = 8")
    assert "touchstream.toml is not valid TOML" in (text := refusal()) and "line 1" in text


def test_missing_config_file_is_named(sources: Sources) -> None:
    sources.environment(config="/nowhere/touchstream.toml")
    assert "TOUCHSTREAM_CONFIG names /nowhere/touchstream.toml" in refusal()


@pytest.mark.parametrize("key", ["", "  ", "short"])
def test_production_refuses_a_key_that_can_be_guessed(sources: Sources, key: str) -> None:
    sources.environment(profile="production", identity_key=key)
    assert "16 characters" in refusal()


def test_missing_secrets_directory_is_named(sources: Sources) -> None:
    sources.environment(secrets_dir="/nowhere")
    assert "TOUCHSTREAM_SECRETS_DIR names /nowhere" in refusal()


def test_unknown_variable_is_told_what_it_may_have_meant(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("touchstream_partition", "8")
    assert "did you mean TOUCHSTREAM_PARTITIONS?" in refusal()


@pytest.mark.parametrize("usual", ["session_timeout_seconds", "flush_seconds"])
def test_a_worker_gets_longer_than_what_is_usual_until_it_is_stuck(
    sources: Sources, usual: str
) -> None:
    sources.environment(stuck_seconds="40", ready_seconds="30", **{usual: "20.5"})
    assert "TOUCHSTREAM_STUCK_SECONDS must be at least 41" in refusal()
    sources.environment(stuck_seconds="41")
    assert load_settings().stuck_seconds == 41


def test_a_worker_is_not_ready_before_it_is_stuck(sources: Sources) -> None:
    sources.environment(stuck_seconds="60", ready_seconds="61")
    assert "TOUCHSTREAM_READY_SECONDS must not be more" in refusal()
