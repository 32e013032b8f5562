"""From an identifier as a channel wrote it to an identity token; nothing but tokens travels on.

A token is a keyed hash (BLAKE2b) of kind and normalised value: equal identifiers meet whatever the
channel, and nobody without the key can compute or choose one.
"""

import unicodedata
from functools import lru_cache
from hashlib import blake2b

import phonenumbers

from touchstream.streams.settings import Settings

TOKEN_BYTES = 16
STRENGTH = (
    "crm_id",
    "user_id",
    "loyalty_id",
    "national_id",
    "email",
    "phone",
    "handle",
    "device_id",
    "anonymous_id",
)
"""Kinds from the strongest to the weakest; kinds not listed stand before the last two."""
_RANK = {kind: rank for rank, kind in enumerate(STRENGTH)}
_OTHER_RANK = _RANK["device_id"] - 0.5


def strength(kind: str) -> float:
    """Rank of a kind, the strongest first; a touchpoint is filed under its strongest identity."""
    return _RANK.get("handle" if kind.endswith("_handle") else kind, _OTHER_RANK)


@lru_cache(maxsize=100_000)
def normalise(kind: str, value: str, region: str) -> str:
    """One spelling of an identifier: NFKC, trimmed; e-mails and handles folded, phones E.164."""
    text = unicodedata.normalize("NFKC", value).strip()
    if kind == "email":
        return text.casefold()
    if kind == "phone":
        return _e164(text, region)
    if kind.endswith("handle"):
        return text.removeprefix("@").casefold()
    return text


def _e164(text: str, region: str) -> str:
    """E.164 of a phone number; the text as it is when it is none."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return text
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class Tokens:
    """Turns identifiers into tokens with the deployment's key."""

    def __init__(self, key: bytes, region: str) -> None:
        self._hash = blake2b(key=blake2b(key, digest_size=64).digest(), digest_size=TOKEN_BYTES)
        self._region = region

    def token(self, kind: str, value: str) -> bytes:
        """Token of an identifier; empty when nothing is left of its value."""
        text = normalise(kind, value, self._region)
        if not text:
            return b""
        hashed = self._hash.copy()
        hashed.update(f"{kind}\0{text}".encode())
        return hashed.digest()


def tokens_of(settings: Settings) -> Tokens:
    """Tokens under the settings' key and region."""
    return Tokens(settings.identity_key.get_secret_value().encode(), settings.default_region)


def identity_token(kind: str, value: str, settings: Settings) -> str:
    """Token of one identifier as it stands in ClickHouse."""
    return tokens_of(settings).token(kind, value).hex()
