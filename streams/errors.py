"""Every error touchstream raises on purpose.

TouchstreamError
├── ConfigurationError   a setting, file or environment is wrong: stop and say what to do
├── TransientError       the outside world is unavailable: retry the same thing
├── PoisonError          a record can never be processed: dead letter with its reason
└── OwnershipLost        another worker has claimed the partition: stop writing to it
"""


class TouchstreamError(Exception):
    """Root of all errors raised on purpose; its text says what happened and what to do."""


class ConfigurationError(TouchstreamError):
    """Something the operator has to change before touchstream can work."""


class TransientError(TouchstreamError):
    """The same call may succeed later."""


class PoisonError(TouchstreamError):
    """A record that can never be processed; `reason` is one of `dead_letters.Reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class OwnershipLost(TouchstreamError):
    """Another worker has claimed a state partition; this one must stop writing to it."""

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(f"another worker owns {topic}[{partition}] now")
        self.topic = topic
        self.partition = partition


EXIT_SOFTWARE = 70
"""Exit code of a worker that stops before it would lose or repeat something; start it again."""
EXIT_CONFIGURATION = 78
"""Exit code for a wrong setting; starting again does not help."""
