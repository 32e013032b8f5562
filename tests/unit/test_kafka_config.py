"""Settings in, the configuration of both Kafka clients out."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.kafka_config import aiokafka_config, kafka_config
from touchstream.streams.settings import Settings


def test_plaintext_needs_servers_only() -> None:
    settings = Settings(kafka_bootstrap_servers="k:1")
    assert kafka_config(settings) == {
        "bootstrap.servers": "k:1",
        "security.protocol": "PLAINTEXT",
    }
    assert aiokafka_config(settings) == {
        "bootstrap_servers": "k:1",
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_settings_reach_both_clients() -> None:
    settings = Settings(
        kafka_security_protocol="SASL_SSL",
        kafka_username="ann",
        kafka_password=SecretStr("secret"),
    )
    librdkafka, aiokafka = kafka_config(settings), aiokafka_config(settings)
    assert librdkafka["sasl.mechanism"] == aiokafka["sasl_mechanism"] == "SCRAM-SHA-512"
    assert librdkafka["sasl.username"] == aiokafka["sasl_plain_username"] == "ann"
    assert librdkafka["sasl.password"] == aiokafka["sasl_plain_password"] == "secret"
    assert aiokafka["ssl_context"].check_hostname


def test_sasl_without_password_is_refused() -> None:
    settings = Settings(kafka_security_protocol="SASL_SSL", kafka_username="ann")
    for config in (kafka_config, aiokafka_config):
        with pytest.raises(ConfigurationError, match="TOUCHSTREAM_KAFKA_PASSWORD"):
            config(settings)


@pytest.mark.parametrize("exists", [False, True])
def test_wrong_ca_file_is_named(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "ca.pem"
    if exists:
        path.write_text("no certificate")
    settings = Settings(kafka_security_protocol="SSL", kafka_ca_file=path)
    with pytest.raises(ConfigurationError, match="TOUCHSTREAM_KAFKA_CA_FILE"):
        aiokafka_config(settings)


def test_ca_file_reaches_librdkafka(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.touch()
    settings = Settings(kafka_security_protocol="SSL", kafka_ca_file=path)
    assert kafka_config(settings)["ssl.ca.location"] == str(path)
