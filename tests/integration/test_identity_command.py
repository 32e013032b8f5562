"""The commands about identities, called as an operator calls them, over tables filled by hand."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from stacks import broker_alone
from typer.testing import CliRunner, Result

from touchstream.agents.identifiers import identity_token
from touchstream.agents.identity_commands import WholeStore, dry_run_of, explain_two
from touchstream.agents.operations import Operation, SetMark, SetRules, SetWord, decode_operation
from touchstream.schemas import load_identity_rules_text
from touchstream.streams.cli import app, identity_rules, identity_words
from touchstream.streams.clickhouse import connect
from touchstream.streams.identity_store import IdentityStore
from touchstream.streams.migrations import migrate
from touchstream.streams.operations_log import publish_operation
from touchstream.streams.settings import LOCAL_IDENTITY_KEY, Settings
from touchstream.streams.table import Table
from touchstream.streams.tables import (
    CHANGES,
    FACTS,
    IDENTITIES,
    LINKS,
    MARKS,
    REFUSED,
    RULES,
    TABLES,
    WORDS,
)

pytestmark = pytest.mark.integration

DEFAULT_RULES = Path(__file__).parents[2] / "schemas" / "identity.toml"
NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
COMMANDS = [
    ("show",),
    ("explain",),
    ("deny",),
    ("allow",),
    ("share",),
    ("unshare",),
    ("refused",),
    ("dry-run",),
    ("rules", "check"),
    ("rules", "apply"),
    ("rules", "show"),
]
Who = tuple[str, str]
"""Kind and value of an identifier."""
ANN, ANN_PHONE, COOKIE = ("email", "ann@example.com"), ("phone", "+14155550100"), ("cookie", "b7f1")
BOB, FIRST, SECOND = ("email", "bob@example.com"), ("crm_id", "4711"), ("crm_id", "815")
KIOSK = ("phone", "+14155550199")


def token(who: Who) -> str:
    return identity_token(*who, Settings(identity_key=LOCAL_IDENTITY_KEY))


def customer(who: Who) -> str:
    return "c" + token(who)


def identity_of(who: Who, of: Who, seen: int) -> dict[str, Any]:
    row = {"identity": token(who), "kind": who[0], "customer_id": customer(of)}
    return row | {"first_seen_at": NOON + seen, "version": seen + 1}


def sight_of(one: Who, other: Who, at: int, **how: Any) -> dict[str, Any]:
    ends = {"identity": token(one), "other": token(other)}
    kinds = {"kind": one[0], "other_kind": other[0]}
    how = {"channel": "web", "verified": False, "other_verified": False, **how}
    row = {**ends, **kinds, **how, "seen_at": NOON + at, "event_id": f"touch-{at}"}
    return row | {"precedence": (1 << 63) - NOON - at}


class Tables:
    """Fills tables; what is not given is empty."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, table: Table, *rows: dict[str, Any]) -> None:
        names = [name for name, _ in table.columns if name in rows[0]]
        kinds = [kind for name, kind in table.columns if name in rows[0]]
        values = [[row[name] for name in names] for row in rows]
        self.client.insert(table.name, values, column_names=names, column_type_names=kinds)

    def identity(self, who: Who, of: Who, seen: int = 0) -> None:
        self.put(IDENTITIES, identity_of(who, of, seen))

    def link(self, one: Who, other: Who, at: int, **how: Any) -> None:
        self.put(LINKS, sight_of(one, other, at, **how))

    def word(self, one: str, other: str, allow: bool, number: int) -> None:
        low, high = sorted((one, other))
        row = {"identity": low, "other": high, "allow": allow, "operator": "ann", "note": "said"}
        self.put(WORDS, row | {"said_at": NOON, "number": number})


@pytest.fixture(scope="module")
def migrated(clickhouse_url: str) -> Iterator[Settings]:
    """Migrate one database for all tests."""
    database = f"test_{uuid4().hex[:12]}"
    settings = Settings(clickhouse_url=clickhouse_url, clickhouse_database=database)
    migrate(settings)
    yield settings
    client = connect(settings, database="default", dedicated_pool=True)
    client.command(f"DROP DATABASE {database}")
    client.close()


