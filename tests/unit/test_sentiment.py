"""Sentiment: what is judged, in which language, by which model, and what a failing model costs."""

import logging
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from touchstream.agents.facts import details
from touchstream.agents.identifiers import tokens_of
from touchstream.agents.identity_messages import Touch, decode_identity
from touchstream.agents.ingest import Ingest
from touchstream.agents.sentiment import (
    LONGEST_TEXT,
    MOST_EMOJIS,
    Scorer,
    SentimentModel,
    Vader,
    load_model,
    primary_language,
)
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.effects import Effects
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.internal import unframe
from touchstream.streams.records import Record
from touchstream.streams.settings import Settings
from touchstream.streams.stage import Outcome, run_chunk
from touchstream.streams.topics import CHANNELS, touchpoint_topic

NOW_MS = 1_700_000_000_000
VADER = Vader()
CODEC = TouchpointCodec(max_payload_bytes=1 << 20)


class Fixed:
    """A model that gives every text one score, and remembers the texts."""

    name = "fixed"
    version = "7"

    def __init__(self, score: Any = 0.5, languages: Collection[str] = ("en", "de-AT")) -> None:
        self.languages = languages
        self.texts: list[str] = []
        self._score = score

    def score(self, text: str) -> float:
        self.texts.append(text)
        if isinstance(self._score, Exception):
            raise self._score
        score: float = self._score
        return score


ADDED = {"sentiment": 0.5, "sentiment_model": "fixed 7"}


def effects() -> Effects:
    return Effects(source=1, partitions=1)


def added(
    channel: str,
    fields: dict[str, Any],
    locale: str | None = "en-US",
    model: SentimentModel | None = None,
) -> dict[str, Any]:
    return Scorer(model or Fixed()).added(channel, fields, locale, effects())


DOCUMENTED = [
    ("VADER is smart, handsome, and funny.", 0.8316),
    ("VADER is smart, handsome, and funny!", 0.8439),
    ("VADER is very smart, handsome, and funny.", 0.8545),
    ("VADER is VERY SMART, handsome, and FUNNY.", 0.9227),
    ("VADER is VERY SMART, handsome, and FUNNY!!!", 0.9342),
    ("VADER is VERY SMART, uber handsome, and FRIGGIN FUNNY!!!", 0.9469),
    ("VADER is not smart, handsome, nor funny.", -0.7424),
    ("The book was good.", 0.4404),
    ("At least it isn't a horrible book.", 0.431),
    ("The book was only kind of good.", 0.3832),
    (
        "The plot was good, but the characters are uncompelling and the dialog is not great.",
        -0.7042,
    ),
    ("Today SUX!", -0.5461),
    ("Today only kinda sux! But I'll get by, lol", 0.5249),
    ("Make sure you :) or :D today!", 0.8633),
    ("Catch utf-8 emoji such as such as 💘 and 💋 and 😁", 0.875),
    ("Not bad at all", 0.431),
]
"""The examples in the README of vaderSentiment, with its compound scores."""


@pytest.mark.parametrize(("text", "score"), DOCUMENTED)
def test_vader_scores_as_its_readme_says(text: str, score: float) -> None:
    assert VADER.score(text) == score


def test_vader_gives_the_same_score_however_often_it_is_asked() -> None:
    scores = {(text, VADER.score(text)) for _ in range(3) for text, _ in reversed(DOCUMENTED)}
    assert scores == set(DOCUMENTED)


def test_score_says_which_model_it_is_from() -> None:
    found = added("social", {"text": "The book was good."}, model=VADER)
    assert found == {"sentiment": 0.4404, "sentiment_model": "vader 3.3.2"}


JUDGED: list[tuple[str, dict[str, Any]]] = [
    ("social", {"text": "x"}),
    ("chat", {"text": "x"}),
    ("chat", {"text": "x", "author": "customer"}),
    ("chat", {"text": "x", "author": "Customer "}),
    ("chat", {"text": "x", "author": "customer", "direction": "outbound"}),
    ("chat", {"text": "x", "direction": "inbound"}),
    ("survey", {"comment": "x"}),
]
NOT_JUDGED: list[tuple[str, dict[str, Any]]] = [
    ("social", {}),
    ("social", {"text": ""}),
    ("social", {"text": " \n"}),
    ("chat", {"text": "x", "author": "agent"}),
    ("chat", {"text": "x", "author": "bot"}),
    ("chat", {"text": "x", "direction": "outbound"}),
    ("chat", {"comment": "x"}),
    ("survey", {"text": "x"}),
    *(
        (channel, {"text": "x", "comment": "x", "author": "customer"})
        for channel in CHANNELS
        if channel not in ("social", "chat", "survey")
    ),
]


