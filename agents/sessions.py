"""Sessions: touchpoints of a customer's own doing without a long silence between them."""

import msgspec

from touchstream.agents.customer_messages import Event
from touchstream.agents.journey_rules import JourneyRules
from touchstream.agents.ledger import Ledger
from touchstream.streams.customer_tables import SESSIONS

_DONE_TO = {
    ("survey", "invited"),
    ("survey", "expired"),
    ("email", "sent"),
    ("email", "delivered"),
    ("email", "bounced"),
    ("sms", "sent"),
    ("sms", "delivered"),
    ("sms", "bounced"),
    ("purchase", "shipped"),
    ("purchase", "delivered"),
    ("in_person", "event_invited"),
}


class Session(msgspec.Struct, array_like=True):
    """The latest session of a customer."""

    number: int = 0
    """How many there were."""
    started_at: int = 0
    ended_at: int = 0
    touchpoints: int = 0
    channels: list[str] = []
    campaign: str = ""
    orders: int = 0

    def see(self, event: Event, rules: JourneyRules, ledger: Ledger) -> None:
        """Go on with the session, or begin the next one."""
        if not is_own_doing(event):
            return
        at = event.occurred_at
        if not self.number or at - self.ended_at > rules.session_gap:
            self.number += 1
            self.started_at = at
            self.touchpoints, self.orders, self.channels, self.campaign = 0, 0, [], ""
        self.ended_at = at
        self.touchpoints += 1
        self.orders += event.channel == "purchase" and event.action == "placed"
        self.campaign = self.campaign or event.campaign or ""
        if event.channel not in self.channels:
            self.channels = [*self.channels, event.channel]
        self.show(ledger)

    def show(self, ledger: Ledger) -> None:
        """Write the session."""
        if not self.number:
            return
        row = (
            self.started_at,
            self.ended_at,
            self.touchpoints,
            tuple(self.channels),
            self.campaign,
            self.orders,
        )
        ledger.write(SESSIONS, self.started_at, "", row)


def is_own_doing(event: Event) -> bool:
    """Whether the customer did it; else it was done to the customer, or by an employee."""
    return (event.channel, event.action) not in _DONE_TO and event.channel != "employee"
