"""The list of the examples: its entries are the programs that exist."""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_list_has_each_example_once() -> None:
    listed = re.findall(r"^- `(\w+\.py)`: ", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    programs = [path.name for path in EXAMPLES.glob("*.py") if path.name != "example_database.py"]
    assert sorted(listed) == sorted(programs)
