"""Schema ids: which number in a record's framing stands for which schema.

Without a registry the ids follow from the shipped schemas alone. With one (any that speaks
Confluent's REST interface, Apicurio's `ccompat` included) the ids are looked up or registered once
at start, and writer schemas are fetched by id. A registry that does not answer is a TransientError;
one that refuses is a ConfigurationError.
"""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from http.client import HTTPException
from typing import Any, Protocol

from fastavro.schema import to_parsing_canonical_form

from touchstream.schemas import load_schema
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.topics import touchpoint_topic

SETTING = "TOUCHSTREAM_SCHEMA_REGISTRY_URL"
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_ANSWER_BYTES = 4 << 20


class SchemaRegistry(Protocol):
    """What is asked of a registry."""

    def schema_id(self, subject: str, schema: dict[str, Any]) -> int:
        """Return the id of the schema below the subject; register it if it is not there."""

    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        """Return the schema with this id, or None when there is none that could be a touchpoint."""


@cache
def shipped_id(channel: str) -> int:
    """Id of the shipped schema of a channel's touchpoints."""
    return id_of(load_schema(channel))


def id_of(schema: dict[str, Any]) -> int:
    """Id of a shipped schema: a hash of its Parsing Canonical Form, never below 2**30.

    Registries count up from 1, so that the two kinds of ids do not meet in one topic.
    """
    canonical = to_parsing_canonical_form(schema)
    digest = blake2b(canonical.encode(), digest_size=4).digest()
    return 1 << 30 | int.from_bytes(digest, "big") >> 2


def publishing_ids(
    channels: Iterable[str], *, registry: SchemaRegistry | None = None, topic_prefix: str = ""
) -> dict[str, int]:
    """Ids to publish the channels with; asks the registry, if any, once for each."""
    if registry is None:
        return {channel: shipped_id(channel) for channel in channels}
    return {
        channel: registry.schema_id(
            f"{topic_prefix}{touchpoint_topic(channel)}-value", load_schema(channel)
        )
        for channel in channels
    }


def connect_registry(url: str | None, *, timeout_seconds: float = 5.0) -> SchemaRegistry | None:
    """Return the client for `schema_registry_url`; None when no registry is configured."""
    return HttpRegistry(url, timeout_seconds=timeout_seconds) if url else None


class HttpRegistry:
    """A registry that speaks Confluent's REST interface; user and password may stand in its URL."""

    def __init__(self, url: str, *, timeout_seconds: float = 5.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{SETTING} must look like http://host:8081")
        address = parts.netloc.rpartition("@")[2]
        self._url = parts._replace(netloc=address).geturl().rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._headers = {"Content-Type": _CONTENT_TYPE, "Accept": f"{_CONTENT_TYPE}, */*;q=0.1"}
        if parts.username:
            user = f"{parts.username}:{parts.password or ''}"
            token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def schema_id(self, subject: str, schema: dict[str, Any]) -> int:
        """Look the schema up, which needs no right to write; register it only if it is new."""
        path = f"/subjects/{urllib.parse.quote(subject, safe='')}"
        body = {"schema": json.dumps(schema)}
        found = self._request(path, body) or self._request(f"{path}/versions", body)
        schema_id = (found or {}).get("id")
        if not isinstance(schema_id, int) or not 0 < schema_id < 1 << 31:
            raise ConfigurationError(f"{self._url} gave no id for {subject}: check {SETTING}")
        return schema_id

    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        """Fetch a schema; anything but an Avro record without references is none of ours."""
        found = self._request(f"/schemas/ids/{schema_id}", None)
        if found is None or found.get("schemaType", "AVRO") != "AVRO" or found.get("references"):
            return None
        try:
            schema = json.loads(found["schema"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        return schema if isinstance(schema, dict) else None

    def _request(self, path: str, body: dict[str, str] | None) -> dict[str, Any] | None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as response:
                return self._parse(response.read(_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise self._refusal(error) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise TransientError(
                f"schema registry {self._url} does not answer ({reason}): check {SETTING}"
            ) from None

    def _parse(self, answer: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(answer)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise ConfigurationError(f"{self._url} is not a schema registry: check {SETTING}")
        return parsed

    def _refusal(self, error: urllib.error.HTTPError) -> ConfigurationError | TransientError:
        if error.code >= 500 or error.code in (408, 429):
            return TransientError(f"schema registry {self._url} answered {error.code}: try again")
        try:
            said = str(json.loads(error.read(65_536))["message"])[:300]
        except (OSError, HTTPException, KeyError, TypeError, ValueError):
            said = str(error.reason)
        return ConfigurationError(
            f"schema registry {self._url} refused with {error.code} ({said}): check {SETTING}, "
            "its rights, and the subject's compatibility rules"
        )
