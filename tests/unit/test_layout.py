"""The shape of the code: import names, the direction of imports, docstrings, length."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("schemas", "streams", "agents")
MODULES = sorted(
    path.relative_to(ROOT) for folder in OURS for path in (ROOT / folder).rglob("*.py")
)
LONGEST_LINES = 300

EVERY_MODULE = pytest.mark.parametrize("module", MODULES, ids=str)


def of(*folders: str) -> list[Path]:
    return [module for module in MODULES if module.parts[0] in folders]


def tree_of(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def imports(module: Path) -> Iterator[str]:
    """Everything a module imports, with the names it takes: `a.b.c` for `from a.b import c`."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


IMPORT_EVERYTHING = """
import sys
from importlib import import_module
from pkgutil import walk_packages

for name in ("schemas", "streams", "agents"):
    package = import_module(f"touchstream.{name}")
    for module in walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
print(sum(name.startswith("touchstream.") for name in sys.modules))
print(*{"schemas", "streams", "agents"}.intersection(sys.modules))
"""


def test_importing_everything_brings_in_no_bare_names() -> None:
    """Run where the bare folders could be imported: two modules of one file would be two states."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING],
        cwd=ROOT,
        env={"PYTHONPATH": ".dev", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, bare = done.stdout.splitlines()
    assert (int(number) >= len(MODULES) - 1, bare) == (True, "")


@pytest.mark.parametrize("name", OURS)
def test_tests_bring_in_no_bare_names(name: str) -> None:
    assert name not in sys.modules


@pytest.mark.parametrize("module", of("schemas"), ids=str)
def test_schemas_import_nothing_of_ours(module: Path) -> None:
    assert [name for name in imports(module) if within(name, ("touchstream",))] == []


@pytest.mark.parametrize("module", of("streams"), ids=str)
def test_streams_never_import_agents(module: Path) -> None:
    assert [name for name in imports(module) if within(name, ("touchstream.agents",))] == []


@EVERY_MODULE
def test_imports_of_ours_are_by_their_full_name(module: Path) -> None:
    assert [name for name in imports(module) if within(name, OURS)] == []


@EVERY_MODULE
def test_module_has_a_docstring(module: Path) -> None:
    assert ast.get_docstring(tree_of(module))


@EVERY_MODULE
def test_file_is_short(module: Path) -> None:
    lines = (ROOT / module).read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_LINES
