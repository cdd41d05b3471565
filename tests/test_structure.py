"""Measured taste: what the tree, the modules and the repository promise to a reader."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import trio_graphile

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trio_graphile"
MODULES = sorted(PACKAGE.rglob("*.py"))

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "changelog.d",
    "docs",
    "examples",
    "noxfile.py",
    "pyproject.toml",
    "tests",
    "trio_graphile",
}
LONGEST_MODULE = 350
LONGEST_FUNCTION = 50
LONG_FUNCTION = 25  # what nine functions of ten stay within
MOST_FIELDS = 15
MOST_CALLABLES = 2  # of a class
MOST_CALLABLES_OF_WORKER = 12  # of all classes of `_worker`

# --- what is more than that, and why --------------------------------------------------------------

MANY_FIELDS = {
    "trio_graphile._model.jobs.Job": "a row of the table: a field for each column",
    "trio_graphile._model.job_json.ShownJob": "JSON that people read: a field for each column, and the state",
    "trio_graphile._model.job_json.ShownChange": "the same of a row that was changed",
    "trio_graphile._model.statistics.WorkerStatistics": "a snapshot, in which each field is one number",
}
MANY_CALLABLES = {
    "trio_graphile._model.options.WorkerOptions": "three kinds of flags, each of which users may compute",
}
UNEXPORTED = {"SessionsBusy": "users catch DatabaseUnavailable; only the pages of the admin tell it apart"}
UNITS = {
    # Seconds, all of them.
    "delay", "interval", "period", "threshold", "timeout",
    # What is counted is said by the words before, or by a comment.
    "length", "limit", "port", "revision", "share", "size", "version",
}  # fmt: skip
STILL_BARE = (
    "_worker/",
    "plugins/",
    "_model/claims.py",
    "_database/plain_claims.py",
    "_database/connection.py",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


NAMES = {module_name(path) for path in MODULES}


def imports_of(path: Path) -> set[str]:
    """The modules of the package that this one needs at run time, wherever in it the import stands."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in run_time_nodes(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, [base, node.module]))
            # `from package import module` needs the module; `from module import name` the module it is in.
            found.update(
                whole if (whole := f"{origin}.{alias.name}") in NAMES else origin for alias in node.names
            )
    return (found & NAMES) - {name}


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from run_time_nodes(node)


def functions() -> Iterator[tuple[str, int]]:
    """Each function of the package with the number of lines of its body, its docstring not counted."""
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, Function):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", body_lines(node)


def body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    end = body[-1].end_lineno
    assert end is not None
    return end - body[0].lineno + 1


def bare_constants() -> Iterator[str]:
    """Numbers at the top of modules of which nothing says what they count: no name, comment or docstring."""
    for path in MODULES:
        text = path.read_text()
        body = ast.parse(text).body
        for node, following in zip(body, [*body[1:], None], strict=True):
            if not isinstance(node, ast.Assign) or not is_number(node.value):
                continue
            name = ast.unparse(node.targets[0])
            has_docstring = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            has_comment = "#" in text.splitlines()[node.lineno - 1]
            if not (has_docstring or has_comment or has_unit(name)):
                yield f"{path.relative_to(PACKAGE)}: {name}"


