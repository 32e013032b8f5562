"""What fault tests stand on, and their schedule: `--broker` and `--seed` choose."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from brokers import BROKERS, KafkaCluster
from link import Link, Network
from rig import Ground, RigOf, rig


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: --broker {config.getoption('--broker')} --seed {config.getoption('--seed')}"


@pytest.fixture(scope="session")
def ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    links: list[Link] = []

    def told(port: int) -> int:
        links.append(network.link(port))
        return links[-1].port

    brokers = BROKERS[request.config.getoption("--broker")]
    with Network() as network:
        if not brokers:
            yield Ground(network, None, links)
            return
        folder = tmp_path_factory.mktemp("kafka")
        with KafkaCluster(folder, brokers=brokers, told=told) as cluster:
            yield Ground(network, cluster, links)


@pytest.fixture
def rig_of(tmp_path: Path, ground: Ground) -> RigOf:
    """Starts the whole product: `rig_of(workers=2)`."""
    return partial(rig, tmp_path / "rig", ground)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The schedule of one test: another one for each seed."""
    return random.Random(f"{request.config.getoption('--seed')} {request.node.name}")