@pytest.fixture
def settings(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_URL", migrated.clickhouse_url)
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_DATABASE", migrated.clickhouse_database)
    monkeypatch.setenv("TOUCHSTREAM_IDENTITY_KEY", LOCAL_IDENTITY_KEY)
    monkeypatch.setenv("USER", "ann")
    return migrated


@pytest.fixture
def tables(settings: Settings) -> Iterator[Tables]:
    """Ann, with three identities; Bob, whose address two numbers of the CRM share."""
    client = connect(settings, dedicated_pool=True)
    tables = Tables(client)
    for seen, who in enumerate((ANN, ANN_PHONE, COOKIE)):
        tables.identity(who, ANN, seen)
    tables.identity(FIRST, FIRST, 3)
    tables.identity(BOB, FIRST, 4)
    tables.identity(SECOND, SECOND, 5)
    tables.link(ANN_PHONE, ANN, 20, channel="chat")
    tables.link(ANN, COOKIE, 10, verified=True, other_verified=True)
    tables.link(ANN, COOKIE, 30)
    tables.link(FIRST, BOB, 40)
    tables.link(SECOND, BOB, 50)
    refusal = {"reason": "unique", "detail": "crm_id", "decided_at": NOON + 60, "version": 1}
    for who, other in ((BOB, SECOND), (SECOND, BOB)):
        ends = {"identity": token(who), "other": token(other), "kind": who[0]}
        tables.put(REFUSED, {**ends, **refusal, "is_deleted": 0})
    yield tables
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {table.name}")
    client.close()


@pytest.fixture
def busy(tables: Tables) -> Tables:
    """A kiosk's number that 51 people gave; by default 50 may share a phone."""
    guests = [("email", f"guest-{number}@example.com") for number in range(51)]
    tables.put(IDENTITIES, *[identity_of(who, who, 7) for who in (KIOSK, *guests)])
    tables.put(LINKS, *[sight_of(who, KIOSK, 100 + n) for n, who in enumerate(guests)])
    return tables


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["identity", *arguments])


