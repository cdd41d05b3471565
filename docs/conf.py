"""How the pages are built: `nox -s docs`."""

from __future__ import annotations

import importlib.metadata

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
