"""The lists of the examples and of what tests them: their entries are the programs and pages that exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.documents import blocks

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "example_database.py")
GUIDES = ROOT / "docs" / "how-to"
TESTED = (GUIDES / "index.md").read_text().partition("\n## What tests them\n")[2]


def test_the_list_has_each_example_once() -> None:
    listed = re.findall(r"^- `(\w+\.py)`: ", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == PROGRAMS


def test_each_how_to_page_stands_once_among_what_is_tested_with_what_of_it_runs() -> None:
    rows = re.findall(r"^\| \[[^]]+\]\(([\w-]+\.md)\) \| (.*?) \| `tests/", TESTED, re.MULTILINE)
    pages = sorted(path for path in GUIDES.glob("*.md") if path.name != "index.md")
    assert sorted(rows) == [
        (page.name, ", ".join(language for language in ("Python", "SQL") if blocks(page, language.lower())))
        for page in pages
    ]


def test_each_example_stands_once_among_what_is_tested() -> None:
    assert sorted(re.findall(r"^\| `examples/(\w+\.py)` \| `tests/", TESTED, re.MULTILINE)) == PROGRAMS


def test_the_tests_that_are_named_there_exist() -> None:
    named = set(re.findall(r"`(tests/.+?)`", TESTED)) | {"tests/test_docs.py"}
    assert {file for file in named if not (ROOT / file).is_file()} == set()