def right(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def wrong(*arguments: str, code: int = 1) -> str:
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def cells(output: str) -> list[list[str]]:
    """Lines of all tables, cell by cell."""
    lines = [line.split("│")[1:-1] for line in output.splitlines() if "│" in line]
    return [[cell.strip() for cell in line] for line in lines]


@pytest.mark.parametrize("who", ["email:Ann@Example.com", token(COOKIE), customer(ANN)])
def test_show_has_identities_links_and_changes(tables: Tables, who: str) -> None:
    change = {"identity": token(COOKIE), "version": 2, "kind": "cookie", "who": "web"}
    moved = {"former_customer_id": customer(COOKIE), "customer_id": customer(ANN)}
    times = {"changed_at": NOON + 2500, "caused_at": NOON, "cause": "touchpoint web/\x1b[31m1"}
    tables.put(CHANGES, {**change, **moved, **times})
    output = right("show", who)
    found = cells(output)
    assert [line[1] for line in found[:3]] == [token(ANN), token(ANN_PHONE), token(COOKIE)]
    ends = [["email", token(ANN), "cookie", token(COOKIE)]]
    low, high = sorted((ANN, ANN_PHONE), key=token)
    ends.append([low[0], token(low), high[0], token(high)])
    links = [line for line in found[3:] if len(line) == 7]
    assert sorted(sorted(line[:4]) for line in links) == sorted(sorted(line) for line in ends)
    assert [line[4] for line in links] == ["web", "chat"]
    assert [line[6] for line in links] == ["yes", ""]
    assert ["web", "2.5"] in [line[6:] for line in found if len(line) == 8]
    assert "\x1b" not in output


def test_show_has_refused_links_and_words(tables: Tables) -> None:
    tables.word(token(FIRST), token(SECOND), False, 3)
    found = cells(right("show", "crm_id:815"))
    assert [line[4:6] for line in found if "unique" in line] == [["unique", "crm_id"]]
    assert [line[2:5] for line in found if "said" in line] == [["not one customer", "ann", "said"]]


def test_an_identifier_is_read_by_the_rules_in_force(tables: Tables) -> None:
    text = load_identity_rules_text() + '[kinds.cookie]\npriority = 9\nnormaliser = "handle"\n'
    wrong("show", "cookie:@B7F1")
    tables.put(RULES, {"number": 4, "operator": "ann", "said_at": NOON, "text": text})
    assert token(COOKIE) in right("show", "Cookie:@B7F1")


@pytest.mark.parametrize("who", ["email:nobody@example.com", "nobody", "c00"])
def test_an_unknown_identity_is_one_line(tables: Tables, who: str) -> None:
    assert wrong("show", who).startswith(f"touchstream: no identity {who}")
    assert wrong("deny", who, "email:ann@example.com").startswith("touchstream: no identity")


def test_explain_shows_the_links_that_join(tables: Tables) -> None:
    output = right("explain", "phone:+1 415 555 0100", "cookie:b7f1")
    assert "are one customer" in output
    found = cells(output)
    assert [line[0:3:2] for line in found] == [["phone", "email"], ["email", "cookie"]]
    assert [line[4] for line in found] == ["chat/touch-20", "web/touch-10"]
    assert [line[6] for line in found] == ["", "yes"]
    assert "Note:" not in output


def test_explain_shows_the_refused_link_and_the_words(tables: Tables) -> None:
    tables.word(token(FIRST), token(SECOND), False, 3)
    output = right("explain", customer(FIRST), "crm_id:815")
    assert f"{customer(FIRST)}: its oldest identity is crm_id {token(FIRST)}" in output
    assert "are not one customer. Refused links lie between them" in output
    [line] = cells(output)
    assert line[4] == "denied"
    assert "ann said that" in output


def test_explain_says_when_nothing_leads_from_one_to_the_other(tables: Tables) -> None:
    assert "no link leads from one to the other" in right("explain", token(ANN), token(BOB))


def test_explain_knows_who_is_shared(busy: Tables) -> None:
    guests = "email:guest-1@example.com", "email:guest-50@example.com"
    output = right("explain", *guests)
    assert [line[4] for line in cells(output)] == ["shared", "shared"]
    assert f"phone {token(KIOSK)} is shared: it is linked to 51 others, 50 are allowed" in output
    assert "one of the two is linked to too many" in output


def test_explain_decides_by_the_rules_in_force(busy: Tables) -> None:
    text = load_identity_rules_text().replace("max_links = 50", "max_links = 51")
    busy.put(RULES, {"number": 4, "operator": "ann", "said_at": NOON, "text": text})
    output = right("explain", "email:guest-1@example.com", "email:guest-9@example.com")
    assert "are one customer" in output
    assert "the view identities shows two customers" in output


def test_the_store_reads_a_link_from_both_ends(tables: Tables) -> None:
    store = IdentityStore(tables.client)
    from_ann = [row[1:] for row in store.sorts_of_links([token(ANN)])]
    both = [("web", False, False), ("web", True, True)]
    chat = ("email", "phone", [("chat", False, False)], 1)
    assert sorted(from_ann) == [("email", "cookie", both, 1), chat]
    [from_cookie] = store.sorts_of_links([token(COOKIE)])
    assert from_cookie == (token(COOKIE), "cookie", "email", both, 1)
    assert len({*store.sights([token(COOKIE)])}) == 2


def test_the_store_takes_more_tokens_than_one_query_holds(tables: Tables) -> None:
    store = IdentityStore(tables.client)
    many = [token(ANN), *(f"{number:032x}" for number in range(2_500)), token(BOB)]
    assert {row[0] for row in store.identities(many)} == {token(ANN), token(BOB)}
    assert len({*store.sights(many)}) == 5
    assert [*store.words(many)] == []


def test_the_store_has_what_the_agents_ask_of_it(tables: Tables) -> None:
    store: WholeStore = IdentityStore(tables.client)
    assert explain_two(store, token(ANN), token(COOKIE)).together
    assert dry_run_of(store, load_identity_rules_text(), "rules.toml").moved == 0


def test_refused_links_are_listed(tables: Tables) -> None:
    [line] = cells(right("refused", "--reason", "unique"))
    assert {line[1], line[3]} == {token(BOB), token(SECOND)}
    assert json.loads(right("refused", "--format", "json", "--reason", "shared")) == []
    [row] = json.loads(right("refused", "--format", "json", "--limit", "5"))
    assert (row["reason"], row["detail"]) == ("unique", "crm_id")
    [header, row] = csv.reader(io.StringIO(right("refused", "--format", "csv")))
    assert header == ["kind", "identity", "other_kind", "other", "reason", "detail", "since"]


def test_a_reason_that_does_not_exist_is_refused(tables: Tables) -> None:
    assert "no reason why: choose one of channel, unverified" in wrong("refused", "--reason", "why")


class Workers:
    """Stand in for Kafka and the workers: take an operation and carry it out at once."""

    def __init__(self, tables: Tables) -> None:
        self.operations: list[Operation] = []
        self._tables = tables
        self.carry_out: Callable[[SetWord], None] = lambda word: None

    def publish(self, settings: Settings, value: bytes) -> int:
        operation = decode_operation(value)
        self.operations.append(operation)
        number = len(self.operations)
        said = {"operator": operation.operator, "said_at": NOON, "number": number}
        match operation:
            case SetRules():
                self._tables.put(RULES, {"text": operation.text, **said})
            case SetMark():
                mark = "shared" if operation.shared else ""
                self._tables.put(MARKS, {"identity": operation.identity, "mark": mark, **said})
            case SetWord():
                self._tables.word(operation.one, operation.other, operation.allow, number)
                self.carry_out(operation)
        return number


@pytest.fixture
def workers(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> Workers:
    workers = Workers(tables)
    for module in (identity_words, identity_rules):
        monkeypatch.setattr(module, "publish_operation", workers.publish)
    return workers


def test_deny_says_who_belongs_to_whom_now(tables: Tables, workers: Workers) -> None:
    workers.carry_out = lambda word: tables.identity(COOKIE, COOKIE, 9)
    output = right("deny", "email:ann@example.com", "cookie:b7f1", "--note", "two people")
    word = SetWord(token(ANN), token(COOKIE), False, "ann", "two people")
    assert workers.operations == [word]
    ends = f"email {token(ANN)} and cookie {token(COOKIE)}"
    assert f"{ends}: not one customer, operation 1" in output
    assert sorted(line[2] for line in cells(output)) == sorted([customer(ANN), customer(COOKIE)])
    assert "not so yet" not in output


def test_allow_by_customer_ids_is_about_their_oldest_identities(
    tables: Tables, workers: Workers
) -> None:
    workers.carry_out = lambda word: tables.identity(SECOND, FIRST, 9)
    names = ("--operator", "bob")
    output = right("allow", customer(FIRST), customer(SECOND), *names)
    assert workers.operations == [SetWord(token(FIRST), token(SECOND), True, "bob", "")]
    assert f"{customer(SECOND)}: its oldest identity is crm_id {token(SECOND)}" in output
    assert [line[2] for line in cells(output)] == [customer(FIRST)] * 2


def test_what_does_not_come_true_in_time_is_said(tables: Tables, workers: Workers) -> None:
    output = right("allow", token(FIRST), token(SECOND), "--wait", "0.01")
    assert "not so yet: `touchstream identity explain" in output


def test_a_word_that_no_worker_takes_is_one_line(
    tables: Tables, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_words, "publish_operation", lambda settings, value: 12)
    said = wrong("deny", token(ANN), token(COOKIE), "--wait", "0.01")
    assert "operation 12 is in the log, but no worker has carried it out yet" in said


def test_without_waiting_it_is_only_published(tables: Tables, workers: Workers) -> None:
    assert cells(right("deny", token(ANN), token(COOKIE), "--wait", "0")) == []


@pytest.mark.parametrize("other", ["email:ANN@example.com", customer(ANN)])
def test_a_word_on_one_identity_only_is_refused(
    tables: Tables, workers: Workers, other: str
) -> None:
    assert "are the same identity" in wrong("deny", token(ANN), other)
    assert workers.operations == []


def test_nobody_says_anything_without_a_name(
    tables: Tables, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USER")
    assert "--operator" in wrong("deny", token(ANN), token(COOKIE))
    assert workers.operations == []


def test_an_identity_that_is_shared_joins_no_one_until_it_is_unshared(
    tables: Tables, workers: Workers
) -> None:
    ends = token(ANN_PHONE), token(COOKIE)
    assert "belongs to many, operation 1" in right("share", "email:ann@example.com")
    assert workers.operations == [SetMark(token(ANN), True, "ann", "")]
    output = right("explain", *ends)
    assert [line[4] for line in cells(output)] == ["shared", "shared"]
    assert f"an operator marked email {token(ANN)} as shared" in output
    assert ["email", token(ANN), "shared", "ann"] in [
        line[:4] for line in cells(right("show", token(ANN)))
    ]
    report = json.loads(right("dry-run", str(DEFAULT_RULES), "--format", "json"))
    assert report["now"]["refused"] == report["then"]["refused"] == {"shared": 2, "unique": 1}
    assert "only if rules say so, operation 2" in right("unshare", token(ANN), "--note", "oh")
    assert "are one customer" in right("explain", *ends)


def test_a_mark_that_no_worker_takes_is_one_line(
    tables: Tables, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_words, "publish_operation", lambda settings, value: 12)
    assert "operation 12 is in the log" in wrong("share", token(ANN), "--wait", "0.01")


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    """Numbers of the CRM need not be unique, but a link to a cookie must be verified."""
    text = load_identity_rules_text().replace("unique = true\n", "")
    file = tmp_path / "rules.toml"
    file.write_text(text + "\n[kinds.cookie]\npriority = 10\nverified_only = true\n")
    return file


def test_a_file_of_rules_is_checked(rules_file: Path) -> None:
    output = right("rules", "check", str(rules_file))
    assert f"{rules_file}: right" in output.replace("\n", "")
    lines = {line[0]: line for line in cells(output)}
    assert (lines["cookie"][5], lines["email"][4]) == ("True", "10")


@pytest.mark.parametrize("command", [("rules", "check"), ("rules", "apply"), ("dry-run",)])
def test_a_wrong_file_is_one_line_with_its_place(
    tables: Tables, workers: Workers, rules_file: Path, command: tuple[str, ...]
) -> None:
    rules_file.write_text(rules_file.read_text().replace("priority = 60", "priority = true"))
    assert f"{rules_file}:" in (said := wrong(*command, str(rules_file), code=78))
    assert "kinds.email.priority must be a whole number" in said
    missing = str(rules_file.parent / "none.toml")
    assert f"cannot read {missing}" in wrong(*command, missing, code=78)
    assert workers.operations == []


def test_rules_are_applied_and_shown(tables: Tables, workers: Workers, rules_file: Path) -> None:
    default = call("rules", "show")
    assert default.stdout == load_identity_rules_text()
    assert "default rules" in default.stderr
    assert "rules 1 hold" in right("rules", "apply", str(rules_file), "--note", "kiosks")
    [operation] = workers.operations
    assert isinstance(operation, SetRules)
    assert (operation.text, operation.note) == (rules_file.read_text(), "kiosks")
    shown = call("rules", "show")
    assert shown.stdout == rules_file.read_text()
    assert "rules 1, applied by ann" in shown.stderr


def test_rules_that_no_worker_takes_are_one_line(
    tables: Tables, rules_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_rules, "publish_operation", lambda settings, value: 3)
    said = wrong("rules", "apply", str(rules_file), "--wait", "0.01")
    assert "operation 3 is in the log" in said


@pytest.fixture
def bought(tables: Tables) -> Tables:
    """Both numbers of the CRM bought, Ann called twice."""
    rows = []
    for number, (who, channel, action, value) in enumerate(
        (
            (FIRST, "purchase", "placed", 100_000),
            (SECOND, "purchase", "placed", 50_000),
            (SECOND, "purchase", "placed", None),
            (ANN, "phone", "ended", None),
            (ANN_PHONE, "phone", "ended", 70_000),
            (COOKIE, "web", "page_viewed", None),
        )
    ):
        row = {"identity": token(who), "channel": channel, "event_id": str(number)}
        rows.append({**row, "action": action, "value_e4": value, "precedence": 1})
    tables.put(FACTS, *rows)
    tables.put(FACTS, {**rows[0], "precedence": 0})
    return tables


def test_a_dry_run_says_what_would_change(bought: Tables, rules_file: Path) -> None:
    bought.link(ANN_PHONE, ("cookie", "never seen"), 70)
    report = json.loads(right("dry-run", str(rules_file), "--format", "json"))
    now, then = report["now"], report["then"]
    assert (report["identities"], report["behind"], report["moved"]) == (6, 0, 1)
    assert (now["refused"], then["refused"]) == ({"unique": 1}, {})
    assert (report["joined"], report["joined_into"], report["split"]) == (2, 1, 0)
    figures = now["figures"]
    assert (figures["customers"], figures["buyers"], figures["repeat_rate"]) == (3, 2, 0.5)
    assert (figures["revenue_per_buyer"], figures["contacts_per_customer"]) == (7.5, 0.6667)
    figures = then["figures"]
    assert (figures["customers"], figures["buyers"], figures["repeat_rate"]) == (2, 1, 1.0)
    assert (figures["revenue_per_buyer"], figures["contacts_per_customer"]) == (15.0, 1.0)


def test_a_dry_run_is_printed_for_people(bought: Tables, rules_file: Path) -> None:
    bought.identity(COOKIE, COOKIE, 9)
    bought.word(token(ANN), token(ANN_PHONE), False, 1)
    output = right("dry-run", str(rules_file))
    assert "2 customers would join, into 1" in output
    assert f"{customer(FIRST)} would join" in output
    assert ["repeat rate", "0.5", "1"] in cells(output)
    assert ["denied", "1", "1"] in cells(output)
    assert "Note: of 2 identities the view identities shows another customer" in output


def test_a_dry_run_changes_nothing(bought: Tables, rules_file: Path) -> None:
    counts = "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase()"
    before = bought.client.query(counts).result_rows
    right("dry-run", str(rules_file))
    assert bought.client.query(counts).result_rows == before


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of an embedded broker with all topics."""
    with broker_alone(tmp_path_factory.mktemp("broker"), None) as settings:
        yield settings


def test_operations_stand_in_one_partition_in_order(broker: Settings) -> None:
    numbers = [publish_operation(broker, value) for value in (b"first", b"second")]
    assert numbers == [1, 2]
    address = {"bootstrap.servers": broker.kafka_bootstrap_servers, "group.id": "reader"}
    consumer = Consumer(address)
    try:
        consumer.assign([TopicPartition("cx.operations", 0, OFFSET_BEGINNING)])
        found = [message.value() for message in consumer.consume(2, timeout=30)]
    finally:
        consumer.close()
    assert found == [b"first", b"second"]


def test_deny_publishes_to_kafka(
    tables: Tables, broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS", broker.kafka_bootstrap_servers)
    output = right("deny", token(ANN), token(COOKIE), "--wait", "0")
    assert "not one customer, operation" in output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example(command: tuple[str, ...]) -> None:
    example = right(*command, "--help").partition("Usage")[2].partition("xample")[2]
    assert f"touchstream identity {' '.join(command)}" in example


@pytest.mark.parametrize(
    "arguments",
    [("show", "x"), ("explain", "x", "y"), ("deny", "x", "y"), ("refused",), ("rules", "show")],
)
def test_an_unreachable_clickhouse_is_one_line_that_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in wrong(*arguments)


@pytest.mark.parametrize("arguments", [("show", "x"), ("refused",), ("rules", "show")])
def test_a_missing_database_says_migrate(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TOUCHSTREAM_CLICKHOUSE_DATABASE", "nowhere")
    assert "run `touchstream migrate`" in wrong(*arguments)
