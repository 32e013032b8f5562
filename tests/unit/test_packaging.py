"""The locked requirements hold what pyproject.toml declares, and the wheel every package."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SUPERSET = (ROOT / "requirements" / "superset.in").read_text().splitlines()
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
DECLARED: dict[str, list[str]] = {
    "runtime": PROJECT["project"]["dependencies"],
    "local": PROJECT["project"]["dependencies"] + EXTRAS["local"],
    "dev": PROJECT["project"]["dependencies"] + EXTRAS["local"] + EXTRAS["dev"],
    "superset": [line for line in SUPERSET if not line.startswith("#")],
}


def name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found.group().lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("lock", DECLARED)
def test_every_declared_dependency_is_locked(lock: str) -> None:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines()
    locked = {name(line) for line in lines if "==" in line}
    assert {name(requirement) for requirement in DECLARED[lock]} <= locked


def test_every_package_folder_is_shipped() -> None:
    folders = {
        p.parent
        for top in ("streams", "agents", "schemas")
        for p in ROOT.glob(f"{top}/**/__init__.py")
    }
    packages = {"touchstream." + ".".join(f.relative_to(ROOT).parts) for f in folders}
    assert packages == set(PROJECT["tool"]["setuptools"]["packages"])
