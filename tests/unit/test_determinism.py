"""A stage is a function of its log: what agents, and all they import, may not touch.

Every module under `agents` is looked at, and every module of ours that one of them imports, by any
way, up to the edges named below. What they import from elsewhere must be on a list of what has
no clock, no randomness and no connection to the outside.
"""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGES = {
    "streams/app.py": "runs stages: `attach` is given one, a stage never sees it",
    "streams/follower.py": "feeds the rule book, which is asked by the time of the record",
    "streams/settings.py": "read before there is a stage",
    "streams/writer_schemas.py": "asks the registry for the schema of an id, which never changes",
    "streams/registry.py": "the same; its id is part of the record",
}
"""Modules with input or output that agents name, and why a stage is a function all the same."""
PURE = {
    *("array", "bisect", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib"),
    *(
        "heapq",
        "io",
        "itertools",
        "json",
        "logging",
        "math",
        "re",
        "struct",
        "typing",
        "unicodedata",
    ),
    *("fastavro", "msgspec", "phonenumbers"),
}
AT_START = {
    "agents/archive.py": {"sys"},
    "agents/journey_rules.py": {"pathlib"},
    "agents/recount/journey.py": {"tomllib"},
    "agents/sentiment.py": {"importlib", "vaderSentiment"},
    "schemas/__init__.py": {"importlib"},
    "streams/alerts.py": {"importlib"},
    "streams/catalogue.py": {"pathlib"},
    "streams/toml_table.py": {"difflib", "tomllib"},
}
"""What is imported to read files or a model before the first record, or by commands only."""
CLOCKS = {"now", "today", "utcnow"}
OUTSIDE = {"breakpoint", "compile", "eval", "exec", "input", "open", "print"}
BY_PROCESS = {"hash", "id"}
"""Built-ins whose answer differs from process to process."""
KEYS_FOR_A_MOMENT = {("agents/resolution.py", "id")}
"""Used as keys of a dict that nobody goes through and that ends with its function."""
IN_ORDER = {"enumerate", "iter", "list", "map", "next", "reversed", "tuple", "zip", "filter"}
"""Built-ins that go through what they are given in its order."""
SETS = {"frozenset", "set", "AbstractSet", "Set"}
SET_METHODS = {"difference", "intersection", "symmetric_difference", "union"}
TUPLES = {("agents/measures.py", "measure.on"), ("streams/catalogue.py", "on")}
"""Walks through what has the name of a set elsewhere."""


def file_of(name: str) -> Path | None:
    """The file of ours that `touchstream.a.b` or `touchstream.a.b.name` stands in."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate.relative_to(ROOT)
    return None


@cache
def tree_of(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached() -> list[Path]:
    """Agents and what they import, without the edges."""
    agents = [path.relative_to(ROOT) for path in (ROOT / "agents").rglob("*.py")]
    todo, found = [*agents, Path("streams/stage.py")], set[Path]()
    while todo:
        module = todo.pop()
        if module in found or str(module) in EDGES:
            continue
        found.add(module)
        ours = (file_of(name) for name in imports(module) if name.startswith("touchstream."))
        todo += [path for path in ours if path is not None]
    return sorted(found)


MODULES = reached()
EVERY_MODULE = pytest.mark.parametrize("module", MODULES, ids=str)


def names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def foreign_imports(module: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)} - {"touchstream"}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def local_times(tree: ast.AST) -> list[int]:
    """Lines where a time is read in the time zone of the machine."""
    return [
        call.lineno
        for call in calls(tree)
        if isinstance(call.func, ast.Attribute)
        and (
            (call.func.attr == "fromtimestamp" and len(call.args) + len(call.keywords) < 2)
            or (call.func.attr == "astimezone" and not call.args + call.keywords)
        )
    ]


def set_names(tree: ast.AST) -> set[str]:
    """Variables, attributes and fields that are annotated as sets or given one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            found.add(ast.unparse(node.target).removeprefix("self."))
        elif isinstance(node, ast.arg) and node.annotation and _is_set_type(node.annotation):
            found.add(node.arg)
        elif isinstance(node, ast.Assign) and _makes_set(node.value):
            found |= {ast.unparse(target).removeprefix("self.") for target in node.targets}
    return found


def _is_set_type(annotation: ast.AST) -> bool:
    kind = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return ast.unparse(kind) in SETS


def _makes_set(node: ast.AST) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return _makes_set(node.left) or _makes_set(node.right)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr in SET_METHODS
    return isinstance(node.func, ast.Name) and node.func.id in SETS


def _is_of_keys(node: ast.AST) -> bool:
    """`a.keys() | b.keys()` is a set; `a.keys()` alone has the order of the dict."""
    return isinstance(node, ast.BinOp) and any(
        isinstance(side, ast.Call)
        and isinstance(side.func, ast.Attribute)
        and side.func.attr == "keys"
        for side in (node.left, node.right)
    )


def unordered_walks(tree: ast.Module, fields: set[str]) -> list[str]:
    """What is gone through although it has no order, and the result may have one."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [walk for each in functions for walk in _walks(each, fields | set_names(each))]


def _walks(function: ast.FunctionDef, sets: set[str]) -> list[str]:
    return [
        ast.unparse(walked)
        for walked in _walked_in_order(function)
        if _makes_set(walked)
        or _is_of_keys(walked)
        or (
            isinstance(walked, ast.Name | ast.Attribute)
            and (ast.unparse(walked).rpartition(".")[2] in sets)
        )
    ]


def _walked_in_order(tree: ast.AST) -> Iterator[ast.AST]:
    harmless = {
        id(argument)
        for call in calls(tree)
        if isinstance(call.func, ast.Name) and call.func.id not in IN_ORDER
        for argument in call.args
        if isinstance(argument, ast.GeneratorExp)
    }  # any(...), all(...), sum(...), sorted(...), set(...): their answer has no order of its own
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            yield node.iter
        elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
            if id(node) not in harmless:
                yield from (generator.iter for generator in node.generators)
        elif isinstance(node, ast.Starred | ast.YieldFrom):
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IN_ORDER:
                yield from node.args
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("extend", "join"):
                yield from node.args
            elif node.func.attr == "pop" and not node.args:
                yield node.func.value


def all_set_names() -> set[str]:
    """Fields of structs are used far from where they are declared."""
    return {
        ast.unparse(item.target)
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and _is_set_type(item.annotation)
    }


FIELDS = all_set_names()


@EVERY_MODULE
def test_a_stage_imports_no_clock_no_randomness_and_no_input_or_output(module: Path) -> None:
    allowed = PURE | AT_START.get(str(module), set())
    assert foreign_imports(module) - allowed == set()


@EVERY_MODULE
def test_a_stage_asks_for_no_time_of_day(module: Path) -> None:
    assert attributes(tree_of(module)) & CLOCKS == set()


@EVERY_MODULE
def test_a_stage_reads_no_time_in_the_zone_of_the_machine(module: Path) -> None:
    assert local_times(tree_of(module)) == []


@EVERY_MODULE
def test_a_stage_opens_no_files_and_runs_no_text(module: Path) -> None:
    assert names(tree_of(module)) & OUTSIDE == set()


@EVERY_MODULE
def test_a_stage_asks_for_nothing_that_differs_between_processes(module: Path) -> None:
    called = {call.func.id for call in calls(tree_of(module)) if isinstance(call.func, ast.Name)}
    differing = {(str(module), name) for name in called & BY_PROCESS}
    assert differing - KEYS_FOR_A_MOMENT == set()


@EVERY_MODULE
def test_a_stage_goes_through_no_set_in_its_order(module: Path) -> None:
    walks = {(str(module), walk) for walk in unordered_walks(tree_of(module), FIELDS)}
    assert walks - TUPLES == set()


def test_every_exception_is_needed() -> None:
    for name in EDGES:
        assert any(file_of(each) == Path(name) for path in MODULES for each in imports(path)), name
    for name, modules in AT_START.items():
        assert foreign_imports(Path(name)) >= modules, name
    for name, walk in TUPLES:
        assert walk in unordered_walks(tree_of(Path(name)), FIELDS), name
    for name, called in KEYS_FOR_A_MOMENT:
        assert called in names(tree_of(Path(name))), name
    used = {name for module in MODULES for name in foreign_imports(module)}
    assert PURE - used == set()


STAGE = """
import msgspec
from datetime import datetime

class Thing(msgspec.Struct):
    parked: set[bytes] = set()

def apply(thing, seen: set[str], new):
    {line}
"""
WRONG: dict[str, Callable[[ast.AST], object]] = {
    "datetime.now()": lambda tree: attributes(tree) & CLOCKS,
    "datetime.fromtimestamp(0)": local_times,
    "open('x')": lambda tree: names(tree) & OUTSIDE,
}
WALKS = {
    "for one in thing.parked: send(one)": "thing.parked",
    "for one in seen: send(one)": "seen",
    "return [one for one in seen]": "seen",
    "return {one: 1 for one in seen}": "seen",
    "yield from seen": "seen",
    "send(*seen)": "seen",
    "return list(seen)": "seen",
    "return ','.join(one for one in seen)": "seen",
    "return next(iter(seen))": "seen",
    "return seen.pop()": "seen",
    "for one in {1, 2}: send(one)": "{1, 2}",
    "for one in set(new): send(one)": "set(new)",
    "for one in new.keys() | thing.keys(): send(one)": "new.keys() | thing.keys()",
    "found = {1} | new\n    for one in found: send(one)": "found",
}
HARMLESS = (
    "for one in sorted(seen): send(one)",
    "return any(one for one in seen)",
    "return {one for one in seen}",
    "return sorted(one for one in seen)",
    "return len(seen), max(seen), 'a' in seen",
    "for one in new: send(one)",
    "for one in new.keys(): send(one)",
)


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_would_be_found(line: str) -> None:
    assert WRONG[line](ast.parse(STAGE.format(line=line)))


@pytest.mark.parametrize("line", WALKS)
def test_a_walk_through_a_set_would_be_found(line: str) -> None:
    tree = ast.parse(STAGE.format(line=line))
    assert WALKS[line] in unordered_walks(tree, {"parked"})


@pytest.mark.parametrize("line", HARMLESS)
def test_what_has_no_order_of_its_own_is_left_alone(line: str) -> None:
    tree = ast.parse(STAGE.format(line=line))
    assert unordered_walks(tree, {"parked"}) == []
