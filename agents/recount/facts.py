"""Facts for the plain recomputation: what a touchpoint says, in which order, of which members."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from touchstream.agents.facts import event_key, ten_thousandths
from touchstream.streams.topics import DAY_MS

LONGEST_TEXT, LONGEST_PURPOSE, KEPT_PURPOSES = 128, 64, 16
NOT_OWN_DOING = {
    "survey.invited",
    "survey.expired",
    "email.sent",
    "email.delivered",
    "email.bounced",
    "sms.sent",
    "sms.delivered",
    "sms.bounced",
    "purchase.shipped",
    "purchase.delivered",
    "in_person.event_invited",
}
"""Touchpoints that the customer did nothing for; nor for those of the channel `employee`."""
Members = tuple[tuple[str, str], ...]
"""Dimension and member."""


class Measurement(NamedTuple):
    """Something measured, at a moment in ms."""

    measure: str
    at: int
    value: int
    members: Members


class Change(NamedTuple):
    """A level changes at the start of a day."""

    level: str
    """With its window: `buyers@30d`."""
    day: int
    change: int
    dimension: str = "all"
    member: str = ""


@dataclass(frozen=True)
class Fact:
    """One touchpoint; texts are empty and figures None when it does not have them."""

    channel: str
    event_id: str
    occurred_at: int
    action: str
    identity: str = ""
    account_id: str = ""
    campaign: str = ""
    segment: str = ""
    team: str = ""
    brand: str = ""
    consent: Mapping[str, bool] | None = None
    value_e4: int | None = None
    order_id: str = ""
    promised_at: int | None = None
    delivered_at: int | None = None
    question: str = ""
    score: float | None = None
    scale_min: float | None = None
    scale_max: float | None = None
    about_channel: str = ""
    item: str = ""
    invitation_id: str = ""
    queue: str = ""
    topic: str = ""
    wait_ms: int | None = None
    handle_ms: int | None = None
    transfers: int | None = None
    abandoned: bool = False
    resolved: bool | None = None
    sentiment: float | None = None
    rating: float | None = None

    @property
    def kind(self) -> str:
        """`channel.action`."""
        return f"{self.channel}.{self.action}"

    @cached_property
    def key(self) -> int:
        """64-bit key of channel and event id."""
        return event_key(self.channel, self.event_id)

    @property
    def day(self) -> int:
        """UTC day."""
        return self.occurred_at // DAY_MS

    @property
    def own_doing(self) -> bool:
        """Whether the customer did something."""
        return self.channel != "employee" and self.kind not in NOT_OWN_DOING

    @property
    def is_order(self) -> bool:
        """Whether an order was placed."""
        return self.kind == "purchase.placed"


@dataclass(frozen=True)
class Seen:
    """A touchpoint among those of its customer, and what the customer has right after it."""

    fact: Fact
    segment: str
    account: str
    stage: str

    @cached_property
    def members(self) -> Members:
        """One member of each dimension that the touchpoint has."""
        fact = self.fact
        asks_about = fact.about_channel if fact.kind == "survey.answered" else ""
        pairs = (
            ("channel", asks_about or fact.channel),
            ("queue", fact.queue),
            ("team", fact.team),
            ("campaign", fact.campaign),
            ("segment", self.segment),
            ("account", self.account),
            ("stage", self.stage),
        )
        return tuple((dimension, member) for dimension, member in pairs if member)

    def measured(self, measure: str, value: int = 1) -> Measurement:
        """A measurement at this touchpoint."""
        return Measurement(measure, self.fact.occurred_at, value, self.members)


def fact_of_row(row: Mapping[str, Any]) -> Fact:
    """Fact of a row by names of columns of `tables.FACTS`; `occurred_at` in ms."""
    details, properties, channel = row["details"], row["properties"], row["channel"]
    return _shortened(
        channel,
        row["event_id"],
        row["occurred_at"],
        row["action"],
        row["identity"],
        row["account_id"],
        row["campaign"],
        **_of_properties(channel, details.get("team"), properties),
        consent=row["consent"],
        value_e4=row["value_e4"],
        order_id=row["order_id"],
        promised_at=_whole(details.get("promised_at")),
        delivered_at=_whole(details.get("delivered_at")),
        question=row["question"],
        score=row["score"],
        scale_min=row["scale_min"],
        scale_max=row["scale_max"],
        about_channel=row["about_channel"],
        item=details.get("item", ""),
        invitation_id=details.get("invitation_id", ""),
        queue=row["queue"],
        topic=row["topic"],
        wait_ms=row["wait_ms"],
        handle_ms=row["handle_ms"],
        transfers=_whole(details.get("transfers")),
        abandoned=details.get("abandoned") == "true",
        resolved=row["resolved"],
        sentiment=_number(details.get("sentiment")),
        rating=_number(details.get("rating")),
    )


def fact_of_touchpoint(channel: str, touchpoint: Mapping[str, Any], identity: str = "") -> Fact:
    """Fact of a touchpoint as it is published."""
    get = touchpoint.get
    return _shortened(
        channel,
        touchpoint["event_id"],
        touchpoint["occurred_at"],
        touchpoint["action"],
        identity,
        get("account_id") or "",
        get("campaign") or "",
        **_of_properties(channel, get("team"), get("properties") or {}),
        consent=get("consent") or {},
        value_e4=ten_thousandths(get("value")),
        order_id=get("order_id") or "",
        promised_at=get("promised_at"),
        delivered_at=get("delivered_at"),
        question=get("question") or "",
        score=get("score"),
        scale_min=get("scale_min"),
        scale_max=get("scale_max"),
        about_channel=get("about_channel") or "",
        item=get("item") or "",
        invitation_id=get("invitation_id") or "",
        queue=get("queue") or "",
        topic=get("topic") or "",
        wait_ms=get("wait_ms"),
        handle_ms=_handling(channel, touchpoint),
        transfers=get("transfers"),
        abandoned=bool(get("abandoned")),
        resolved=get("resolved"),
        sentiment=get("sentiment"),
        rating=get("rating"),
    )


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """Touchpoints of a customer as they happened, each channel and event id once."""
    first: dict[tuple[str, str], Fact] = {}
    for fact in sorted(facts, key=lambda each: (each.occurred_at, each.identity)):
        first.setdefault((fact.channel, fact.event_id), fact)
    return sorted(first.values(), key=lambda each: (each.occurred_at, each.channel, each.key))


def _shortened(*place: Any, consent: Mapping[str, bool], **said: Any) -> Fact:
    """A fact whose texts are as long as those that are kept with a customer."""
    channel, event_id, *others = place
    texts = {name: _cut(each) for name, each in said.items()}
    purposes = sorted(each for each in consent if len(each) <= LONGEST_PURPOSE)
    kept = {each: consent[each] for each in purposes[:KEPT_PURPOSES]}
    return Fact(channel, event_id, *map(_cut, others), **{**texts, "consent": kept})


def _cut(value: Any) -> Any:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value


def _of_properties(
    channel: str, field: str | None, properties: Mapping[str, str]
) -> dict[str, str]:
    """Segment, team and brand."""
    team = (field if channel == "employee" else "") or properties.get("team", "")
    return {
        "segment": properties.get("segment", ""),
        "team": team,
        "brand": properties.get("brand", ""),
    }


def _handling(channel: str, touchpoint: Mapping[str, Any]) -> int | None:
    if channel != "phone":
        return touchpoint.get("handle_ms")
    if touchpoint.get("abandoned"):
        return None
    parts = [touchpoint.get(name) for name in ("talk_ms", "hold_ms", "wrap_up_ms")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
