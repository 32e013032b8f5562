"""Febrl's persons through the product itself: ten random orders, then other rules on top.

Each record is one touchpoint. Orders share a stack but no identity: the name of the order stands
before every identifier and event id. What stitch says is read when nothing is left to process.
"""

import csv
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import oracle
import pytest
from brokers import KafkaCluster
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from lives import START_MS
from stacks import local_stack

from touchstream.agents.history import judge_history, links_of, resolve_history
from touchstream.agents.rules import Rules
from touchstream.agents.rules_file import default_rules, parse_rules
from touchstream.streams.clickhouse import connect
from touchstream.streams.kafka_config import kafka_config
from touchstream.streams.local.environment import worker_environment
from touchstream.streams.local.stack import LocalStack
from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CUSTOMER, IDENTITY, OPERATIONS, TOUCHPOINTS

pytestmark = pytest.mark.integration
DATA = Path(__file__).parents[1] / "data" / "febrl"
CHANNEL = "in_person"
ORDERS = range(10)
SETS = (1, 3)
PATIENCE_SECONDS = 300.0

CUSTOMERS = "SELECT event_id, customer_id FROM touchpoints"
MEMBERS = "SELECT identity, customer_id FROM identities"
REFUSED = "SELECT identity, other, reason FROM refused_links"

FREE_RULES = """
max_identities = 200
max_component = 1000
max_identifiers = 50
[kinds]
national_id = {priority = 70}
name_dob = {priority = 50}
other = {priority = 30}
"""
"""Neither kind is unique or limited."""


class Record(NamedTuple):
    """One line of a data set."""

    rec_id: str
    person: str
    identifiers: dict[str, str]


class Order(NamedTuple):
    """One random order of a data set; with or without names and dates of birth."""

    number: int
    dataset: int
    names: bool

    @property
    def prefix(self) -> str:
        return f"{'both' if self.names else 'id'}{self.dataset}.{self.number}."

    def touchpoints(self) -> list[oracle.Published]:
        """A record has the same time in every order."""
        published = [
            (CHANNEL, self._touchpoint(record, START_MS + 1000 * line))
            for line, record in enumerate(records(self.dataset))
        ]
        random.Random(self.prefix).shuffle(published)
        return published

    def _touchpoint(self, record: Record, at: int) -> dict[str, object]:
        identifiers = [
            {"kind": kind, "value": self.prefix + value, "verified": False}
            for kind, value in record.identifiers.items()
            if self.names or kind == "national_id"
        ]
        event_id = self.prefix + record.rec_id
        common = {"event_id": event_id, "occurred_at": at, "action": "visited"}
        return {**common, "identifiers": identifiers}


class Seen(NamedTuple):
    """What the views say."""

    touchpoints: dict[str, str]
    """Event id -> customer."""
    identities: dict[str, str]
    """Identity -> customer."""
    refused: dict[tuple[str, str], str]
    """Link -> reason."""

    def customers(self, order: Order) -> dict[str, list[str]]:
        """Customers of an order, each with the ids of its records."""
        found: dict[str, list[str]] = {}
        for record in records(order.dataset):
            customer = self.touchpoints[order.prefix + record.rec_id]
            found.setdefault(customer, []).append(record.rec_id)
        return found

    def partition(self, order: Order) -> frozenset[frozenset[str]]:
        """Which records are one customer."""
        return frozenset(map(frozenset, self.customers(order).values()))


@cache
def records(dataset: int) -> list[Record]:
    with (DATA / f"dataset{dataset}.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, skipinitialspace=True))
    found = []
    for line in lines:
        identifiers = {"national_id": line["soc_sec_id"]}
        name = (line["given_name"], line["surname"], line["date_of_birth"])
        if all(name):
            identifiers["name_dob"] = " ".join(name)
        found.append(Record(line["rec_id"], line["rec_id"].split("-")[1], identifiers))
    return found


def orders(*, names: bool, dataset: int) -> list[Order]:
    return [Order(number, dataset, names) for number in ORDERS]


def everything() -> list[oracle.Published]:
    """All orders of both sets."""
    return [
        touchpoint
        for dataset in SETS
        for names in (False, True)
        for order in orders(names=names, dataset=dataset)
        for touchpoint in order.touchpoints()
    ]


@cache
def named_tokens(order: Order) -> dict[str, tuple[str, str]]:
    """Identity -> kind and value, as they are in every order."""
    return {
        oracle.TOKENS.token(kind, order.prefix + value).hex(): (kind, value)
        for record in records(order.dataset)
        for kind, value in record.identifiers.items()
    }


def links(order: Order) -> set[tuple[str, str]]:
    """Pairs of identities that share a record."""
    tokens = {name: token for token, name in named_tokens(order).items()}
    together = [
        sorted(tokens[name] for name in record.identifiers.items())
        for record in records(order.dataset)
    ]
    return {(one, other) for one, *others in together for other in others}


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaCluster | None
) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("stack")
    with local_stack(folder, Settings(), workers=2, kafka=kafka) as stack:
        yield stack


@pytest.fixture(scope="module")
def decided(stack: LocalStack) -> Seen:
    """Everything published, under the default rules."""
    with Publisher(stack.settings) as publisher:
        for channel, touchpoint in everything():
            publisher.publish(channel, touchpoint)
    return settled(stack)


@pytest.fixture(scope="module")
def decided_again(
    stack: LocalStack, decided: Seen, tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    """The same after other rules were applied."""
    file = tmp_path_factory.mktemp("rules") / "rules.toml"
    file.write_text(FREE_RULES)
    arguments = ("identity", "rules", "apply", str(file), "--operator", "ann", "--wait", "60")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "touchstream.streams.cli", *arguments],
        env=worker_environment(stack.settings, 0),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return settled(stack)


