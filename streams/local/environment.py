"""Settings of the embedded stack, and the same settings as a worker's environment."""

import os
from pathlib import Path

from pydantic import SecretStr

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.ports import LOOPBACK
from touchstream.streams.settings import PREFIX, Settings

SOURCES = (PREFIX + "CONFIG", PREFIX + "SECRETS_DIR")
"""Variables that are no settings but say where settings are; a worker reads the same files."""


def local_settings(
    given: Settings, directory: Path, kafka_port: int | None, clickhouse_port: int
) -> Settings:
    """Adjust settings to the embedded ClickHouse and broker; no port: Kafka stays as given."""
    if given.profile != "local":
        raise ConfigurationError(
            "the embedded stack is not for production: "
            f"unset {PREFIX}PROFILE or start workers against your own servers"
        )
    patience = {"session_timeout_seconds": 6.0, "rebalance_timeout_seconds": 3.0}
    adjusted: dict[str, object] = {
        **{name: value for name, value in patience.items() if name not in given.model_fields_set},
        **({} if kafka_port is None else _embedded_broker(kafka_port)),
        "clickhouse_url": f"http://{LOOPBACK}:{clickhouse_port}",
        "clickhouse_user": "default",
        "clickhouse_password": SecretStr(""),
        "data_directory": directory,
    }
    return given.model_copy(update=adjusted)


def _embedded_broker(port: int) -> dict[str, object]:
    return {
        "kafka_bootstrap_servers": f"{LOOPBACK}:{port}",
        "kafka_security_protocol": "PLAINTEXT",
        "kafka_idempotence": False,  # the broker refuses aiokafka's idempotent producer
        "replication_factor": 1,
    }


def worker_environment(settings: Settings, metrics_port: int) -> dict[str, str]:
    """Environment in which `load_settings` gives these settings with this metrics port."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) or name in SOURCES
    }
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    values["metrics_port"] = metrics_port
    return inherited | {
        PREFIX + name.upper(): _text(value) for name, value in values.items() if value is not None
    }


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)
