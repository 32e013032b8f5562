"""How to reach Kafka and be admitted: settings in, configuration of both clients out."""

import ssl
from pathlib import Path
from typing import Any

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.settings import PREFIX, Settings


def kafka_config(settings: Settings) -> dict[str, Any]:
    """Configuration for confluent-kafka, in librdkafka's names."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol == "SASL_SSL":
        username, password = _credentials(settings)
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = username
        config["sasl.password"] = password
    if settings.kafka_security_protocol != "PLAINTEXT" and settings.kafka_ca_file:
        config["ssl.ca.location"] = str(_ca_file(settings.kafka_ca_file))
    return config


def aiokafka_config(settings: Settings) -> dict[str, Any]:
    """Configuration for aiokafka's producers and consumers, as keyword arguments."""
    config: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol == "SASL_SSL":
        username, password = _credentials(settings)
        config["sasl_mechanism"] = settings.kafka_sasl_mechanism
        config["sasl_plain_username"] = username
        config["sasl_plain_password"] = password
    if settings.kafka_security_protocol != "PLAINTEXT":
        config["ssl_context"] = _ssl_context(settings.kafka_ca_file)
    return config


def _credentials(settings: Settings) -> tuple[str, str]:
    password = settings.kafka_password.get_secret_value()
    if not settings.kafka_username or not password:
        raise ConfigurationError(
            f"{PREFIX}KAFKA_USERNAME and {PREFIX}KAFKA_PASSWORD must be set for SASL_SSL"
        )
    return settings.kafka_username, password


def _ca_file(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"{PREFIX}KAFKA_CA_FILE names {path}, which is not a file")
    return path


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(_ca_file(ca_file)))
    except ssl.SSLError:
        raise ConfigurationError(
            f"{PREFIX}KAFKA_CA_FILE names {ca_file}, which holds no certificates in PEM"
        ) from None