@pytest.mark.parametrize(("channel", "fields"), JUDGED)
def test_what_the_customer_wrote_is_judged(channel: str, fields: dict[str, Any]) -> None:
    assert added(channel, fields) == ADDED


@pytest.mark.parametrize(("channel", "fields"), NOT_JUDGED)
def test_nothing_else_is_judged(channel: str, fields: dict[str, Any]) -> None:
    assert added(channel, fields) == {}


@pytest.mark.parametrize("given", [0.0, -1.0, 0.25])
def test_given_sentiment_is_kept(given: float) -> None:
    model = Fixed()
    assert added("social", {"text": "x", "sentiment": given}, model=model) == {}
    assert model.texts == []


@pytest.mark.parametrize("tag", ["en", "EN", "en-US", "en_GB", "en_GB.UTF-8", "de", "DE-ch"])
def test_known_language_is_judged(tag: str) -> None:
    assert added("survey", {"comment": "x"}, locale=tag) == ADDED


@pytest.mark.parametrize("tag", [None, "", " ", "und", "fr", "eng", "x-en", "e", "-en"])
def test_language_that_is_not_known_is_not_judged(tag: str | None) -> None:
    assert added("survey", {"comment": "x"}, locale=tag) == {}


def test_language_of_the_text_comes_before_the_locale() -> None:
    assert added("social", {"text": "x", "language": "fr"}, locale="en-US") == {}
    assert added("social", {"text": "x", "language": "en"}, locale="fr-FR") == ADDED


@pytest.mark.parametrize(("tag", "primary"), [("zh-Hant-TW", "zh"), (" Pt_br ", "pt"), (None, "")])
def test_primary_language(tag: str | None, primary: str) -> None:
    assert primary_language(tag) == primary


WRONG = [
    float("nan"),
    float("inf"),
    1.0001,
    -2,
    None,
    "good",
    ValueError("secret"),
    RecursionError(),
]


@pytest.mark.parametrize("score", WRONG, ids=repr)
def test_failing_model_costs_the_score_and_is_counted(score: Any) -> None:
    found = effects()
    fields = {"text": "x"}
    assert Scorer(Fixed(score)).added("social", fields, "en", found) == {}
    assert found.counts == {("sentiment_failed", ""): 1}
    assert fields == {"text": "x"}


@pytest.mark.parametrize("score", [-1, 0, 1, -1.0, 1.0])
def test_ends_of_the_scale_are_scores(score: float) -> None:
    found = added("social", {"text": "x"}, model=Fixed(score))["sentiment"]
    assert (found, type(found)) == (score, float)


def test_failing_model_is_logged_once_and_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scorer, found = Scorer(Fixed(ValueError("my secret"))), effects()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            scorer.added("social", {"text": "my secret"}, "en", found)
    assert found.counts == {("sentiment_failed", ""): 3}
    (line,) = caplog.messages
    assert "fixed 7" in line
    assert "ValueError" in line
    assert "secret" not in line


def test_long_text_is_judged_by_its_beginning() -> None:
    model = Fixed()
    added("social", {"text": "a" * LONGEST_TEXT + "b"}, model=model)
    assert model.texts == ["a" * LONGEST_TEXT]


def test_emojis_are_read_up_to_a_number() -> None:
    few = "🥰" * MOST_EMOJIS
    assert VADER.score("good " + few + "🥰" + " horrible" * 50) == VADER.score("good " + few)
    assert VADER.score(few) > 0.99


@pytest.mark.parametrize(
    "unit", ["🥰", "😹 ", ":) ", "but :) ", "GOOD!! ", "never so ", "\x00", "a"]
)
def test_text_made_to_be_slow_takes_no_second(unit: str) -> None:
    started = time.perf_counter()
    added("social", {"text": "🥰" * MOST_EMOJIS + unit * 100_000}, model=VADER)
    assert time.perf_counter() - started < 1


