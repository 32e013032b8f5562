"""Deleting what stores have of a customer, and counting what they still have.

Workers take the customer out of their state and stop taking what it did; then, when nothing of it
is on its way any more, its rows and records are deleted here. What may come a moment later, because
a worker was just writing it, is found by counting again.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from clickhouse_connect.driver.client import Client
from confluent_kafka import Message

from touchstream.streams.changelog import state_of
from touchstream.streams.cli.waiting import Deadline
from touchstream.streams.erasure.store import DeadLetter, ErasureStore, Place, Subject
from touchstream.streams.erasure.topics import ErasureTopics, Test
from touchstream.streams.errors import TransientError
from touchstream.streams.settings import Settings
from touchstream.streams.tables import DEAD_LETTERS
from touchstream.streams.topics import ALERTS, CUSTOMER, DEAD_LETTER, IDENTITY, state_topic

HOPS = 3
"""From the row that says that an identity has gone, messages pass so many agents until all know."""
ATTEMPTS = 5
SETTLE_SECONDS = 120.0


class Traces(Protocol):
    """Tells what carries a trace of the customer; see `agents/erasure_commands.py`."""

    def in_record(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether a record between agents, or an alert, does."""

    def in_dead_letter(
        self, topic: str, key: bytes | None, value: bytes | None, detail: str
    ) -> bool:
        """Whether a dead letter does."""

    def in_state(self, agent: str, key: bytes, value: bytes) -> bool:
        """Whether a value of state does."""


class Residue(NamedTuple):
    """What one store still has."""

    store: str
    left: int
    note: str = ""
    expires: bool = False
    """It goes by itself."""


class Erasure:
    """Erases one customer after the other from all stores."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.store = ErasureStore(settings, client)
        self.topics = ErasureTopics(settings)

    def settle(self) -> None:
        """Wait until workers have processed, and stored, all that agents have told each other."""
        ends = self.topics.ends()
        deadline = Deadline(SETTLE_SECONDS)
        if not deadline.reached(lambda: _has_passed(self.topics.applied(), ends)):
            raise TransientError(
                f"workers have not caught up within {SETTLE_SECONDS:g} s: the customer is taken out"
                " of what they do from now on; run the command again to delete its rows"
            )

    def erase(self, subject: Subject, traces: Traces) -> list[str]:
        """Delete everything, after workers have let the customer go; returns what could not be."""
        for _ in range(HOPS):
            self.settle()
        for _ in range(ATTEMPTS):
            self.store.delete(subject)
            versions = self.store.versions(subject)
            self.settle()
            self.store.delete_orphans(versions)
            if not any(self.store.count(subject).values()):
                break
        self.store.delete_dead_letters(self._dead_letters(traces))
        _, problems = self.topics.rewrite(DEAD_LETTER, _dead_letters(traces))
        _, more = self.topics.rewrite(ALERTS, lambda r: traces.in_record(r.key(), r.value()))
        return [*problems, *more, *self.topics.truncate()]

    def residue(self, subject: Subject, traces: Traces) -> Iterator[Residue]:
        """What every store still has of the customer."""
        for table, number in self.store.count(subject).items():
            yield Residue(f"ClickHouse {table}", number)
        yield Residue(f"ClickHouse {DEAD_LETTERS.name}", len(self._dead_letters(traces)))
        yield self._in_topic(DEAD_LETTER, _dead_letters(traces))
        for topic in (IDENTITY, CUSTOMER, ALERTS):
            yield self._in_topic(topic, lambda r: traces.in_record(r.key(), r.value()))
        for agent in ("stitch", "profile"):
            yield self._in_state(agent, traces)

    def _dead_letters(self, traces: Traces) -> list[Place]:
        return [each.place for each in self.store.dead_letters() if is_of(traces, each)]

    def _in_topic(self, topic: str, is_trace: Test) -> Residue:
        found = [1 for record in self.topics.scan(topic) if is_trace(record)]
        note = "goes with the retention of the topic" if found else ""
        return Residue(f"Kafka {topic}", len(found), note, expires=True)

    def _in_state(self, agent: str, traces: Traces) -> Residue:
        live: set[bytes] = set()
        replaced = 0
        for record in self.topics.scan(state_topic(agent)):
            state = state_of(record.key(), record.value())
            if state is None:
                continue
            key, value = state
            replaced += key in live
            live.discard(key)
            if value and traces.in_state(agent, key, value):
                live.add(key)
        note = f"{replaced} replaced values go when Kafka compacts the topic" if replaced else ""
        return Residue(f"Kafka {state_topic(agent)}", len(live), note)


def is_of(traces: Traces, letter: DeadLetter) -> bool:
    """Whether a dead letter in ClickHouse is about the customer."""
    topic, *_ = letter.place
    return traces.in_dead_letter(topic, letter.key, letter.value, letter.detail)


def _has_passed(applied: dict[tuple[str, int], int], ends: dict[tuple[str, int], int]) -> bool:
    return all(applied[place] >= end for place, end in ends.items())


def _dead_letters(traces: Traces) -> Test:
    def is_trace(record: Message) -> bool:
        headers: dict[str, Any] = dict(record.headers() or [])
        topic, detail = (headers.get(name, b"").decode() for name in ("topic", "detail"))
        return traces.in_dead_letter(topic, record.key(), record.value(), detail)

    return is_trace
