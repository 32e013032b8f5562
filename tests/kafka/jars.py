"""Programs from Maven Central: a pom that pins them goes in, the files of their classpath come out.

Maven keeps what it has fetched in `~/.m2`; a second time needs no network. `KAFKA_VERSION` replaces
the version of Kafka that the pom pins.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
KAFKA = HERE / "pom.xml"
REGISTRY = HERE / "registry.xml"
FETCH_SECONDS = 600.0


@cache
def classpath(pom: Path) -> list[Path]:
    """Fetch what the pom names; raises RuntimeError with what Maven said when it cannot."""
    if missing := [program for program in ("java", "mvn") if shutil.which(program) is None]:
        raise RuntimeError(f"{' and '.join(missing)} not found: install Java 17 and Maven")
    with TemporaryDirectory() as folder:
        found = Path(folder, "classpath")
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(pom), *_versions()]
        command += ["dependency:build-classpath", f"-Dmdep.outputFile={found}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
        if done.returncode:
            raise RuntimeError(f"Maven could not fetch what {pom} names:\n{done.stdout}")
        return [Path(name) for name in found.read_text().strip().split(os.pathsep)]


def java(*arguments: str, pom: Path | None = None) -> list[str]:
    """Command line of a small, quickly started Java program, on the classpath of a pom if given."""
    modest = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    where = ("-cp", os.pathsep.join(map(str, classpath(pom)))) if pom else ()
    return ["java", *modest, *where, *arguments]


def _versions() -> list[str]:
    kafka = os.environ.get("KAFKA_VERSION")
    return [f"-Dkafka.version={kafka}"] if kafka else []
