"""Profile: touches and moves in, the single customer view and the metric panes out.

An agent over one log keyed by customer. What a customer contributes to the panes is a pure function
of its events, so moves subtract here what they add there.
"""

from touchstream.agents.activity import Customer, decode_customer_state, take
from touchstream.agents.customer_messages import CustomerMessage, Event, decode_customer, encode
from touchstream.agents.measures import measures, member
from touchstream.agents.panes import PANE, Pane, decode_pane, pane_keys, pane_rows
from touchstream.agents.resolution import Token
from touchstream.agents.view import customer_row
from touchstream.streams.app import App
from touchstream.streams.effects import Effects
from touchstream.streams.internal import unframe
from touchstream.streams.positions import is_new
from touchstream.streams.records import Record
from touchstream.streams.state import State
from touchstream.streams.tables import CUSTOMERS, PANES
from touchstream.streams.topics import CUSTOMER

VIEW = b"\x02"


class Profile:
    """The stage: a customer for each key, and the panes of this partition."""

    name = "profile"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Take one record of `cx.customer`."""
        name, value, body = unframe(record)
        message = decode_customer(body)
        if not is_new(value, state):
            effects.count("replayed")
            return
        key = VIEW + name
        customer = state.get(key, decode_customer_state) or Customer()
        change = take(customer, message)
        if change.duplicate:
            effects.count("duplicates")
            return
        customer.version += 1
        customer.changed_at = record.timestamp_ms
        state.put(key, customer)
        for event in change.added:
            contribute(state, event, 1)
        for event in change.removed:
            contribute(state, event, -1)
        if change.onward:
            send_on(effects, *change.onward)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """The customers and panes that changed."""
        for key, value in state.changed.items():
            if key[:1] == VIEW:
                effects.insert(CUSTOMERS, customer_row(key[1:], value))
            elif key[:1] == PANE:
                for row in pane_rows(key, value, partition):
                    effects.insert(PANES, row)


def send_on(effects: Effects, customer: Token, message: CustomerMessage) -> None:
    """Send a message to another customer."""
    effects.send(CUSTOMER, customer, encode(message))


def contribute(state: State, event: Event, sign: int) -> None:
    """Add an event's measures to its panes, or take them back."""
    found = list(measures(event))
    if not found:
        return
    for key in pane_keys(member(event), event.occurred_at):
        pane = state.get(key, decode_pane) or Pane()
        pane.version += 1
        for measure in found:
            pane.add(measure, sign)
        state.put(key, pane)


def attach(app: App) -> None:
    """Run profile over the customer log."""
    app.run(Profile(), (CUSTOMER,))
