"""The publisher's ledger: what was appended from outside, where, and what must come of it."""

from collections import defaultdict
from typing import NamedTuple

import oracle
from simulator.broker import Place
from simulator.schedule import Publish

from touchstream.agents.history import Said
from touchstream.agents.operations import SetErased, SetMark, SetRules, SetWord
from touchstream.agents.resolution import Word
from touchstream.agents.rules import Rules
from touchstream.streams.topics import OPERATIONS


class Words(NamedTuple):
    """All that operators said, in the end."""

    words: list[Said]
    shared: set[bytes]
    rules: Rules | None


class Ledger:
    """Everything published, by its place."""

    def __init__(self) -> None:
        self._published: dict[Place, dict[int, Publish]] = defaultdict(dict)

    def write(self, publish: Publish, offset: int) -> None:
        """Something is published at an offset."""
        self._published[publish.topic, publish.partition][offset] = publish

    def at(self, place: Place, offset: int) -> Publish | None:
        """What was published there, if anything was."""
        return self._published.get(place, {}).get(offset)

    def rejected(self) -> set[tuple[str, int, int]]:
        """Topic, partition and offset of everything that must become a dead letter."""
        return {
            (topic, partition, offset)
            for (topic, partition), published in self._published.items()
            for offset, each in published.items()
            if each.is_poison
        }

    def erased(self) -> set[bytes]:
        """Identities that operators wanted erased."""
        lists = [
            each.operation.identities
            for each in self._published[OPERATIONS, 0].values()
            if isinstance(each.operation, SetErased)
        ]
        return {bytes.fromhex(token) for each in lists for token in each}

    def may_be_suppressed(self, publish: Publish) -> bool:
        """Whether nothing need come of it, because it is about an erased identity."""
        erased = self.erased()
        if publish.touchpoint:
            return any(token in erased for _, token, _ in oracle.identities(publish.touchpoint))
        match publish.operation:
            case SetWord(one, other):
                return bool({bytes.fromhex(one), bytes.fromhex(other)} & erased)
            case SetMark(identity):
                return bytes.fromhex(identity) in erased
        return False

    def words(self) -> Words:
        """What operators said."""
        found = Words([], set(), None)
        for offset, publish in self._published[OPERATIONS, 0].items():
            match publish.operation:
                case SetWord(one, other, allow):
                    word = Word(offset + 1, allow, "ann", "", 0)
                    found.words.append((bytes.fromhex(one), bytes.fromhex(other), word))
                case SetMark(identity):
                    found.shared.add(bytes.fromhex(identity))
                case SetRules(rules):
                    found = found._replace(rules=rules)
        return found
