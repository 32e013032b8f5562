"""Ingest: touchpoints of every channel in, normalised touches out, keyed by identity token.

Decodes and validates; every rejected record becomes a dead letter with its reason. Stateless: what
a replay sends again carries the same positions and is skipped by stitch.
"""

from typing import Any

from touchstream.agents.identifiers import Tokens, strength, tokens_of
from touchstream.agents.messages import Token, Touch, encode
from touchstream.schemas import load_schema
from touchstream.streams.app import App
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.dead_letters import Reason
from touchstream.streams.effects import Effects
from touchstream.streams.errors import PoisonError
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.state import State
from touchstream.streams.topics import CHANNELS, DAY_MS, IDENTITY, TOUCHPOINTS, touchpoint_topic
from touchstream.streams.validation import check_values

COMMON = {
    "event_id",
    "occurred_at",
    "sent_at",
    "action",
    "identifiers",
    "account_id",
    "session_id",
    "campaign",
    "locale",
    "consent",
    "properties",
}


def channel_fields(channel: str) -> tuple[str, ...]:
    """Names of the fields that only this channel has."""
    names = (field["name"] for field in load_schema(channel)["fields"])
    return tuple(name for name in names if name not in COMMON)


def identities(touchpoint: dict[str, Any], tokens: Tokens) -> list[tuple[str, Token]]:
    """Kind and token of each identifier, without repetitions, the strongest first."""
    found: dict[Token, str] = {}
    for identifier in touchpoint["identifiers"]:
        kind = identifier["kind"].strip().casefold()
        if kind == "handle" and touchpoint.get("platform"):
            kind = f"{touchpoint['platform']}_handle".casefold()
        token = tokens.token(kind, identifier["value"]) if kind else b""
        if token:
            found[token] = kind
    return sorted(
        ((kind, token) for token, kind in found.items()),
        key=lambda identity: (strength(identity[0]), identity[1]),
    )


def handling_ms(channel: str, fields: dict[str, Any]) -> int | None:
    """Agent time of a contact in ms: talk, hold and wrap-up of an answered call."""
    if channel != "phone" or fields.get("abandoned"):
        return fields.get("handle_ms")
    parts = [fields.get(name) for name in ("talk_ms", "hold_ms", "wrap_up_ms")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


class Ingest:
    """The stage: one touchpoint in, one touch or one dead letter out."""

    name = "ingest"

    def __init__(self, codec: TouchpointCodec, tokens: Tokens, settings: Settings) -> None:
        self._codec = codec
        self._tokens = tokens
        self._past_ms = settings.horizon_past_days * DAY_MS
        self._future_ms = settings.horizon_future_seconds * 1000
        self._channels = {touchpoint_topic(channel): channel for channel in CHANNELS}
        self._fields = {channel: channel_fields(channel) for channel in CHANNELS}

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Send the touch to its strongest identity."""
        channel = self._channels[record.topic]
        touchpoint = self._codec.decode(channel, record.value)
        check_values(channel, touchpoint)
        self._check_time(touchpoint["occurred_at"], record.timestamp_ms)
        found = identities(touchpoint, self._tokens)
        if not found:
            raise PoisonError(Reason.MISSING_IDENTIFIER, "no identifier has a value")
        (kind, identity), *others = found
        touch = self._touch(channel, touchpoint, record, kind, others)
        effects.send(IDENTITY, identity, encode(touch))
        effects.count("touchpoints", channel)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """No state, no rows of state."""

    def _check_time(self, occurred_at: int, published_at: int) -> None:
        age_ms = published_at - occurred_at
        if age_ms > self._past_ms or -age_ms > self._future_ms or occurred_at < 0:
            raise PoisonError(
                Reason.OUTSIDE_HORIZON,
                f"occurred_at is {age_ms // 1000} s before the time of publishing"
                if occurred_at >= 0
                else "occurred_at is before 1970",
            )

    def _touch(
        self,
        channel: str,
        touchpoint: dict[str, Any],
        record: Record,
        kind: str,
        others: list[tuple[str, Token]],
    ) -> Touch:
        values = ((name, touchpoint[name]) for name in self._fields[channel])
        fields = {name: value for name, value in values if value is not None and value != []}
        handle_ms = handling_ms(channel, fields)
        if handle_ms is not None:
            fields["handle_ms"] = handle_ms
        return Touch(
            kind,
            others,
            channel,
            touchpoint["event_id"],
            touchpoint["occurred_at"],
            record.timestamp_ms,
            touchpoint["action"],
            touchpoint["account_id"],
            touchpoint["session_id"],
            touchpoint["campaign"],
            touchpoint["locale"],
            touchpoint["consent"],
            touchpoint["properties"],
            fields,
        )


def attach(app: App) -> None:
    """Run ingest over all channels."""
    settings = app.settings
    codec = TouchpointCodec.from_settings(settings)
    app.run(Ingest(codec, tokens_of(settings), settings), TOUCHPOINTS, stateful=False)
