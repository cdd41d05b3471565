"""The page for contributors is true: its links lead somewhere, and each function names the next."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "house.md").read_text(encoding="utf-8")
MOST_CONCEPTS = 28
MOST_TO_CHANGE_ONE = 20

LINK = re.compile(r"\[`([\w.]+)`\]\((\.\./trio_graphile/[\w/]+\.py)\)")
HOP = re.compile(rf"^( *)- {LINK.pattern}")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@attrs.frozen
class Hop:
    """A function, or a statement, on the way of a payload."""

    name: str
    file: str
    depth: int
    """How many spaces stand before it."""

    def __str__(self) -> str:
        return self.name


@functools.cache
def definitions(file: str) -> dict[str, ast.stmt]:
    """What a module defines, and its classes, by qualified names."""
    return {
        f"{prefix}{name}": node
        for prefix, body in bodies(ast.parse((DOCS / file).read_text(encoding="utf-8")))
        for node in body
        for name in names_of(node)
    }


def bodies(tree: ast.Module) -> Iterator[tuple[str, list[ast.stmt]]]:
    yield "", tree.body
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield f"{node.name}.", node.body


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def calls() -> list[tuple[Hop, Hop]]:
    """Each hop of the page that stands below another, after the one that it stands below."""
    pairs: list[tuple[Hop, Hop]] = []
    above: list[Hop] = []
    for line in section("The way of a payload").splitlines():
        if line.startswith("#"):
            above.clear()
        if (match := HOP.match(line)) is None:
            continue
        hop = Hop(match[2], match[3], len(match[1]))
        while above and above[-1].depth >= hop.depth:
            above.pop()
        if above:
            pairs.append((above[-1], hop))
        above.append(hop)
    return pairs


def names_in(node: ast.AST) -> set[str]:
    """The names and attributes that the code of a function has, not its strings and comments."""
    inner = list(ast.walk(node))
    return {node.id for node in inner if isinstance(node, ast.Name)} | {
        node.attr for node in inner if isinstance(node, ast.Attribute)
    }


def claim_concepts() -> Any:
    spec = importlib.util.spec_from_file_location("claim_concepts", DOCS / "claim_concepts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "file"), sorted(set(LINK.findall(PAGE))))
def test_what_the_page_names_is_where_it_links_to(name: str, file: str) -> None:
    assert name in definitions(file)


def test_the_page_follows_a_payload_in_five_parts() -> None:
    roots = [line for line in section("The way of a payload").splitlines() if line.startswith("- ")]
    assert len(roots) == 5
    assert len(calls()) > 60


@pytest.mark.parametrize(("caller", "called"), calls(), ids=str)
def test_each_hop_calls_the_next_by_its_name(caller: Hop, called: Hop) -> None:
    function = definitions(caller.file)[caller.name]
    assert isinstance(function, Function)
    assert called.name.rpartition(".")[2] in names_in(function)


def test_the_floors_are_those_that_the_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("(", "").replace(")", "") for layer in contracts[0]["layers"]]
    drawn = section("Floors").partition("```text\n")[2].partition("```")[0]
    names = [re.split(r" {2,}", line.strip())[0].replace("·", "|") for line in drawn.splitlines()]
    assert names == layers


def test_the_concepts_on_the_way_of_a_claim_are_those_of_the_code() -> None:
    """If not: `python docs/claim_concepts.py`."""
    assert claim_concepts().written(PAGE) == PAGE


def test_the_concepts_on_the_way_of_a_claim_are_few() -> None:
    """To follow the way, and to change any one of them."""
    module = claim_concepts()
    concepts = [
        found for paths in module.ROOMS.values() for path in paths for found in module.concepts_of(path)
    ]
    assert len({concept.name for concept in concepts}) == len(concepts) <= MOST_CONCEPTS
    assert max(map(module.to_change, concepts)) <= MOST_TO_CHANGE_ONE


def test_the_concepts_are_of_all_modules_that_the_way_leads_through() -> None:
    """What the page follows from the prefetcher on, but for what the whole package uses."""
    way = PAGE.partition("### It is claimed\n")[2].partition("###")[0]
    files = {file.removeprefix("../trio_graphile/") for _, file in LINK.findall(way)}
    rooms = {path for paths in claim_concepts().ROOMS.values() for path in paths}
    assert files - rooms == {"_database/rows.py", "_database/statements.py"}


def test_the_folders_that_the_page_names_exist() -> None:
    paths = re.findall(r"`((?:tests|docs|trio_graphile|admin|hooks)/[\w/.]+)`", PAGE)
    missing = [
        path for path in paths if not ((ROOT / path).exists() or (ROOT / "trio_graphile" / path).exists())
    ]
    assert len(paths) > 10
    assert missing == []
