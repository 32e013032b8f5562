"""Ingest: touchpoints of every channel in, normalised touches out, keyed by identity token.

Decodes and validates; every rejected record becomes a dead letter with its reason. The identity
rules that hold at the time of a record say which of its identifiers are used. Stateless: what a
replay sends again carries the same positions and is skipped by stitch.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from touchstream.agents.heard import Heard, follow
from touchstream.agents.identifiers import Identifiers, Reading, Tokens, tokens_of
from touchstream.agents.identity_messages import Touch, encode
from touchstream.agents.judgement import Refused
from touchstream.agents.rules import UNIDENTIFIED, Rules
from touchstream.agents.sentiment import Scorer, SentimentModel, load_model
from touchstream.schemas import load_schema
from touchstream.streams.app import App
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.dead_letters import Reason
from touchstream.streams.effects import Effects
from touchstream.streams.errors import PoisonError
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.state import State
from touchstream.streams.tables import REFUSED
from touchstream.streams.topics import (
    CHANNELS,
    DAY_MS,
    IDENTITY,
    TOUCHPOINTS,
    touchpoint_topic,
)
from touchstream.streams.validation import check_values

RULES_IN_USE = 2
"""Rules whose readings are remembered at a time: those before a change, and those after it."""
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


@cache
def channel_fields(channel: str) -> tuple[str, ...]:
    """Names of the fields that only this channel has."""
    names = (field["name"] for field in load_schema(channel)["fields"])
    return tuple(name for name in names if name not in COMMON)


Identity = tuple[Reading, bool]
"""An identity that a touchpoint shows, and whether it was verified."""


class Found(NamedTuple):
    """What the identifiers of a touchpoint turned out to be."""

    identities: list[Identity]
    """Without repetitions, the strongest first."""
    junk: list[str]
    """One name of rules for each value that identifies no one."""


def find_identities(touchpoint: dict[str, Any], identifiers: Identifiers) -> Found:
    """Identities of a touchpoint; one that is repeated is verified if any of its sights is."""
    platform = touchpoint.get("platform")
    found: dict[Reading, bool] = {}
    junk = []
    for identifier in touchpoint["identifiers"]:
        reading = identifiers.read(identifier["kind"], identifier["value"], platform)
        if reading.token:
            found[reading] = identifier["verified"] or found.get(reading, False)
        elif reading.junk:
            junk.append(reading.junk)
    return Found(sorted(found.items()), junk)


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

    def __init__(
        self,
        codec: TouchpointCodec,
        tokens: Tokens,
        settings: Settings,
        heard: Heard | None = None,
        sentiment_model: SentimentModel | None = None,
    ) -> None:
        """Under what operators said, or the default rules; without a model no sentiment."""
        self._codec = codec
        self._tokens = tokens
        self._heard = heard or Heard()
        self._scorer = Scorer(sentiment_model) if sentiment_model else None
        self._readers: list[Identifiers] = []
        self._past_ms = settings.horizon_past_days * DAY_MS
        self._future_ms = settings.horizon_future_seconds * 1000
        self._channels = {touchpoint_topic(channel): channel for channel in CHANNELS}
        self._fields = {channel: channel_fields(channel) for channel in CHANNELS}

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Send the touch to its strongest identity."""
        channel = self._channels[record.topic]
        touchpoint = self._codec.decode(channel, record.value)
        identifiers = self._identifiers(self._heard.rules.at(record.timestamp_ms))
        found, junk = find_identities(touchpoint, identifiers)
        erased = self._erased(found, touchpoint, record)
        try:
            check_values(channel, touchpoint)
            self._check_time(touchpoint["occurred_at"], record.timestamp_ms)
        except PoisonError:
            if not erased:
                raise
            found = []
        if erased:
            if not found or found[0] in erased:
                effects.count("suppressed")
                return
            found = [each for each in found if each not in erased]
        if not found and not junk:
            raise PoisonError(Reason.MISSING_IDENTIFIER, "no identifier has a value")
        if not found:
            found = [self._unidentified(channel, touchpoint["event_id"])]
            effects.count("unidentified")
        used = max(identifiers.rules.max_identifiers, 1)
        touch = self._touch(channel, touchpoint, record, found[:used], effects)
        identity = found[0][0].token
        effects.send(IDENTITY, identity, encode(touch))
        effects.count("touchpoints", channel)
        for name in junk:
            effects.count("junk", name)
        if len(found) > used:
            refuse(touch, identity, found[used:], effects)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """No state, no rows of state."""

    def _identifiers(self, rules: Rules) -> Identifiers:
        for identifiers in self._readers:
            if identifiers.rules is rules:
                return identifiers
        identifiers = Identifiers(self._tokens, rules)
        self._readers = [identifiers, *self._readers[: RULES_IN_USE - 1]]
        return identifiers

    def _erased(
        self, found: list[Identity], touchpoint: dict[str, Any], record: Record
    ) -> list[Identity]:
        """Identities of which an operator erased what happened then."""
        suppressions = self._heard.suppressions
        if not suppressions:
            return []
        at = min(touchpoint["occurred_at"], record.timestamp_ms)
        return [each for each in found if suppressions.hold(each[0].token, at)]

    def _unidentified(self, channel: str, event_id: str) -> Identity:
        token = self._tokens.unidentified(channel, event_id)
        return Reading(0, token, UNIDENTIFIED), False

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
        identities: Sequence[Identity],
        effects: Effects,
    ) -> Touch:
        (reading, verified), *others = identities
        values = ((name, touchpoint[name]) for name in self._fields[channel])
        fields = {name: value for name, value in values if value is not None and value != []}
        handle_ms = handling_ms(channel, fields)
        if handle_ms is not None:
            fields["handle_ms"] = handle_ms
        if self._scorer:
            fields |= self._scorer.added(channel, fields, touchpoint["locale"], effects)
        return Touch(
            reading.kind,
            verified,
            [(other.kind, other.token, verified) for other, verified in others],
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


def refuse(touch: Touch, identity: bytes, left_out: Sequence[Identity], effects: Effects) -> None:
    """Keep which identities of a touchpoint were left out, and say that somebody should look."""
    name, touchpoint = identity.hex(), f"{touch.channel}/{touch.event_id}"
    reason = Refused.TOO_MANY_IDENTIFIERS
    for reading, _ in left_out:
        row = (name, reading.token.hex(), touch.kind, reason, touchpoint, touch.received_at, 1, 0)
        effects.insert(REFUSED, row)
        effects.count("refused", reason)
    effects.alert(
        reason,
        f"A touchpoint carried too many identifiers: the weakest {len(left_out)} were left out.",
        cause=(name, touchpoint),
        identity=name,
        evidence={"left_out": len(left_out), "touchpoint": touchpoint},
    )


def attach(app: App) -> None:
    """Run ingest over all channels, under the rules that operators set."""
    settings, heard = app.settings, Heard()
    model = load_model(settings.sentiment_model)
    follower = follow(settings, heard)
    follower.start()
    app.on_stop(follower.stop)
    codec = TouchpointCodec.from_settings(settings)
    ingest = Ingest(codec, tokens_of(settings), settings, heard, model)
    app.run(ingest, TOUCHPOINTS, stateful=False)
