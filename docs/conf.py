"""How the pages are built: `nox -s docs`."""

from __future__ import annotations

import importlib.metadata
import inspect
from typing import Any

import attrs
from docutils.nodes import Element, TextElement
from pygments.lexers.sql import PostgresLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "trio_graphile"
author = "trio_graphile contributors"
project_copyright = "2026, trio_graphile contributors"
release = importlib.metadata.version("trio-graphile")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"trio_graphile {release}"

myst_heading_anchors = 3

# Reading order is the source's: what belongs together stands together there.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # os.environ is a fine default, and nothing to print
maximum_signature_line_length = 100
add_module_names = False
python_use_unqualified_type_names = True
default_role = "code"


def setup(app: Sphinx) -> None:
    app.add_lexer("sql", PostgresLexer)  # standard SQL has no $$
    app.connect("missing-reference", find_public_name)
    app.connect("autodoc-before-process-signature", show_defaults)
    app.connect("autodoc-process-docstring", leave_out_builtin)


class Elsewhere:
    """Stands for a default that is made anew each time, or is too long to print."""

    def __repr__(self) -> str:
        return "..."


def show_defaults(_app: Sphinx, obj: Any, _bound_method: bool) -> None:  # noqa: FBT001  # as Sphinx calls it
    """Show the values of defaults for a class of attrs: the code that it generates has no names for them."""
    if not getattr(getattr(obj, "__code__", None), "co_filename", "").startswith("<attrs generated"):
        return
    vars(obj).pop("__signature__", None)
    signature = inspect.signature(obj)
    parameters = [
        one.replace(default=Elsewhere())
        if one.default is attrs.NOTHING or len(repr(one.default)) > 40
        else one
        for one in signature.parameters.values()
    ]
    obj.__signature__ = signature.replace(parameters=parameters)


def leave_out_builtin(_app: Sphinx, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Leave out what Python says of a value by its class, frozenset say: the page says what the value is."""
    if what == "data" and type(obj).__module__ == "builtins":
        lines.clear()


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> Element | None:
    """Link a type to the public name it is documented under, not to the module that defines it."""
    target = node.get("reftarget", "")
    if not target.startswith("trio_graphile._"):
        return None
    public = f"trio_graphile.{target.rpartition('.')[2]}"
    python = env.domains.python_domain
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, content)
