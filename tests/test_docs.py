"""What the documentation shows runs: a page's Python is one program, its SQL one script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trio_graphile.admin
import trio_graphile.embedded
import trio_graphile.hooks
import trio_graphile.testing
from trio_graphile import Connection
from trio_graphile._database.driver import shortcuts
from trio_graphile.plugins import logging, opentelemetry, pages, prometheus

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def pages_with(language: str) -> list[object]:
    return [pytest.param(page, id=page.stem) for page in PAGES if blocks(page, language)]


@pytest.mark.parametrize("page", pages_with("python"))
async def test_the_python_of_a_page_runs(page: Path, empty_database_url: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks(page, "python")))
    with trio.fail_after(60):
        run = await trio.run_process(
            [sys.executable, str(program)],
            check=False,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env=os.environ | {"DATABASE_URL": empty_database_url},
        )
    assert run.returncode == 0, run.stdout.decode()


@pytest.mark.parametrize("page", pages_with("sql"))
async def test_the_sql_of_a_page_runs(page: Path, connection: Connection) -> None:
    for statement in blocks(page, "sql"):
        await connection.execute(statement)


def test_the_reference_has_every_public_name() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    directives = r"^\.\. auto(?:class|data|function|exception):: (?:trio_graphile\.plugins\.\w+\.)?(\w+)"
    documented = set(re.findall(directives, reference, re.MULTILINE))
    packages = (
        trio_graphile,
        trio_graphile.admin,
        trio_graphile.embedded,
        trio_graphile.hooks,
        trio_graphile.testing,
    )
    modules = (*packages, logging, opentelemetry, pages, prometheus)
    public = {name for module in modules for name in module.__all__}
    assert documented == public


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_page_of_versions_names_every_shortcut() -> None:
    page = (ROOT / "docs" / "versions.md").read_text().partition("## Shortcuts")[2]
    first_cells = "\n".join(re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE))
    all_ = [value for value in vars(shortcuts).values() if isinstance(value, shortcuts.Shortcut)]
    assert sorted(re.findall(r"`(\w+)`", first_cells)) == sorted(shortcut.name for shortcut in all_)


def test_the_page_of_the_program_is_what_the_program_says(tmp_path: Path) -> None:
    """If not: `python docs/cli_page.py`."""
    docs = ROOT / "docs"
    subprocess.run([sys.executable, docs / "cli_page.py", tmp_path / "cli.md"], check=True)
    assert (tmp_path / "cli.md").read_text() == (docs / "cli.md").read_text()
