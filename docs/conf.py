"""How the pages are built: `nox -s docs`."""

from __future__ import annotations

import importlib.metadata

from pygments.lexers.sql import PostgresLexer
from sphinx.application import Sphinx

project = "trio_graphile"
author = "trio_graphile contributors"
project_copyright = "2026, trio_graphile contributors"
release = importlib.metadata.version("trio-graphile")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"trio_graphile {release}"

myst_heading_anchors = 3

# Reading order is the source's: what belongs together stands together there.
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True
default_role = "code"


def setup(app: Sphinx) -> None:
    app.add_lexer("sql", PostgresLexer)  # standard SQL has no $$
