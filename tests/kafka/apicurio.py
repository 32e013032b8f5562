"""Apicurio Registry on loopback, in memory, by its Confluent interface.

with Apicurio(folder) as registry:
    settings = Settings(schema_registry_url=registry.url)
"""

import tarfile
from pathlib import Path
from types import TracebackType

from jars import REGISTRY, classpath, java

from touchstream.streams.errors import TouchstreamError
from touchstream.streams.local.ports import LOOPBACK, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.registry import HttpRegistry

READY_SECONDS = 120.0


class Apicurio:
    """Runs from `with` to its end; it knows no schema at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        [self._port] = choose_ports([(0, "")])
        self.url = f"http://{LOOPBACK}:{self._port}/apis/ccompat/v7"

    def __enter__(self) -> "Apicurio":
        [archive] = classpath(REGISTRY)
        program = self._folder / "apicurio"
        with tarfile.open(archive) as files:
            files.extractall(program, filter="data")
        [jar] = program.glob("*-runner.jar")
        address = (f"-Dquarkus.http.host={LOOPBACK}", f"-Dquarkus.http.port={self._port}")
        command = java(*address, "-jar", str(jar))
        self._child = Child(Command("apicurio", command, self._folder / "apicurio.log"))
        try:
            self._child.wait_until(self._answers, within_seconds=READY_SECONDS)
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.stop()

    def _answers(self) -> bool:
        try:
            return HttpRegistry(self.url).writer_schema(1) is None
        except TouchstreamError:
            return False
