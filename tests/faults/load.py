"""Touchpoints for a time, and what workers need for them."""

import random
from pathlib import Path

import oracle

EVENTS_PER_SECOND = 60


def touchpoints(rng: random.Random, seconds: float, name: str = "") -> list[oracle.Published]:
    """As many as are published in a time; other names make other touchpoints."""
    number = int(seconds * EVENTS_PER_SECOND)
    found = oracle.random_touchpoints(rng, people=number, number=number)
    return [(channel, {**each, "event_id": name + each["event_id"]}) for channel, each in found]


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    found = (int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))
    return next(found, 0)
