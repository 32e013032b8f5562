"""What a check says when it fails."""


class Violation(Exception):
    """A check that failed."""

    def __init__(self, check: str, difference: str) -> None:
        super().__init__(check, difference)
        self.check, self.difference = check, difference
        self.seed = 0

    def __str__(self) -> str:
        return (
            f"seed {self.seed} fails check ({self.check}): {self.difference}\n"
            f"replay it with: make simulate SEED={self.seed}"
        )


class Findings:
    """Violations that were found where they could not be raised: in the middle of the product."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, check: str, difference: str) -> None:
        """Keep a violation."""
        self._violations.append(Violation(check, difference))

    def raise_first(self) -> None:
        """Raise the first one, if there is any."""
        if self._violations:
            raise self._violations[0]
