"""Kafka is away, far, slow, or takes records whose acknowledgement is lost: rows 9, 10 and 11."""

import random
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from link import CUT, SILENT, Weather
from load import resident_bytes, touchpoints
from rig import Rig, RigOf
from truth import PATIENCE_SECONDS

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.stack import LocalOptions, LocalStack
from touchstream.streams.settings import Settings

pytestmark = pytest.mark.integration
LONGEST_RSS_BYTES = 600 << 20
PRODUCE = 0
ONE_WAY = {
    "silent both ways": SILENT,
    "silent to the broker": Weather(silent_to_server=True),
    "silent to the worker": Weather(silent_to_client=True),
    "connections are cut": CUT,
}


def seldom(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.long)


def test_09_the_only_broker_is_lost_with_its_memory_and_that_is_said(tmp_path: Path) -> None:
    """The embedded broker keeps nothing: the stack ends and says which server has ended."""
    options = LocalOptions(tmp_path, 1, 0, 0, 0)
    with LocalStack(Settings(), options) as stack:
        broker = stack.servers[0]
        broker.kill()
        with pytest.raises(ConfigurationError, match="broker ended with -9"):
            stack.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("how", "seconds", "workers"),
    [
        ("silent both ways", 5.0, 2),
        ("silent to the broker", 20.0, 1),
        ("silent to the worker", 20.0, 1),
        ("connections are cut", 20.0, 2),
        seldom("silent both ways", 60.0, 1),
        seldom("silent to the worker", 60.0, 2),
        seldom("silent both ways", 300.0, 2),
    ],
)
def test_10_workers_and_brokers_are_parted(
    rig_of: RigOf, rng: random.Random, how: str, seconds: float, workers: int
) -> None:
    """One worker of two, or all there are."""
    total = seconds + 15
    with rig_of(workers=workers) as loaded:
        with loaded.publishing(touchpoints(rng, total), total):
            loaded.wait_for_progress()
            with loaded.kafka_weather(ONE_WAY[how], {loaded.pid(0)}):
                time.sleep(seconds)  # the partition itself
            loaded.wait_for_progress()
        loaded.check()
        assert all(" ended with 70 " in text for text in loaded.restarts), loaded.restarts


@pytest.mark.parametrize("seconds", [30.0, seldom(120.0)])
def test_11_the_broker_is_far_and_the_line_is_thin(
    rig_of: RigOf, rng: random.Random, seconds: float
) -> None:
    """500 ms a round trip, 1 Mbit/s a connection."""
    far = Weather(delay_seconds=0.25, bytes_per_second=125_000)
    with rig_of(workers=2) as loaded:
        loaded.publish(touchpoints(rng, 5))
        loaded.wait_for_progress()
        with (
            loaded.kafka_weather(far, loaded.pids),
            rss_watched(loaded) as rss,
            loaded.publishing(touchpoints(rng, seconds, "far"), seconds),
        ):
            loaded.wait_for_progress()
        loaded.check()
        print(f"largest worker {max(rss) / (1 << 20):.0f} MiB")
        assert max(rss) < LONGEST_RSS_BYTES


def test_11_acknowledgements_of_appends_are_lost(rig_of: RigOf, rng: random.Random) -> None:
    """The broker has the batch, the worker does not know; what it sends again counts once."""
    seconds, chance = 30.0, random.Random(rng.random())

    def loses(request: bytes) -> bytes | None:
        if len(request) < 12 or chance.random() > 0.05:
            return None
        api, _, correlation = struct.unpack_from(">hh4s", request, 4)
        return bytes(correlation) if api == PRODUCE else None

    with rig_of(workers=2) as loaded:
        loaded.publish(touchpoints(rng, 5))
        loaded.wait_for_progress()
        with loaded.kafka_weather(Weather(loses=loses), loaded.pids):
            with loaded.publishing(touchpoints(rng, seconds, "again"), seconds):
                loaded.wait_for_progress()
            lost = sum(link.lost for link in loaded.kafka_links)
        loaded.check()
        print(f"{lost} acknowledgements were lost")
        assert lost > 5
        assert all(" ended with 70 " in text for text in loaded.restarts), loaded.restarts


@contextmanager
def rss_watched(loaded: Rig) -> Iterator[list[int]]:
    """Resident bytes of the largest worker, again and again."""
    sizes, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            sizes.append(max((resident_bytes(pid) for pid in loaded.pids), default=0))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield sizes
    over.set()
    thread.join()
