"""The demo's touchpoints: real purchases, seeded journeys, and the totals they must come to."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import islice
from random import Random

import pytest

from touchstream.agents.facts import event_of, ten_thousandths
from touchstream.agents.identifiers import normalise
from touchstream.agents.identity_messages import Touch
from touchstream.agents.ingest import COMMON, handling_ms
from touchstream.agents.measures import Measures, member
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.demo import cdnow
from touchstream.streams.demo.diary import BEGIN_MS, END_MS, Occurrence
from touchstream.streams.demo.expected import Expected
from touchstream.streams.demo.groups import Groups, one_spelling
from touchstream.streams.demo.journeys import journeys
from touchstream.streams.demo.live import trickle
from touchstream.streams.demo.measured import MEASURES, METRICS
from touchstream.streams.demo.people import PHONE_SPELLINGS, Person, phone
from touchstream.streams.demo.run import Plan, tell
from touchstream.streams.validation import validate_touchpoint


@pytest.fixture(scope="module")
def story() -> list[Occurrence]:
    return [*tell(Plan()).occurrences]


@pytest.fixture(scope="module")
def expected(story: list[Occurrence]) -> Expected:
    totals = Expected()
    for occurrence in story:
        totals.add(occurrence)
    return totals


def test_cdnow_comes_to_its_published_totals(expected: Expected) -> None:
    orders = expected.orders_by_customer
    assert len(orders) == cdnow.CUSTOMERS == 23_570
    assert orders.total() == cdnow.ORDERS == 69_659
    assert expected.revenue == cdnow.REVENUE
    assert sum(number >= 2 for number in orders.values()) == cdnow.REPEAT_CUSTOMERS == 11_662


def test_cdnow_lines_that_are_equal_are_orders_of_their_own() -> None:
    purchases = [*cdnow.purchases()]
    contents = Counter(
        (p.customer, p.occurred_at // 86_400_000, p.units, p.dollars) for p in purchases
    )
    assert contents.total() - len(contents) == 255
    assert len({cdnow.touchpoint(p)["event_id"] for p in purchases}) == len(purchases)


def test_an_order_stays_on_its_day() -> None:
    for number in range(0, 70_000, 97):
        at = datetime.fromtimestamp(cdnow.moment("19980630", number) / 1000, UTC)
        assert at.date().isoformat() == "1998-06-30"


def test_the_story_is_told_in_event_time_order_and_within_its_period(
    story: list[Occurrence],
) -> None:
    times = [occurrence.occurred_at for occurrence in story]
    assert times == sorted(times)
    assert times[0] >= BEGIN_MS
    assert times[-1] < END_MS


def test_the_story_has_the_length_it_says() -> None:
    told = tell(Plan(people=50, visitors=10))
    assert told.length == sum(1 for _ in told.occurrences)


def test_every_touchpoint_is_valid(story: list[Occurrence]) -> None:
    for channel, _, touchpoint in story:
        validate_touchpoint(channel, touchpoint)


def test_event_ids_are_unique_within_their_channel(story: list[Occurrence]) -> None:
    assert len({(o.channel, o.touchpoint["event_id"]) for o in story}) == len(story)


def test_there_are_enough_journeys_on_every_channel(expected: Expected) -> None:
    around = expected.by_channel.copy()
    del around["purchase"]
    assert 25_000 <= around.total() <= 36_000
    assert {"web", "chat", "phone", "social", "survey", "email", "in_person"} == {*around}


def test_the_same_seed_tells_the_same_journeys() -> None:
    purchases = [*cdnow.purchases()]
    one, other, third = (journeys(Random(seed), purchases, people=80) for seed in (7, 7, 8))
    assert one == other
    assert one != third


def test_no_two_people_share_an_identifier(story: list[Occurrence]) -> None:
    people = defaultdict(set)
    for occurrence in story:
        platform = occurrence.touchpoint.get("platform")
        for identifier in occurrence.touchpoint["identifiers"]:
            people[one_spelling(platform, identifier)].add(occurrence.person)
    assert {len(owners) for owners in people.values()} == {1}


def test_stitching_joins_cookies_to_customers_and_leaves_some_unknown(expected: Expected) -> None:
    groups = expected.groups
    assert cdnow.CUSTOMERS < groups.count < groups.identifiers - 3_000
    named = {groups.find(known) for known in groups if known[0] == "crm_id"}
    assert len(named) == cdnow.CUSTOMERS


def test_every_kind_of_identifier_becomes_known_for_some_and_stays_unknown_for_others(
    expected: Expected,
) -> None:
    groups = expected.groups
    named = {groups.find(known) for known in groups if known[0] == "crm_id"}
    fates = {(kind, groups.find((kind, value)) in named) for kind, value in groups}
    for kind in ("anonymous_id", "phone", "mastodon handle"):
        assert {(kind, True), (kind, False)} <= fates


def test_the_example_has_many_channels(expected: Expected, story: list[Occurrence]) -> None:
    customer = expected.customer_of(expected.example())
    shown = [
        o for o in story if expected.customer_of((o.channel, o.touchpoint["event_id"])) == customer
    ]
    assert len({occurrence.channel for occurrence in shown}) >= 6
    assert len(shown) < 60


def test_phone_spellings_normalise_to_one_number() -> None:
    area, line = phone(1234)
    spelled = {text.format(area=area, line=line) for text in PHONE_SPELLINGS}
    assert {normalise("phone", text, "US") for text in spelled} == {f"+1{area}555{line}"}
    assert len(spelled) == len(PHONE_SPELLINGS)


def test_spellings_of_a_person_normalise_as_the_agents_do() -> None:
    person = Person("1", "1", "Ann.Lee@example.com", (), ("220", "0101"), "Ann_Lee")
    rng = Random(1)
    for spell in (person.email, person.number, person.screen_name):
        written = [spell(rng) for _ in range(40)]
        assert len({i["value"] for i in written}) > 1
        assert len({normalise(i["kind"], i["value"], "US") for i in written}) == 1
        assert len({one_spelling("x", i) for i in written}) == 1


def test_groups_join_in_any_order() -> None:
    links = [[("a", str(n)), ("a", str(n + 1))] for n in range(50)]
    for seed in range(5):
        groups = Groups()
        for link in Random(seed).sample(links, len(links)):
            groups.join(link)
        assert (groups.count, groups.identifiers) == (1, 51)


def test_metrics_are_expected_as_the_agents_measure_them(
    expected: Expected, story: list[Occurrence]
) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    measures = Measures(load_catalogue())
    metrics = {MEASURES.get(metric, metric): metric for metric in METRICS}
    for channel, _, touchpoint in story:
        event = event_of(_touch(channel, touchpoint))
        for measure, value in measures.of(event):
            if measure in metrics:
                counts[metrics[measure], member(event)] += 1
                sums[metrics[measure], member(event)] += value
    assert counts == expected.whole_period.counts
    assert sums == expected.whole_period.sums
    assert sums["revenue", "purchase"] == ten_thousandths(float(cdnow.REVENUE))


def _touch(channel: str, touchpoint: dict[str, object]) -> Touch:
    fields = {name: value for name, value in touchpoint.items() if name not in COMMON}
    fields["handle_ms"] = handling_ms(channel, fields)
    at = touchpoint["occurred_at"]
    assert isinstance(at, int)
    event_id, action = str(touchpoint["event_id"]), str(touchpoint["action"])
    times_and_names = (at, 0, action, None, None, None, None)
    return Touch("", False, [], channel, event_id, *times_and_names, {}, {}, fields)


def test_the_trickle_is_valid_happens_now_and_adds_other_customers() -> None:
    now = iter(range(1_800_000_000, 1_900_000_000))
    happening = [*islice(trickle(Random(3), lambda: next(now)), 2_000)]
    for occurrence in happening:
        validate_touchpoint(occurrence.channel, occurrence.touchpoint)
    times = [occurrence.occurred_at for occurrence in happening]
    assert times == [1000 * (1_800_000_000 + n) for n in range(2_000)]
    assert {occurrence.person[:5] for occurrence in happening} == {"live-"}
    assert len({(o.channel, o.touchpoint["event_id"]) for o in happening}) == 2_000
    assert {o.channel for o in happening} >= {"web", "purchase", "chat", "phone", "survey"}