def test_none_is_no_model() -> None:
    assert load_model("none") is None


def test_vader_is_a_model() -> None:
    model = load_model("vader")
    assert model is not None
    assert (model.name, model.version, *model.languages) == ("vader", "3.3.2", "en")


def test_vader_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(ConfigurationError, match=r"pip install touchstream\[sentiment\]"):
        load_model("vader")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's, by the name `my_models`."""
    module = ModuleType("my_models")
    monkeypatch.setitem(sys.modules, "my_models", module)
    return module


def test_own_model_is_taken_by_its_name(mine: ModuleType) -> None:
    vars(mine)["model"] = Fixed(0.5)
    model = load_model("my_models:model")
    assert model is vars(mine)["model"]
    assert added("social", {"text": "x"}, model=model) == ADDED


@pytest.mark.parametrize("name", ["auto", "Vader", "", ":", "my_models", "my_models:", ":model"])
def test_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must be none, vader or module:attribute"):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:model", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("my_models:nothing", "AttributeError: .*nothing"),
    ],
)
def test_own_model_that_is_not_there_is_refused(mine: ModuleType, name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}, which cannot be loaded .{said}"):
        load_model(name)


def test_model_of_the_docs_is_a_model(mine: ModuleType) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sentiment.md").read_text(encoding="utf-8")
    exec(page.partition("```py\n")[2].partition("```")[0], vars(mine))
    model = load_model("my_models:model")
    assert added("survey", {"comment": "*****"}, "de", model)["sentiment"] == 1


def changed(**attributes: Any) -> Fixed:
    model = Fixed()
    vars(model).update(attributes)
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Fixed, "class"),
        (changed(name=""), "name"),
        (changed(version=3), "version"),
        (changed(languages="en"), "languages"),
        (changed(languages=[]), "languages"),
        (changed(languages=None), "languages"),
        (changed(languages=[""]), "languages"),
        (changed(score=0.5), "score"),
        (None, "name"),
    ],
)
def test_own_model_of_the_wrong_shape_is_refused(mine: ModuleType, model: Any, said: str) -> None:
    vars(mine)["model"] = model
    with pytest.raises(ConfigurationError, match=f"is not a model: .*{said}"):
        load_model("my_models:model")


def ingested(channel: str, model: SentimentModel | None, **fields: Any) -> Outcome:
    touchpoint = {
        "event_id": "e1",
        "occurred_at": NOW_MS,
        "action": "posted",
        "identifiers": [{"kind": "email", "value": "ann@example.com", "verified": False}],
        **fields,
    }
    settings = Settings()
    ingest = Ingest(CODEC, tokens_of(settings), settings, sentiment_model=model)
    value = CODEC.encode(channel, touchpoint)
    record = Record(touchpoint_topic(channel), 0, 7, NOW_MS, b"", value)
    return run_chunk(ingest, [record], {}, source=1, partitions=1)


def touch_in(outcome: Outcome) -> Touch:
    (message,) = outcome.messages
    read = Record(message.topic, message.partition, 0, 0, message.key, message.value)
    touch = decode_identity(unframe(read)[-1])
    assert isinstance(touch, Touch)
    return touch


def test_sentiment_arrives_in_the_touch_and_in_the_details_of_its_facts() -> None:
    text = "The book was good."
    touch = touch_in(ingested("survey", VADER, comment=text, locale="en-GB"))
    said = {"sentiment": 0.4404, "sentiment_model": "vader 3.3.2"}
    assert touch.fields == {"comment": text, **said}
    assert details(touch.fields) == {"sentiment": "0.4404", "sentiment_model": "vader 3.3.2"}


def test_ingest_without_a_model_adds_nothing() -> None:
    assert touch_in(ingested("social", None, text="good", language="en")).fields == {
        "text": "good",
        "language": "en",
    }


def test_event_whose_model_fails_is_kept() -> None:
    outcome = ingested("social", Fixed(ValueError()), text="good", language="en")
    assert touch_in(outcome).fields == {"text": "good", "language": "en"}
    assert outcome.counts == {("touchpoints", "social"): 1, ("sentiment_failed", ""): 1}
