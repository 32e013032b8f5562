"""Stitch: touches in, one customer per person out; facts and identities to ClickHouse.

An agent over one log keyed by identity: touches and the messages by which identities find their
root and learn their customer. See `evidence.py` for what is kept and `resolution.py` for who is one
customer. When an identity changes customer, its activity is moved by a message to the old one.
"""

from touchstream.agents.evidence import (
    Component,
    Vertex,
    decode_component,
    decode_vertex,
)
from touchstream.agents.facts import event_key, event_of, fact_row
from touchstream.agents.messages import (
    Activity,
    Arrive,
    Assign,
    Link,
    Move,
    Report,
    Root,
    Sight,
    Token,
    Touch,
    Touched,
    customer_name,
    decode_identity,
    encode,
)
from touchstream.agents.resolution import resolve
from touchstream.streams.app import App
from touchstream.streams.effects import Effects
from touchstream.streams.internal import unframe
from touchstream.streams.positions import is_new
from touchstream.streams.records import Record
from touchstream.streams.state import State
from touchstream.streams.tables import FACTS, IDENTITIES, Row
from touchstream.streams.topics import CUSTOMER, IDENTITY

VERTEX = b"\x02"
COMPONENT = b"\x03"


class Stitch:
    """The stage: keeps a vertex for each identity, and the component at its root."""

    name = "stitch"

    def apply(self, record: Record, state: State, effects: Effects) -> None:
        """Take one record of `cx.identity`."""
        identity, value, body = unframe(record)
        message = decode_identity(body)
        if not is_new(value, state):
            effects.count("replayed")
            return
        step = _Step(identity, record, state, effects)
        version = step.vertex.version if step.vertex else 0
        match message:
            case Touch():
                step.touch(message)
            case Link():
                step.link(message)
            case Root():
                step.reroot(message.root)
            case Report():
                step.report(message)
            case Assign():
                step.assign(message)
        vertex = step.vertex
        if vertex and vertex.customer is not None and vertex.version != version:
            effects.upsert(IDENTITIES, identity, identity_row(identity, vertex))

    def project(self, partition: int, state: State, effects: Effects) -> None:
        """Rows are written as identities change."""


def identity_row(identity: Token, vertex: Vertex) -> Row:
    """Row of `tables.IDENTITIES`."""
    assert vertex.customer is not None
    return (
        identity.hex(),
        vertex.kind,
        customer_name(vertex.customer),
        vertex.first_seen,
        vertex.changed_at,
        vertex.version,
    )


