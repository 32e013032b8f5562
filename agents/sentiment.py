"""Sentiment of what a customer wrote, where the touchpoint does not say it.

Enters the channel, the fields and the locale of an accepted touchpoint; leaves the fields to add:
`sentiment`, -1 (negative) to 1 (positive), and `sentiment_model`, which says who judged. A text is
judged only in a language that the model knows. A model that fails costs its score, never the event.
"""

import logging
import re
from collections.abc import Collection
from importlib import import_module, metadata
from typing import Any, Protocol

from touchstream.streams.effects import Effects
from touchstream.streams.errors import ConfigurationError

log = logging.getLogger(__name__)
SETTING = "TOUCHSTREAM_SENTIMENT_MODEL"
LONGEST_TEXT = 2_000
"""Characters of a text that are judged, from its start: what VADER does with more takes time that
grows with the square of the length."""
MOST_EMOJIS = 50
"""Emojis of a text that VADER reads: it spells each one out, in up to eight words."""
_FIELDS = {"social": "text", "chat": "text", "survey": "comment"}


class SentimentModel(Protocol):
    """What judges a text; the same text must get the same score, on every worker."""

    @property
    def name(self) -> str:
        """Name of the model; kept with every score."""

    @property
    def version(self) -> str:
        """Version of the model; kept with every score."""

    @property
    def languages(self) -> Collection[str]:
        """Languages it knows, as primary subtags of BCP 47, such as `en`."""

    def score(self, text: str) -> float:
        """Sentiment of a text that is not blank, -1 to 1."""


class Vader:
    """VADER: English words and emojis with a rating each, and rules for `not`, `very`, `but`."""

    name = "vader"
    languages = ("en",)

    def __init__(self) -> None:
        """Read the lexicon; raises ConfigurationError when the package is not installed."""
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

            self.version = metadata.version("vaderSentiment")
        except ImportError:
            raise ConfigurationError(
                f"{SETTING} is vader, but vaderSentiment is not installed:"
                " pip install touchstream[sentiment], on every worker"
            ) from None
        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, text: str) -> float:
        """VADER's compound score, rounded to 4 digits; 0 as well when it knows none of the words.

        The text is read up to its emoji number `MOST_EMOJIS`.
        """
        emojis = 0
        for place, character in enumerate(text):
            emojis += character in self._analyzer.emojis
            if emojis > MOST_EMOJIS:
                text = text[:place]
                break
        return float(self._analyzer.polarity_scores(text)["compound"])


class Scorer:
    """Adds the sentiment to the fields of touchpoints."""

    def __init__(self, model: SentimentModel) -> None:
        self._model = model
        self._languages = {primary_language(language) for language in model.languages}
        self._label = f"{model.name} {model.version}"
        self._failed = False

    def added(
        self, channel: str, fields: dict[str, Any], locale: str | None, effects: Effects
    ) -> dict[str, Any]:
        """`sentiment` and `sentiment_model`, or nothing; failures count as `sentiment_failed`."""
        if fields.get("sentiment") is not None:
            return {}
        text = customer_text(channel, fields)
        if not text or primary_language(fields.get("language") or locale) not in self._languages:
            return {}
        try:
            score = float(self._model.score(text[:LONGEST_TEXT]))
            problem = "" if -1 <= score <= 1 else "a score that is not between -1 and 1"
        except Exception as error:
            problem = type(error).__name__
        if problem:
            effects.count("sentiment_failed")
            self._warn(problem)
            return {}
        return {"sentiment": score, "sentiment_model": self._label}

    def _warn(self, problem: str) -> None:
        if not self._failed:
            self._failed = True
            text = "no sentiment: model=%s problem=%s; said once, counted as sentiment_failed"
            log.warning(text, self._label, problem)


def customer_text(channel: str, fields: dict[str, Any]) -> str | None:
    """What the customer wrote; None when nobody wrote, or somebody else, or only blanks."""
    text = fields.get(_FIELDS.get(channel, ""))
    if not text or not text.strip():
        return None
    if channel == "chat" and not _by_customer(fields.get("author"), fields.get("direction")):
        return None
    return str(text)


def _by_customer(author: str | None, direction: str | None) -> bool:
    if author:
        return author.strip().lower() == "customer"
    return (direction or "").strip().lower() != "outbound"


def primary_language(tag: str | None) -> str:
    """Primary subtag of a language or a locale: `en` of `en-US`, `EN_us`; empty when not known."""
    return re.split(r"[-_.]", (tag or "").strip(), maxsplit=1)[0].lower()


def load_model(name: str) -> SentimentModel | None:
    """Model of a name: `none`, `vader`, or `module:attribute` of your own.

    Raises ConfigurationError when there is no such model, or it cannot be one.
    """
    if name == "none":
        return None
    if name == "vader":
        return Vader()
    module, separator, attribute = name.partition(":")
    if not (module and separator and attribute):
        raise ConfigurationError(
            f"{SETTING} is {name!r}: it must be none, vader or module:attribute"
        )
    try:
        model = getattr(import_module(module), attribute)
    except Exception as error:
        raise ConfigurationError(
            f"{SETTING} is {name}, which cannot be loaded ({type(error).__name__}: {error}): the"
            " module must be installed on every worker"
        ) from error
    problem = model_problem(model)
    if problem:
        raise ConfigurationError(f"{SETTING} is {name}, which is not a model: {problem}")
    found: SentimentModel = model
    return found


def model_problem(model: object) -> str | None:
    """Why an object cannot be a model, or None."""
    if isinstance(model, type):
        return "it is a class; name an instance of it"
    for attribute in ("name", "version"):
        value = getattr(model, attribute, None)
        if not isinstance(value, str) or not value:
            return f"its {attribute} must be a text"
    languages = getattr(model, "languages", None)
    if isinstance(languages, str) or not isinstance(languages, Collection) or not languages:
        return "its languages must be a list, such as ['en']"
    if not all(isinstance(language, str) and primary_language(language) for language in languages):
        return "each of its languages must be a text, such as 'en'"
    return None if callable(getattr(model, "score", None)) else "it needs a method score(text)"
