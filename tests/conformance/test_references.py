"""What differs on purpose stands in the docs: every test that says so names a section that is there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "compatibility.md"
REFERENCE = re.compile(r'[Ss]ee "([^"]+)"(?: in docs/compatibility\.md)')


def test_every_difference_that_a_test_names_is_in_the_docs() -> None:
    named = {name for path in HERE.glob("*.py") for name in REFERENCE.findall(path.read_text("utf-8"))}
    sections = set(re.findall(r"^### (.+)$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert len(named) >= 8
    assert named <= sections