def is_number(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return type(value) in {int, float}
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return is_number(left) and is_number(right)
        case _:
            return False


def has_unit(name: str) -> bool:
    """A plural counts what it names: `_MOST_TASKS`, `_LONG_TRANSACTION_SECONDS`."""
    words = name.casefold().split("_")
    return not UNITS.isdisjoint(words) or any(len(word) > 3 and word.endswith("s") for word in words)


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Each class of the package by its qualified name, those inside of functions too."""
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                yield f"{module_name(path)}.{node.name}", node


def fields_of(cls: ast.ClassDef) -> list[ast.AnnAssign]:
    """The fields that the body of a class declares."""
    declared = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    return [field for field in declared if "ClassVar" not in ast.unparse(field.annotation)]


def callable_types(tree: ast.Module) -> set[str]:
    """The names that a module gives to types of which the values are called."""
    found = set()
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                is_callable = "TypeAlias" in words_of(node.annotation) and "Callable" in words_of(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript(value=ast.Name(id="Callable"))):
                is_callable = True
            case ast.ClassDef(name=name):
                is_callable = is_protocol_of_a_call(node)
            case _:
                continue
        if is_callable:
            found.add(name)
    return found


def is_protocol_of_a_call(cls: ast.ClassDef) -> bool:
    methods = [node.name for node in cls.body if isinstance(node, Function)]
    return methods == ["__call__"] and any("Protocol" in words_of(base) for base in cls.bases)


def words_of(annotation: ast.expr) -> set[str]:
    return set(re.findall(r"\w+", ast.unparse(annotation)))


@functools.cache
def callables_held() -> dict[str, int]:
    """How many fields of each class hold something to be called, of the classes that hold any."""
    trees = {module_name(path): parsed(path) for path in MODULES}
    types = {module: callable_types(tree) for module, tree in trees.items()}
    held = {}
    for module, tree in trees.items():
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name in types.get(node.module or "", set())
        }
        names = {"Callable"} | types[module] | imported
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                count = sum(1 for field in fields_of(node) if words_of(field.annotation) & names)
                held[f"{module}.{node.name}"] = count
    return {name: count for name, count in held.items() if count}


def shell_commands(markdown: str) -> list[str]:
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module_name(path): imports_of(path) for path in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_every_module_can_be_read_in_one_sitting() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_no_class_has_many_fields() -> None:
    counts = {name: len(fields_of(cls)) for name, cls in classes()}
    assert {name for name, count in counts.items() if count > MOST_FIELDS} == MANY_FIELDS.keys()


def test_no_class_holds_many_functions() -> None:
    """Where a function is held, nobody can go to its definition: a named one is called instead."""
    held = callables_held()
    assert {name for name, count in held.items() if count > MOST_CALLABLES} == MANY_CALLABLES.keys()


def test_the_worker_calls_by_name() -> None:
    held = {name: count for name, count in callables_held().items() if "._worker." in name}
    assert sum(held.values()) <= MOST_CALLABLES_OF_WORKER, held


def test_every_function_fits_on_a_screen() -> None:
    assert {name: count for name, count in functions() if count > LONGEST_FUNCTION} == {}


def test_nine_functions_of_ten_are_short() -> None:
    lengths = [count for _, count in functions()]
    assert statistics.quantiles(lengths, n=10)[-1] <= LONG_FUNCTION


def test_every_number_says_what_it_counts() -> None:
    assert [name for name in bare_constants() if not name.startswith(STILL_BARE)] == []


@pytest.mark.parametrize("facade", ["trio_graphile", "trio_graphile.testing"])
def test_a_facade_knows_where_its_names_are(facade: str) -> None:
    module = importlib.import_module(facade)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    imports = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trio_graphile.")
    ]
    homes = {alias.name: node.module for node in imports for alias in node.names}
    assert homes == {name: f"{facade}.{home}" for name, home in vars(module)["_HOMES"].items()}
    assert all(alias.asname == alias.name for node in imports for alias in node.names)
    for name, home in homes.items():
        assert getattr(module, name) is getattr(importlib.import_module(str(home)), name)
    assert sorted(vars(module)["__all__"]) == sorted(homes)


@pytest.mark.parametrize("module", ["_exceptions", "_model.handler_exceptions"])
def test_every_exception_is_exported(module: str) -> None:
    home = f"trio_graphile.{module}"
    exceptions = {
        name
        for name, value in vars(importlib.import_module(home)).items()
        if isinstance(value, type) and value.__module__ == home
    }
    assert exceptions - set(vars(trio_graphile)["__all__"]) <= UNEXPORTED.keys()


def test_the_top_level_holds_what_a_newcomer_expects() -> None:
    entries = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith((".", "__pycache__"))}
    assert entries == TOP_LEVEL


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """`py.typed`, without which users get no types, and the SQL of the schema among them."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    present = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    assert shipped == {name for name in present if "__pycache__" not in name}
    assert "trio_graphile/py.typed" in shipped


def test_the_readme_and_ci_run_the_same_command() -> None:
    match = re.search(r"^test_command='(.*)'$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert match is not None
    assert match[1] in shell_commands((ROOT / "README.md").read_text())


def test_the_readme_has_one_line_for_the_first_program_and_one_for_the_tests() -> None:
    commands = shell_commands((ROOT / "README.md").read_text())
    assert [command.split()[0] for command in commands] == ["python3", "python3"]
    assert re.search(r"&& \.venv/bin/python (\S+)$", commands[0]), commands[0]


def test_every_changelog_fragment_is_named_for_its_number_and_kind() -> None:
    fragments = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.md"}
    misnamed = {
        name
        for name in fragments
        if not re.fullmatch(r"\d+\.(added|changed|fixed|removed)(\.\d+)?\.md", name)
    }
    assert misnamed == set()


def test_every_changelog_fragment_says_something() -> None:
    fragments = (ROOT / "changelog.d").glob("*.*.md")
    assert [path.name for path in fragments if not path.read_text().strip()] == []


def test_the_changelog_has_a_date_for_each_version_that_is_released() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    number, is_to_come, _ = version.partition(".dev")
    sections = re.findall(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    undated = [section for section, when in sections if not re.fullmatch(r"\d{4}-\d\d-\d\d", when)]
    if is_to_come:
        assert set(undated) <= {number}
        assert (number, "not released yet") in sections or number not in dict(sections)
    else:
        assert undated == []
        assert sections[0][0] == number
        assert list((ROOT / "changelog.d").glob("*.*.md")) == []
