"""What the commands `touchstream erase` and `touchstream export` ask of the agents.

Commands stand in `streams` and reach these functions by name; store and settings are given to them.
"""

import re
from collections.abc import Collection

from touchstream.agents.evidence import decode_vertex
from touchstream.agents.identifiers import Identifiers, normalise, tokens_of
from touchstream.agents.identity_commands import WholeStore, rules_in_force
from touchstream.agents.ingest import find_identities
from touchstream.agents.operations import SetErased, encode_operation
from touchstream.agents.rules import Rules
from touchstream.agents.turn import VERTEX
from touchstream.streams.codec import TouchpointCodec
from touchstream.streams.errors import PoisonError
from touchstream.streams.settings import Settings
from touchstream.streams.topics import CHANNELS, touchpoint_topic

_PACKED = re.compile(rb"(?=\xc4\x10(.{16}))", re.DOTALL)
"""16 bytes as msgpack writes them."""
_HEX = re.compile(rb"(?=([0-9a-f]{32}))")


def erasure_operation(
    identities: Collection[str], *, operator: str, note: str, back: bool = False
) -> bytes:
    """Record that has identities (tokens in hex) erased, or lets them come `back`."""
    return encode_operation(SetErased(sorted(identities), operator, note, back))


def texts_of(store: WholeStore, settings: Settings, kind: str, value: str) -> set[str]:
    """An identifier as it may stand in a record: as it was given, and normalised."""
    rules = rules_in_force(store)
    kind = kind.strip().casefold()
    return {value.strip(), normalise(kind, value, settings.default_region, rules)} - {""}


class Traces:
    """Tells what carries a trace of identities: their tokens, or texts that are known of them."""

    def __init__(
        self, settings: Settings, rules: Rules, tokens: Collection[str], texts: Collection[str]
    ) -> None:
        """Tokens in hex; texts are looked for whatever their case."""
        self._tokens = frozenset(map(bytes.fromhex, tokens))
        self._hex = frozenset(token.encode() for token in tokens)
        self._texts = [text.casefold().encode() for text in texts]
        self._codec = TouchpointCodec.from_settings(settings)
        self._identifiers = Identifiers(tokens_of(settings), rules)
        self._channels = {touchpoint_topic(channel): channel for channel in CHANNELS}

    def in_bytes(self, data: bytes | None) -> bool:
        """Whether bytes carry a token, packed or in hex, or one of the texts."""
        if not data:
            return False
        if any(packed in self._tokens for packed in _PACKED.findall(data)):
            return True
        lower = data.lower()
        return any(found in self._hex for found in _HEX.findall(lower)) or any(
            text in lower for text in self._texts
        )

    def in_record(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether a record between agents, of state or of alerts is about one of the identities."""
        is_key = key is not None and (key in self._tokens or key[1:] in self._tokens)
        return is_key or self.in_bytes(value)

    def in_dead_letter(
        self, topic: str, key: bytes | None, value: bytes | None, detail: str
    ) -> bool:
        """Whether a rejected record is about one of the identities; a touchpoint is read again."""
        if self.in_record(key, value) or self.in_bytes(key) or self.in_bytes(detail.encode()):
            return True
        channel = self._channels.get(topic)
        return channel is not None and self._in_touchpoint(channel, value)

    def in_state(self, agent: str, key: bytes, value: bytes) -> bool:
        """Whether a value of state still knows an identity; that it was erased is not counted."""
        if agent == "stitch" and key[:1] == VERTEX and key[1:] in self._tokens:
            return not decode_vertex(value).is_bare
        return self.in_record(key, value)

    def _in_touchpoint(self, channel: str, value: bytes | None) -> bool:
        try:
            touchpoint = self._codec.decode(channel, value)
        except PoisonError:
            return False  # nobody can say what it was; its text has been looked through
        found, _ = find_identities(touchpoint, self._identifiers)
        return any(reading.token in self._tokens for reading, _ in found)


def traces(
    store: WholeStore, settings: Settings, tokens: Collection[str], texts: Collection[str]
) -> Traces:
    """Traces of identities under the rules in force."""
    return Traces(settings, rules_in_force(store), tokens, texts)
