"""Processes that order their sets differently leave the same.

Python chooses a new order for sets of texts and bytes in each process. A worker that takes over
computes some records again, and what it sends must be what was sent before.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
RUN = """
import pickle, sys
from logs import recorded, said
from touchstream.agents import activity

activity.RECENT_EVENTS = 6
pickle.dump([said(recorded(seed)) for seed in range(8)], sys.stdout.buffer)
"""


def left_with(hash_seed: int) -> list[dict[str, Any]]:
    """What eight pipelines leave, in a process with this order of sets."""
    path = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1] / ".dev")])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    found: list[dict[str, Any]] = pickle.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def first() -> list[dict[str, Any]]:
    return left_with(0)


@pytest.mark.parametrize("hash_seed", [1, 2, 3])
def test_the_order_of_sets_reaches_no_message_no_state_and_no_row(
    hash_seed: int, first: list[dict[str, Any]]
) -> None:
    for want, got in zip(first, left_with(hash_seed), strict=True):
        assert got["logs"] == want["logs"]
        assert got["rows"] == want["rows"]
        assert got["states"] == want["states"]
