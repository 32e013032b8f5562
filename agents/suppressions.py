"""Which identities were erased: what operators said goes in, whether a moment is erased comes out.

Whoever reads a log again asks here first, so that nothing that was erased comes back.
"""

from touchstream.agents.operations import SetErased
from touchstream.agents.resolution import Token

FOREVER = 1 << 62
"""Until an operator lets an identity come back (ms)."""


def erased_until(operation: SetErased, said_at_ms: int) -> int:
    """The moment before which nothing of the identities is taken any more, ms."""
    return said_at_ms if operation.back else FOREVER


class Suppressions:
    """All identities that were ever erased; may be added to while it is read."""

    def __init__(self) -> None:
        self._until: dict[Token, int] = {}
        self._number: dict[Token, int] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, number: int, said_at_ms: int, operation: SetErased) -> None:
        """Take an erasure in the order of the log; `number` is its place.

        Raises ValueError, and takes nothing, when one of its tokens is none.
        """
        until = erased_until(operation, said_at_ms)
        for token in [bytes.fromhex(identity) for identity in operation.identities]:
            self._until[token] = until
            if not operation.back:
                self._number[token] = number

    def hold(self, identity: Token, at_ms: int) -> bool:
        """Whether what happened to an identity at a time was erased."""
        until = self._until.get(identity)
        return until is not None and at_ms < until

    def outdate(self, identity: Token, number: int) -> bool:
        """Whether an identity was erased after operation `number`."""
        return number < self._number.get(identity, 0)
