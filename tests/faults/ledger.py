"""What was published and acknowledged, and whether the views say exactly that.

The truth is recomputed from the ledger: facts and dead letters one by one, identities by resolving
everything at once, customers and panes by counting plainly (`tests/simulation/oracle.py`). What
differs is said, not shown whole.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import oracle
from clickhouse_connect.driver.client import Client
from truth import expected, seen

from touchstream.streams.publisher import Publisher
from touchstream.streams.settings import Settings

PATIENCE_SECONDS = 180.0
POLL_SECONDS = 0.25
SHOWN = 3
EVENTS = "SELECT channel, event_id, count() FROM touchpoints GROUP BY ALL"
LETTERS = "SELECT topic, partition, offset, count() FROM dead_letters GROUP BY ALL"
Acknowledged = Callable[[str, str, str | None], None]


class Ledger:
    """Published touchpoints, each once, with what Kafka said of them."""

    def __init__(self) -> None:
        self.published: list[oracle.Published] = []
        self.acknowledged: set[tuple[str, str]] = set()
        """Channel and event id."""
        self.refused: dict[tuple[str, str], str] = {}

    def said(self, channel: str, event_id: str, error: str | None) -> None:
        """Kafka's answer."""
        if error is None:
            self.acknowledged.add((channel, event_id))
        else:
            self.refused[channel, event_id] = error

    def add(self, channel: str, touchpoint: dict[str, Any]) -> None:
        """A touchpoint that the test has published in its own way, and seen acknowledged."""
        self.published.append((channel, touchpoint))
        self.said(channel, touchpoint["event_id"], None)

    def publish(self, settings: Settings, touchpoints: Iterable[oracle.Published]) -> None:
        """Publish and wait until Kafka has everything."""
        with Publisher(settings, on_delivery=self.said) as publisher:
            for channel, touchpoint in touchpoints:
                self.published.append((channel, touchpoint))
                publisher.publish(channel, touchpoint)

    def take_refused(self) -> list[oracle.Published]:
        """Touchpoints that Kafka has refused, which are to be published again."""
        refused, self.refused = self.refused, {}
        return [each for each in self.published if (each[0], each[1]["event_id"]) in refused]

    @contextmanager
    def publishing(
        self,
        settings: Settings,
        touchpoints: Sequence[oracle.Published],
        seconds: float,
        *,
        to_the_end: bool = True,
    ) -> Iterator[None]:
        """Publish evenly over a time, beside what happens in `with`; at its end all is there.

        Not `to_the_end`: what has not been published when `with` ends is left.
        """
        failures: list[BaseException] = []
        over = threading.Event()

        def run() -> None:
            try:
                self.publish(settings, evenly(touchpoints, seconds, over))
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run, name="publishing", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            over.set()
            raise
        if not to_the_end:
            over.set()
        thread.join()
        if failures:
            raise failures[0]

    def check(self, client: Client, patience_seconds: float = PATIENCE_SECONDS) -> float:
        """Seconds until the views say what they must; raises AssertionError with what differs."""
        names = {(channel, touchpoint["event_id"]) for channel, touchpoint in self.published}
        assert not self.refused, f"Kafka refused {self.refused}"
        assert self.acknowledged == names, "not everything was acknowledged"
        want = expected(oracle.unique(self.published))
        began = time.monotonic()
        while wrong := self._wrong(client, want):
            assert time.monotonic() < began + patience_seconds, "\n".join(wrong)
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def _wrong(self, client: Client, want: dict[str, Any]) -> list[str]:
        arrived = {(channel, event): n for channel, event, n in client.query(EVENTS).result_rows}
        wrong = differences("touchpoints", arrived, dict.fromkeys(self.acknowledged, 1))
        if wrong:
            return wrong
        got = seen(client)
        return [
            line
            for name in ("identities", "customers", "panes")
            for line in differences(name, got[name], want[name])
        ]


def evenly(
    touchpoints: Sequence[oracle.Published], seconds: float, over: threading.Event
) -> Iterator[oracle.Published]:
    """One after the other, over a time, unless it is over before."""
    began = time.monotonic()
    for number, touchpoint in enumerate(touchpoints):
        due = began + seconds * number / len(touchpoints)
        if over.wait(max(0.0, due - time.monotonic())):
            return
        yield touchpoint


def differences(what: str, got: Mapping[Any, Any], want: Mapping[Any, Any]) -> list[str]:
    """Lines that say what is missing, what is too much and what is wrong."""
    wrong = [key for key in want if key in got and got[key] != want[key]]
    found = {
        "missing": [repr(key) for key in want if key not in got],
        "too much": [repr(key) for key in got if key not in want],
        "wrong": [f"{key!r}: {got[key]!r} instead of {want[key]!r}" for key in wrong],
    }
    return [
        f"{what}: {len(cases)} of {len(want)} {how}: {'; '.join(cases[:SHOWN])}"
        for how, cases in found.items()
        if cases
    ]


def letters_of(client: Client) -> Counter[tuple[str, int, int]]:
    """Dead letters by topic, partition and offset."""
    return Counter({tuple(row[:3]): row[3] for row in client.query(LETTERS).result_rows})
