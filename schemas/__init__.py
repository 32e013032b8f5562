"""Contracts, no behaviour: Avro schemas, the metric catalogue and the ClickHouse migrations."""

import json
from importlib.resources import files
from typing import Any


def load_schema(channel: str) -> dict[str, Any]:
    """Return the shipped Avro schema of a channel's touchpoints, as it stands in its file."""
    text = files(__name__).joinpath(f"touchpoint.{channel}.v1.avsc").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def load_metrics_text() -> str:
    """Return the shipped metric catalogue, as TOML."""
    return files(__name__).joinpath("metrics.toml").read_text(encoding="utf-8")


def load_journey_text() -> str:
    """Return the shipped rules of the customer journey, as TOML."""
    return files(__name__).joinpath("journey.toml").read_text(encoding="utf-8")


def load_identity_rules_text() -> str:
    """Return the identity rules that hold until others are set, as TOML."""
    return files(__name__).joinpath("identity.toml").read_text(encoding="utf-8")
