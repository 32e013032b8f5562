"""From an identifier as a channel wrote it to an identity token; nothing but tokens travels on.

A token is a keyed hash (BLAKE2b) of kind and normalised value: equal identifiers meet whatever the
channel, and nobody without the key can compute or choose one. Rules say how a kind is normalised
and which values identify no one.
"""

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import phonenumbers

from touchstream.agents.junk import Junk
from touchstream.agents.rules import UNIDENTIFIED, Kind, Normaliser, Rules
from touchstream.agents.rules_file import OTHER, default_rules
from touchstream.streams.settings import Settings

TOKEN_BYTES = 16
REMEMBERED = 100_000
"""Readings that are kept: most identifiers come again soon."""
KINDS_REMEMBERED = 1_000


def strength(kind: str, rules: Rules) -> int:
    """Order of a kind, the strongest first; a touchpoint is filed under its strongest identity."""
    return -rules.kind(kind).priority


def rules_name(kind: str, rules: Rules) -> str:
    """Name under which the rules have a kind: of few names, whatever kinds are sent."""
    if kind in rules.kinds:
        return kind
    return "handle" if kind.endswith("_handle") and "handle" in rules.kinds else OTHER


def normalise(kind: str, value: str, region: str, rules: Rules | None = None) -> str:
    """One spelling of an identifier; under the default rules when none are given."""
    rules = rules or default_rules()
    return _NORMALISERS[rules.kind(kind).normaliser](_text(value), region)


def _text(value: str) -> str:
    return unicodedata.normalize("NFKC", value).strip()


def _email(text: str, region: str) -> str:
    """Folded; at Gmail, and only there, dots are known not to count."""
    mailbox, at, host = text.casefold().rpartition("@")
    if host in ("gmail.com", "googlemail.com"):
        return mailbox.replace(".", "") + "@gmail.com"
    return mailbox + at + host


def _e164(text: str, region: str) -> str:
    """E.164 of a phone number; the text as it is when it is none."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return text
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_Normalise = Callable[[str, str], str]
_NORMALISERS: dict[Normaliser, _Normalise] = {
    "text": lambda text, region: text,
    "email": _email,
    "phone": _e164,
    "handle": lambda text, region: text.removeprefix("@").casefold(),
}


class Tokens:
    """Turns identifiers into tokens with the deployment's key."""

    def __init__(self, key: bytes, region: str) -> None:
        self._hash = blake2b(key=blake2b(key, digest_size=64).digest(), digest_size=TOKEN_BYTES)
        self.region = region

    def token(self, kind: str, value: str, rules: Rules | None = None) -> bytes:
        """Token of an identifier; empty when nothing is left of its value."""
        text = normalise(kind, value, self.region, rules)
        return self.keyed(kind, text) if text else b""

    def unidentified(self, channel: str, event_id: str) -> bytes:
        """Token that stands in for a touchpoint without a usable identifier, and for no other."""
        return self.keyed(UNIDENTIFIED, f"{channel}\0{event_id}")

    def keyed(self, kind: str, text: str) -> bytes:
        """Token of a normalised value."""
        hashed = self._hash.copy()
        hashed.update(f"{kind}\0{text}".encode())
        return hashed.digest()


class Reading(NamedTuple):
    """What an identifier turned out to be; readings sort the strongest first, ties by token."""

    strength: int
    token: bytes
    """Empty for junk, and when nothing is left of the value."""
    kind: str
    junk: str = ""
    """Name of the rules by which the value identifies no one."""


NOTHING = Reading(0, b"", "")


class Identifiers:
    """Reads identifiers under one set of rules, and remembers what they turned out to be."""

    def __init__(self, tokens: Tokens, rules: Rules) -> None:
        self.tokens = tokens
        self.rules = rules
        self.read = lru_cache(maxsize=REMEMBERED)(self._read)
        """(kind, value, platform of a handle or None) -> Reading."""
        self._kind = lru_cache(maxsize=KINDS_REMEMBERED)(self._read_kind)
        self._junk = {name: self._junk_of(kind) for name, kind in rules.kinds.items()}
        self._junk[OTHER] = self._junk_of(rules.other)

    def _read(self, kind: str, value: str, platform: str | None) -> Reading:
        kind, rank, name, normalised = self._kind(kind, platform)
        text = normalised(_text(value), self.tokens.region) if kind else ""
        if not text:
            return NOTHING
        if self._junk[name].holds(text):
            return Reading(0, b"", kind, name)
        return Reading(rank, self.tokens.keyed(kind, text), kind)

    def _read_kind(self, kind: str, platform: str | None) -> tuple[str, int, str, _Normalise]:
        """The kind as it is kept, its strength, the name of its rules, and its normaliser."""
        kind = kind.strip().casefold()
        if kind == "handle" and platform:
            kind = f"{platform}_handle".casefold()
        normalised = _NORMALISERS[self.rules.kind(kind).normaliser]
        return kind, strength(kind, self.rules), rules_name(kind, self.rules), normalised

    def _junk_of(self, kind: Kind) -> Junk:
        """Junk of a kind and of all kinds; a kind's own texts may be spelled in any way."""
        normalised = _NORMALISERS[kind.normaliser]
        own = {normalised(_text(text), self.tokens.region) for text in kind.junk_texts}
        texts = self.rules.junk_texts | kind.junk_texts | own
        return Junk(texts, self.rules.junk_patterns + kind.junk_patterns)


def tokens_of(settings: Settings) -> Tokens:
    """Tokens under the settings' key and region."""
    return Tokens(settings.identity_key.get_secret_value().encode(), settings.default_region)


def identity_token(kind: str, value: str, settings: Settings, rules: Rules | None = None) -> str:
    """Token of one identifier as it stands in ClickHouse; under the default rules if none given."""
    return tokens_of(settings).token(kind, value, rules).hex()