def settled(stack: LocalStack) -> Seen:
    """What the views say once every record has been processed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not at_rest(stack.settings):
        assert time.monotonic() < deadline, "the workers do not come to rest"
        stack.wait(0.5)
    client = connect(stack.settings)
    found = seen(client)
    client.close()
    return found


def at_rest(settings: Settings) -> bool:
    """Whether every input topic was processed to its end.

    Workers commit what they have processed after they have appended what follows from it. So when
    no log has grown beyond what was committed before, nothing is left anywhere.
    """
    consumer = Consumer(
        {
            **kafka_config(settings),
            "group.id": settings.group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        committed = consumer.committed(places(settings), timeout=30)
        for place in committed:
            place.offset = max(place.offset, 0)
        consumer.assign(committed)
        return all(is_end(consumer.poll(30)) for _ in committed)
    finally:
        consumer.close()


def places(settings: Settings) -> list[TopicPartition]:
    """Every partition that a worker reads."""
    prefix = settings.topic_prefix
    topics = [prefix + topic for topic in (*TOUCHPOINTS, OPERATIONS, IDENTITY, CUSTOMER)]
    return [TopicPartition(topic, p) for topic in topics for p in range(settings.partitions)]


def is_end(message: Message | None) -> bool:
    error = message.error() if message is not None else None
    return bool(error and error.code() == KafkaError._PARTITION_EOF)


def seen(client: Client) -> Seen:
    touchpoints, members, refused = (
        client.query(sql).result_rows for sql in (CUSTOMERS, MEMBERS, REFUSED)
    )
    found = Seen(
        {str(event_id): str(customer) for event_id, customer in touchpoints},
        {str(identity): str(customer) for identity, customer in members},
        {(one, other): reason for one, other, reason in refused},
    )
    assert [len(each) for each in found] == [len(touchpoints), len(members), len(refused)]
    return found


def resolved(rules: Rules) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Customers and refused links of everything published, resolved at once."""
    first, sights = oracle.history_of(everything())
    judged = judge_history(first, links_of(first, sights), [], rules)
    found = resolve_history(judged.members, rules)
    return (
        {token.hex(): "c" + customer.hex() for token, customer in found.customers.items()},
        {
            (one.hex(), other.hex()): str(verdict.reason)
            for (one, other), verdict in (judged.refused | found.refused).items()
        },
    )


def test_every_record_is_one_touchpoint(decided: Seen) -> None:
    assert len(decided.touchpoints) == 2 * len(ORDERS) * (1_000 + 5_000)


@pytest.mark.parametrize(("dataset", "customers"), [(1, 550), (3, 2_291)])
def test_national_ids_alone_give_a_customer_each_in_any_order(
    decided: Seen, dataset: int, customers: int
) -> None:
    found = [len(decided.customers(order)) for order in orders(names=False, dataset=dataset)]
    assert found == [customers] * len(ORDERS)


@pytest.mark.parametrize("dataset", SETS)
def test_any_order_gives_the_same_customers(decided: Seen, dataset: int) -> None:
    assert len({decided.partition(order) for order in orders(names=True, dataset=dataset)}) == 1


def test_customers_and_refused_links_are_what_resolve_says_of_everything(decided: Seen) -> None:
    customers, refused = resolved(default_rules())
    assert decided.identities == customers
    assert decided.refused == refused


@pytest.mark.parametrize("dataset", SETS)
def test_no_customer_has_two_national_ids(decided: Seen, dataset: int) -> None:
    for order in orders(names=True, dataset=dataset):
        owners = Counter(
            decided.identities[token]
            for token, (kind, _) in named_tokens(order).items()
            if kind == "national_id"
        )
        assert set(owners.values()) == {1}


@pytest.mark.parametrize("dataset", SETS)
def test_links_between_two_customers_are_refused_with_a_reason_the_same_in_any_order(
    decided: Seen, dataset: int
) -> None:
    in_each_order = set()
    for order in orders(names=True, dataset=dataset):
        names = named_tokens(order)
        refused = {pair: why for pair, why in decided.refused.items() if pair[0] in names}
        apart = {
            (one, other)
            for one, other in links(order)
            if decided.identities[one] != decided.identities[other]
        }
        assert refused == dict.fromkeys(apart, "unique")
        in_each_order.add(frozenset(frozenset((names[a], names[b])) for a, b in apart))
    assert len(in_each_order) == 1
    assert in_each_order != {frozenset()}


@pytest.mark.parametrize(
    ("dataset", "customers", "recall"), [(1, 529, "0.942"), (3, 2_148, "0.926583")]
)
def test_rules_without_limits_join_what_is_there_in_any_order_and_nobody_wrongly(
    decided_again: Seen, dataset: int, customers: int, recall: str
) -> None:
    person = {record.rec_id: record.person for record in records(dataset)}
    pairs = sum(n * (n - 1) // 2 for n in Counter(person.values()).values())
    for order in orders(names=True, dataset=dataset):
        found = decided_again.customers(order)
        together = [
            person[one] == person[other]
            for rec_ids in found.values()
            for one, other in combinations(rec_ids, 2)
        ]
        assert len(found) == customers
        assert all(together)
        assert f"{len(together) / pairs:.{len(recall) - 2}f}" == recall


def test_rules_without_limits_leave_no_link_refused(decided_again: Seen) -> None:
    customers, refused = resolved(parse_rules(FREE_RULES, "rules.toml"))
    assert refused == {}
    assert decided_again.refused == {}
    assert decided_again.identities == customers