class _Step:
    """One message to one identity."""

    def __init__(self, identity: Token, record: Record, state: State, effects: Effects) -> None:
        self.identity = identity
        self.record = record
        self.state = state
        self.effects = effects
        self.vertex = state.get(VERTEX + identity, decode_vertex)

    def touch(self, touch: Touch) -> None:
        """A touchpoint: its links are evidence, the touch itself goes to the customer."""
        vertex, news = self._open(touch.kind, touch.occurred_at)
        seen = (touch.occurred_at, f"{touch.channel}/{touch.event_id}")
        linked = {}
        for kind, other in touch.others:
            if vertex.link(other, seen):
                linked[other] = seen
                self._send(other, Link(kind, self.identity, seen, vertex.root))
        if news or linked:
            self._save()
            self._tell_root(linked)
        if vertex.customer is None:
            self._become(self.identity)
        self._forward(touch, vertex)

    def link(self, link: Link) -> None:
        """A neighbour saw us together."""
        vertex, news = self._open(link.kind, link.seen[0])
        linked = {link.other: link.seen} if vertex.link(link.other, link.seen) else {}
        if vertex.root < link.root:
            self._send(link.other, Root(vertex.root))
        rerooted = self._lower_root(link.root)
        if news or linked or rerooted:
            self._save()
            self._tell_root(vertex.links if rerooted else linked)

    def reroot(self, root: Token) -> None:
        """A neighbour reaches a smaller identity."""
        if self.vertex and self._lower_root(root):
            self._save()
            self._tell_root(self.vertex.links)

    def report(self, report: Report) -> None:
        """Evidence from a member; only the component's root decides."""
        if self.vertex and self.vertex.root == self.identity:
            component = self._component()
            component.collect(report.member, report.first_seen, report.links)
            self._decide(component)

    def assign(self, assign: Assign) -> None:
        """The root's word on our customer; the word of a former root is stale."""
        vertex = self.vertex
        if vertex is None:
            return
        if self._lower_root(assign.root):
            self._save()
            self._tell_root(vertex.links)
        if vertex.root == assign.root and vertex.customer != assign.customer:
            self._become(assign.customer)

    def _open(self, kind: str, time: int) -> tuple[Vertex, bool]:
        """Our vertex, seen at `time`; True when it is new or was never seen as early."""
        if self.vertex is None:
            self.vertex = Vertex(kind, self.identity, time)
            return self.vertex, True
        return self.vertex, self.vertex.see(time)

    def _save(self) -> None:
        assert self.vertex
        self.vertex.changed_at = self.record.timestamp_ms
        self.state.put(VERTEX + self.identity, self.vertex)

    def _lower_root(self, root: Token) -> bool:
        """Take a smaller root and pass it on to all neighbours."""
        vertex = self.vertex
        assert vertex
        if root >= vertex.root:
            return False
        if vertex.root == self.identity:
            self.state.put(COMPONENT + self.identity, None)
        vertex.root = root
        for neighbour in vertex.links:
            self._send(neighbour, Root(root))
        return True

    def _tell_root(self, links: dict[Token, Sight]) -> None:
        """Hand evidence to the root; the root decides."""
        vertex = self.vertex
        assert vertex
        if vertex.root == self.identity:
            if vertex.links:
                self._decide(self._component())
            else:
                self._become(self.identity)
        else:
            self._send(vertex.root, Report(self.identity, vertex.first_seen, links))

    def _component(self) -> Component:
        """The component that we are the root of, with our own evidence as it is now."""
        assert self.vertex
        component = self.state.get(COMPONENT + self.identity, decode_component) or Component()
        component.collect(self.identity, self.vertex.first_seen, self.vertex.links)
        return component

    def _decide(self, component: Component) -> None:
        members = component.members
        links = ((one, other) for one, member in members.items() for other in member.links)
        customers = resolve({i: member.first_seen for i, member in members.items()}, links)
        for identity, customer in customers.items():
            member = members[identity]
            if member.customer == customer:
                continue
            member.customer = customer
            if identity == self.identity:
                self._become(customer)
            else:
                self._send(identity, Assign(self.identity, customer))
        if len(members) > 1:
            self.state.put(COMPONENT + self.identity, component)

    def _become(self, customer: Token) -> None:
        """Belong to `customer` from now on, and take the activity along."""
        vertex = self.vertex
        assert vertex
        former, vertex.customer = vertex.customer, customer
        if former == customer:
            return
        vertex.version += 1
        self._save()
        self.effects.count("moves" if former else "identities")
        if former is None:
            activity = Activity(vertex.kind)
            self._to_customer(customer, Arrive(self.identity, vertex.version, activity))
        else:
            move = Move(self.identity, vertex.kind, vertex.version, customer)
            self._to_customer(former, move)

    def _forward(self, touch: Touch, vertex: Vertex) -> None:
        """The fact to ClickHouse, the event to the customer."""
        assert vertex.customer
        record = self.record
        row = fact_row(touch, self.identity, vertex.customer, record.partition, record.offset)
        self.effects.insert(FACTS, row)
        key = event_key(touch.channel, touch.event_id)
        event = Touched(self.identity, vertex.kind, vertex.version, key, event_of(touch))
        self._to_customer(vertex.customer, event)

    def _send(self, identity: Token, message: Link | Root | Report | Assign) -> None:
        self.effects.send(IDENTITY, identity, encode(message))

    def _to_customer(self, customer: Token, message: Touched | Move | Arrive) -> None:
        self.effects.send(CUSTOMER, customer, encode(message))


def attach(app: App) -> None:
    """Run stitch over the identity log."""
    app.run(Stitch(), (IDENTITY,))
