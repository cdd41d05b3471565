"""Lists the concepts on the way of a claim, as the code has them, and writes the list into `house.md`.

python docs/claim_concepts.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs

PACKAGE = Path(__file__).parents[1] / "trio_graphile"
PAGE = Path(__file__).with_name("house.md")
BEGIN, END = "<!-- begin: python docs/claim_concepts.py -->", "<!-- end -->"

# The modules that a claim goes through, from the prefetcher to the statement and back.
ROOMS = {
    "When to claim": (
        "_worker/prefetcher.py",
        "_model/local_queue.py",
        "_worker/announcements.py",
        "_worker/refetch_delay.py",
        "_worker/lease_term.py",
    ),
    "How to claim": (
        "_worker/claims.py",
        "_worker/claim_rules.py",
        "_model/bounds.py",
        "_database/claiming/claimer.py",
        "_database/claiming/source.py",
        "_database/claiming/memory.py",
        "_database/claiming/look_back.py",
        "_database/claiming/conditions.py",
        "_database/claiming/plain_claims.py",
        "_database/claiming/claims.py",
    ),
    "What is held": (
        "_worker/ledger.py",
        "_worker/local_queue.py",
        "_worker/held_jobs.py",
        "_worker/slots.py",
    ),
}

# What the modules import besides is public and stands in the reference: exceptions, options, events, logs.
PUBLIC = ("_exceptions", "_model.options", "hooks.")


@attrs.frozen(kw_only=True)
class Concept:
    """A class, a union of classes, or a statement."""

    name: str
    path: str
    """Of its module, from the package on."""
    state: tuple[str, ...] = ()
    """The attributes of its own that change."""
    uses: tuple[str, ...] = ()
    """What else of the package it names."""


def concepts_of(path: str) -> list[Concept]:
    """Return the concepts that a module defines. A private class is a part of the one that uses it."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    classes, unions = classes_of(tree), unions_of(tree)
    members = {member for union in unions.values() for member in union}
    known = (imported(tree) | classes.keys() | unions.keys()) - members
    found = [
        Concept(
            name=name,
            path=path,
            state=tuple(state_of(cls)),
            uses=tuple(sorted(names_in(cls) & known - {name})),
        )
        for name, cls in classes.items()
        if not name.startswith("_") and name not in members
    ]
    statements = [name for name, text in assigned(tree) if text.startswith("Statement(")]
    return found + [Concept(name=name, path=path) for name in (*unions, *statements)]


def classes_of(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def unions_of(tree: ast.Module) -> dict[str, list[str]]:
    """Return the unions of classes of the module, with their members."""
    split = {name: text.split(" | ") for name, text in assigned(tree)}
    classes = classes_of(tree)
    return {
        name: members for name, members in split.items() if len(members) > 1 and classes.keys() >= {*members}
    }


def assigned(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the constants of a module and what they are set to."""
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield ast.unparse(target), ast.unparse(node.value)


def imported(tree: ast.Module) -> set[str]:
    """Return the classes and statements that a module has from other modules of the package."""
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trio_graphile.")
        if not (node.module or "").removeprefix("trio_graphile.").startswith(PUBLIC)
        for alias in node.names
        if alias.name[0].isupper()
    }


def names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def state_of(cls: ast.ClassDef) -> list[str]:
    """Return the attributes that methods set, and containers and the like that begin empty."""
    is_set = {
        inner.attr
        for node in ast.walk(cls)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.withitem))
        for target in targets_of(node)
        for inner in ast.walk(target)
        if isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "self"
    }
    return [
        field.target.id
        for field in cls.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if field.target.id in is_set or (field.value is not None and "factory=" in ast.unparse(field.value))
    ]


def targets_of(node: ast.Assign | ast.AugAssign | ast.withitem) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets):
            return targets
        case ast.AugAssign(target=target):
            return [target]
        case _:
            return [] if node.optional_vars is None else [node.optional_vars]


def listing() -> str:
    """Return the list as the page has it."""
    rooms = {title: [c for path in paths for c in concepts_of(path)] for title, paths in ROOMS.items()}
    everything = [concept for concepts in rooms.values() for concept in concepts]
    own = {concept.name for concept in everything} | parts()
    foreign = sorted({name for concept in everything for name in concept.uses} - own)
    most = max(map(to_change, everything))
    lines = [f"There are **{len(everything)} concepts** on the way; to change one takes **{most}** at most."]
    for title, concepts in rooms.items():
        lines += ["", f"**{title}** ({len(concepts)})", ""]
        lines += ["| concept | state of its own | to change it |", "| --- | --- | --- |"]
        lines += map(row, concepts)
    lines += [
        "",
        f"Together they keep {sum(len(concept.state) for concept in everything)} attributes of state. "
        "They also name what belongs to the whole package: "
        + ", ".join(f"`{name}`" for name in foreign)
        + ".",
    ]
    return "\n".join(lines)


def parts() -> set[str]:
    """Return the classes that are parts of concepts: members of unions, and private ones."""
    trees = [
        ast.parse((PACKAGE / path).read_text(encoding="utf-8")) for paths in ROOMS.values() for path in paths
    ]
    return {name for tree in trees for name in classes_of(tree)}


def to_change(concept: Concept) -> int:
    """Return how much has to be known to change it."""
    return len(concept.state) + len(concept.uses)


def row(concept: Concept) -> str:
    link = f"[`{concept.name}`](../trio_graphile/{concept.path})"
    state = ", ".join(f"`{name}`" for name in concept.state)
    return f"| {link} | {state} | {to_change(concept) or ''} |"


def written(page: str) -> str:
    """Return the page with the list as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{listing()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
