"""Settings: read once from `TOUCHSTREAM_*` variables, secret files and a TOML file, then frozen.

Order, strongest first: arguments, environment, files in the secrets directory
(`TOUCHSTREAM_SECRETS_DIR`, default `/run/secrets`), the TOML file named by `TOUCHSTREAM_CONFIG`
(default `touchstream.toml`), defaults.
"""

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from touchstream.streams.errors import ConfigurationError

PREFIX = "TOUCHSTREAM_"
LOCAL_IDENTITY_KEY = "local-only-identity-key"


class Settings(BaseSettings):
    """What can be set: each field is a variable `TOUCHSTREAM_<NAME>` and a TOML key `<name>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    profile: Literal["local", "production"] = "local"
    """`production` refuses the local identity key."""
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", min_length=3)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")
    kafka_ca_file: Path | None = None
    kafka_idempotence: bool = True
    """Off only for brokers without idempotent producers for every client (the embedded one)."""
    group: str = Field("touchstream", pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the worker group, which is the Kafka consumer group."""
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$")
    partitions: int = Field(4, ge=1, le=1024)
    """Partitions of every topic; fixed once the topics exist."""
    replication_factor: int = Field(1, ge=1, le=9)
    session_timeout_seconds: float = Field(10.0, ge=1)
    rebalance_timeout_seconds: float = Field(20.0, ge=1)
    schema_registry_url: str | None = None

    clickhouse_url: str = Field("http://127.0.0.1:8123", pattern=r"^https?://")
    clickhouse_database: str = Field("touchstream", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    clickhouse_cluster: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")
    """A cluster in the configuration of the server, over which tables are spread; empty: none."""
    clickhouse_user: str = "default"
    clickhouse_password: SecretStr = SecretStr("")

    identity_key: SecretStr = SecretStr(LOCAL_IDENTITY_KEY)
    """Key of the hash that turns identifiers into tokens; changing it changes every token."""
    default_region: str = Field("US", pattern=r"^[A-Z]{2}$")
    """Region of phone numbers written without a country code."""
    horizon_past_days: int = Field(36_525, ge=1)
    horizon_future_seconds: int = Field(86_400, ge=0)
    max_payload_bytes: int = Field(262_144, ge=1024, le=4 << 20)
    dead_letter_limit: int = Field(10_000, ge=0)
    """Records of a partition rejected in a row until it is not read any more; 0: any number."""
    sentiment_model: str = "none"
    """Judges texts that come without sentiment: `none`, `vader` or `module:attribute`."""

    chunk_records: int = Field(8_000, ge=1, le=100_000)
    flush_rows: int = Field(10_000, ge=1)
    flush_seconds: float = Field(0.5, gt=0, le=60)
    metrics_file: Path | None = None
    """The metric catalogue; none: the shipped `metrics.toml`."""
    journey_file: Path | None = None
    """Rules of the customer journey, from the first record on; none: the shipped `journey.toml`."""
    retention_file: Path | None = None
    """How long rows and records are kept, where it is not as shipped."""
    push_seconds: float = Field(5.0, ge=0, le=3600)
    """Time between two writes of rolling metrics to `rolling_metrics`; 0 turns them off."""
    watch_seconds: float = Field(15.0, ge=0, le=3600)
    """Time between two looks for churn risk and missed targets; 0 raises no alerts on them."""
    squash_seconds: float = Field(600.0, ge=0, le=86_400)
    """Time between two squashes of facts; 0 turns them off."""
    squash_grace_seconds: float = Field(3600.0, ge=0)
    """How long an override has been there before the squash takes it; again before it drops it."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9464, ge=0, le=65_535)
    """Port of `/healthz`, `/readyz` and `/metrics`; 0 turns them off."""
    ready_seconds: float = Field(30.0, gt=0)
    """How long something may wait until `/readyz` says so."""
    stuck_seconds: float = Field(120.0, gt=0)
    """How long a worker may make no progress, for no reason outside of it, until it ends itself."""
    data_directory: Path = Path(".touchstream")
    """Where the embedded stack keeps its files."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _production_needs_secrets(self) -> "Settings":
        key = self.identity_key.get_secret_value().strip()
        if self.profile == "production" and (key == LOCAL_IDENTITY_KEY or len(key) < 16):
            raise ValueError(
                f"{PREFIX}IDENTITY_KEY must be a secret of its own, of 16 characters or more, in"
                " the production profile"
            )
        return self

    @model_validator(mode="after")
    def _patience_is_longer_than_what_is_usual(self) -> "Settings":
        """A rebalance and the writing of a group of rows are no reason to end a worker."""
        least = 2 * max(self.session_timeout_seconds, self.flush_seconds)
        if self.stuck_seconds < least:
            raise ValueError(
                f"{PREFIX}STUCK_SECONDS must be at least {least:g}, twice"
                f" {PREFIX}SESSION_TIMEOUT_SECONDS and {PREFIX}FLUSH_SECONDS"
            )
        if self.ready_seconds > self.stuck_seconds:
            raise ValueError(
                f"{PREFIX}READY_SECONDS must not be more than {PREFIX}STUCK_SECONDS"
                f" ({self.stuck_seconds:g})"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file behind environment and secret files."""
        toml = TomlConfigSettingsSource(settings_cls, _config_file())
        return init_settings, env_settings, file_secret_settings, toml


def load_settings(**overrides: object) -> Settings:
    """Read all sources once; raises ConfigurationError naming each wrong setting."""
    _refuse_unknown_variables()
    try:
        return Settings(
            _secrets_dir=_secrets_directory(),
            **overrides,  # type: ignore[arg-type]
        )
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{_config_file()} is not valid TOML: {error}") from None


def _config_file() -> Path | None:
    named = os.environ.get(PREFIX + "CONFIG")
    if named and not Path(named).is_file():
        raise ConfigurationError(f"{PREFIX}CONFIG names {named}, which is not a file")
    default = Path("touchstream.toml")
    return Path(named) if named else default if default.is_file() else None


def _secrets_directory() -> Path | None:
    named = os.environ.get(PREFIX + "SECRETS_DIR")
    if named and not Path(named).is_dir():
        raise ConfigurationError(f"{PREFIX}SECRETS_DIR names {named}, which is not a directory")
    directory = Path(named or "/run/secrets")
    return directory if directory.is_dir() else None


def _refuse_unknown_variables() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {PREFIX + "CONFIG", PREFIX + "SECRETS_DIR"}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = get_close_matches(name.upper(), known, 1)
            hint = f"did you mean {near[0]}?" if near else "docs/operations.md lists all settings"
            raise ConfigurationError(f"unknown setting {name}: {hint}")


def _explain(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False):
        name = PREFIX + str(problem["loc"][0]).upper() + ": " if problem["loc"] else ""
        parts.append(name + problem["msg"].removeprefix("Value error, "))
    return "wrong setting: " + "; ".join(parts)
