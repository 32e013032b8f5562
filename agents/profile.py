"""Profile: touches and moves in, the single customer view and the metric panes out.

An agent over one log keyed by customer. What a customer comes to is a pure function of its events,
so what one customer subtracts after a move another one adds.
"""

import msgspec

from touchstream.agents.activity import Change, Customer, decode_customer_state, fold, take
from touchstream.agents.course import World
from touchstream.agents.customer_messages import (
    Arrive,
    CustomerMessage,
    customer_name,
    decode_customer,
    encode,
)
from touchstream.agents.journey_rules import load_journey
from touchstream.agents.ledger import Ledger
from touchstream.agents.life import go_on, must_reread, reread
from touchstream.agents.loop import raise_alerts
from touchstream.agents.panes import Panes
from touchstream.agents.resolution import Token
from touchstream.agents.view import customer_row
from touchstream.streams.app import App
from touchstream.streams.catalogue import Catalogue, load_catalogue
from touchstream.streams.customer_tables import CUSTOMERS, PANES
from touchstream.streams.effects import Effects
from touchstream.streams.internal import unframe
from touchstream.streams.positions import is_new
from touchstream.streams.records import Record
from touchstream.streams.state import State
from touchstream.streams.topics import CUSTOMER

VIEW = b"\x02"


class Profile:
    """The stage: a customer for each key, and the panes of this partition."""

    name = "profile"

    def __init__(self, catalogue: Catalogue, world: World) -> None:
        """`world` says what a course depends on, `catalogue` which panes are kept."""
        self._world = world
        self._panes = Panes(catalogue)

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Take one record of `cx.customer`."""
        name, value, body = unframe(record)
        message = decode_customer(body)
        if not is_new(value, state):
            effects.count("replayed")
            return
        key = VIEW + name
        customer = state.get(key, decode_customer_state) or Customer()
        before = customer.events() if must_reread(customer, message) else None
        change = take(customer, message)
        if change.duplicate:
            effects.count("duplicates")
            return
        customer.version = record.offset + 1
        customer.changed_at = record.timestamp_ms
        is_gone = is_over(customer, change)
        state.put(key, None if is_gone else customer)
        if is_gone:
            effects.insert(CUSTOMERS, customer_row(name, customer, self._world.rules))
        if before is None:
            ledger = go_on(customer, change, self._world)
        else:
            ledger = reread(customer, before, self._world)
        self._panes.add(ledger.entries, state)
        write_rows(name, customer.version, ledger, effects)
        raise_alerts(name, message, change, ledger, effects)
        if change.added:
            fold(customer, message.identity, self._world)
        if change.onward:
            send_on(effects, *change.onward)

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """The customers and panes that changed."""
        for key, value in state.changed.items():
            if key[:1] == VIEW and value is not None:
                effects.insert(CUSTOMERS, customer_row(key[1:], value, self._world.rules))
        for row in self._panes.flush(partition, state):
            effects.insert(PANES, row)


def is_over(customer: Customer, change: Change) -> bool:
    """Whether nothing of a customer needs to be kept.

    What folded events came to is kept, should their identities come back; unless they were erased.
    """
    is_empty = not customer.identities and not customer.awaited
    return is_empty and (change.erased or customer.base is None)


def write_rows(name: Token, version: int, ledger: Ledger, effects: Effects) -> None:
    """Write what the customer's life consists of; what is no more is marked as deleted."""
    customer = customer_name(name)
    for key, (row, gone) in ledger.rows.items():
        effects.upsert(key[0], (name, *key[1:]), (customer, *row, version, int(gone)))


def send_on(effects: Effects, customer: Token, message: CustomerMessage) -> None:
    """Send a message to another customer; a replay sends the same bytes, so sets are sorted."""
    if isinstance(message, Arrive) and message.activity.folded_keys:
        keys = sorted(message.activity.folded_keys)
        activity = msgspec.structs.replace(message.activity, folded_keys=keys)
        message = msgspec.structs.replace(message, activity=activity)
    effects.send(CUSTOMER, customer, encode(message))


def attach(app: App) -> None:
    """Run profile over the customer log."""
    catalogue = load_catalogue(app.settings.metrics_file)
    rules = load_journey(app.settings.journey_file)
    app.run(Profile(catalogue, World(catalogue, rules)), (CUSTOMER,))
