"""Rules of the journey: mistakes are named by line and key; the shipped ones lead everywhere."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from touchstream.agents.customer_messages import Answer, Event
from touchstream.agents.journey import Journey
from touchstream.agents.journey_rules import (
    LAPSED,
    NEW,
    Evidence,
    JourneyRules,
    Stage,
    load_journey,
    parse_journey,
)
from touchstream.agents.ledger import Ledger
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.topics import DAY_MS
from touchstream.streams.validation import SCALES

SHIPPED = load_journey()
TEXT = """\
session_gap_minutes = 5
lapsed_after_days = 10
[stages]
look = { rank = 1, cycle = "buy" }
own = { rank = 2, cycle = "own" }
[[evidence]]
stage = "own"
on = ["purchase.placed", "web.signed_up"]
from = ["look", "new"]
[[evidence]]
stage = "look"
on = ["web.signed_up"]
times = 2
[[evidence]]
stage = "own"
on = ["survey.answered"]
question = "nps"
score = 9
"""


def parsed(text: str = TEXT) -> JourneyRules:
    return parse_journey(text, "j.toml")


def test_rules_say_what_their_file_says() -> None:
    found = parsed()
    assert (found.session_gap, found.lapsed_after) == (5 * 60_000, 10 * DAY_MS)
    assert found.stages == {"look": Stage(1, "buy"), "own": Stage(2, "own")}
    own = Evidence(0, "own", frozenset(("look", NEW)), 1, None, 0, None, None)
    look = Evidence(1, "look", None, 2, None, 0, None, None)
    assert found.evidence["web", "signed_up"] == (own, look)
    assert found.evidence["purchase", "placed"] == (own,)


def test_numbers_that_are_left_out_are_the_usual_ones() -> None:
    found = parsed()
    assert found.repeat_contact == 7 * DAY_MS
    assert found.attribution == 30 * DAY_MS
    assert found.churn_gap_days == 90


def test_lapsed_and_new_customers_have_no_rank() -> None:
    found = parsed()
    assert (found.rank("own"), found.rank(LAPSED), found.rank("")) == (2, None, None)
    assert (found.cycle("own"), found.cycle(LAPSED)) == ("own", LAPSED)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lapsed_after_days", "lapsed_days", "2: lapsed_days is unknown: did you mean lapsed_aft"),
        ("minutes = 5", "minutes = 0", "1: session_gap_minutes must be a whole number from 1 to"),
        ("days = 10", "days = 1.5", "2: lapsed_after_days must be a whole number from 1 to 3660"),
        ("days = 10", "days = true", "2: lapsed_after_days must be a whole number from 1 to 3660"),
        ("own = {", "lapsed = {", "5: stages.lapsed is a stage that has its own meaning"),
        ("own = {", "new = {", "5: stages.new is a stage that has its own meaning"),
        ("own = {", "own = 3 # {", "5: stages.own must be a table, is 3"),
        ("rank = 2, ", "", "5: stages.own.rank is missing: a whole number from 0 to 100"),
        ("rank = 2", "tank = 2", "5: stages.own.tank is unknown: did you mean rank?"),
        ('cycle = "own"', 'cycle = "use"', "5: stages.own.cycle must be one of buy, own, advocate"),
        (', cycle = "own"', "", "5: stages.own.cycle is missing: one of buy, own, advocate"),
        ('stage = "look"', 'stage = "see"', "11: evidence[1].stage must be one of look, own, is "),
        ('stage = "look"\n', "", "10: evidence[1].stage is missing: one of look, own"),
        ('["look", "new"]', '["lock"]', "9: evidence[0].from must hold some of new, lapsed, look"),
        ('["purchase.placed", ', '["fax.sent", ', "8: evidence[0].on holds 'fax.sent', which is"),
        ('["purchase.placed", ', '["purchase", ', "8: evidence[0].on holds 'purchase', which is"),
        ('["purchase.placed", ', '["purchase.", ', "8: evidence[0].on holds 'purchase.', which"),
        ("times = 2", "times = 0", "13: evidence[1].times must be a whole number from 1 to 1000"),
        ("times = 2", "time = 2", "13: evidence[1].time is unknown: did you mean times?"),
        ('question = "nps"', "question = 3", "17: evidence[2].question must be a text, is 3"),
        ("score = 9", 'score = "9"', '18: evidence[2].score must be a number, is "9"'),
        ("[stages]", "[steps]", "3: steps is unknown: did you mean stages?"),
        ("[[evidence]]\nstage", "[evidence]\nstage", "10: not valid TOML"),
    ],
)
def test_mistake_is_named_by_line_and_key(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigurationError) as raised:
        parsed(TEXT.replace(old, new, 1))
    assert str(raised.value).startswith(f"j.toml:{message}")


def test_rules_without_stages_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="^j.toml:1: stages is missing"):
        parsed("session_gap_minutes = 5\n")


def test_rules_of_a_file_are_read_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(ConfigurationError, match="journey file .*mine.toml: "):
        load_journey(path)
    path.write_text(TEXT, encoding="utf-8")
    assert load_journey(path) == parsed()


def after(events: Iterable[Event], rules: JourneyRules = SHIPPED) -> str:
    """Stage of a customer that saw these events."""
    journey, ledger = Journey(), Ledger()
    for event in events:
        journey.see(event, rules, ledger)
    return journey.stage


def event(kind: str, at: int, score: float = 9, sentiment: float = 0.5) -> Event:
    channel, _, action = kind.partition(".")
    answer = Answer("nps", score, *SCALES["nps"]) if kind == "survey.answered" else None
    return Event(at, channel, action, sentiment=sentiment, rating=score / 2, answer=answer)


FIRST = {
    "consider": "email.opened",
    "evaluate": "web.prices_viewed",
    "purchase": "purchase.placed",
    "enjoy": "purchase.placed phone.ended",
    "advocate": "social.shared",
    "bond": "purchase.renewed",
}
"""The shortest way to each stage."""

RULES = [
    (kind, rule, origin)
    for kind, rules in SHIPPED.evidence.items()
    for rule in rules
    for origin in sorted(rule.origins or (NEW, *SHIPPED.stages))
    if origin != LAPSED
]


@pytest.mark.parametrize(("kind", "rule", "origin"), RULES)
def test_every_shipped_rule_leads_from_the_stages_it_names(
    kind: tuple[str, str], rule: Evidence, origin: str
) -> None:
    """Once more than it says when it counts, as the first one may lead to an earlier stage."""
    times = rule.times + (rule.times > 1)
    way = [*FIRST.get(origin, "").split(), *[".".join(kind)] * times]
    earlier = {each.stage for each in SHIPPED.evidence[kind] if each.number < rule.number}
    assert after(event(each, at) for at, each in enumerate(way)) in {rule.stage, *earlier}


@pytest.mark.parametrize("stage", SHIPPED.stages)
def test_every_shipped_stage_has_a_way_that_leads_to_it(stage: str) -> None:
    assert after(event(kind, at) for at, kind in enumerate(FIRST[stage].split())) == stage


@pytest.mark.parametrize("stage", SHIPPED.stages)
def test_customer_of_every_shipped_stage_lapses_and_comes_back(stage: str) -> None:
    way = [event(kind, at) for at, kind in enumerate(FIRST[stage].split())]
    late = way[-1].occurred_at + SHIPPED.lapsed_after + 1
    assert after([*way, event("email.sent", late)]) == LAPSED
    assert after([*way, event("email.opened", late)]) == "consider"


@pytest.mark.parametrize(
    ("score", "sentiment", "stage"), [(9, 0.0, "advocate"), (8, 0.0, ""), (8, 0.05, "")]
)
def test_answer_counts_from_its_score(score: float, sentiment: float, stage: str) -> None:
    assert after([event("survey.answered", 0, score, sentiment)]) == stage


def test_answer_without_a_score_fits_no_rule_about_scores() -> None:
    nothing = Event(0, "survey", "answered", answer=Answer("nps", None, 0, 10))
    assert after([nothing]) == ""


def test_touchpoint_that_a_rule_has_counted_in_vain_may_fit_the_next_one() -> None:
    rules = parsed(TEXT + '[[evidence]]\nstage = "own"\non = ["web.signed_up"]\nfrom = ["look"]\n')
    assert after([event("web.signed_up", 0)], rules) == "own"
    bare = parsed(TEXT.replace('from = ["look", "new"]', 'from = ["look"]'))
    assert after([event("web.signed_up", 0)], bare) == ""
    assert after([event("web.signed_up", at) for at in (0, 1)], bare) == "look"
