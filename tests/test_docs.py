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
from tests.support.documents import DOCS, PAGES, ROOT, anchors, blocks
from tests.support.plugin_path import plugin_path
from trio_graphile import Connection, ShutdownOptions
from trio_graphile._database.driver import shortcuts
from trio_graphile.plugins import logging, opentelemetry, pages, prometheus


def pages_with(language: str) -> list[object]:
    return [pytest.param(page, id=name_of(page)) for page in PAGES if blocks(page, language)]


def packages_for(page: Path) -> list[str]:
    """Return what a page says that it needs besides the packages of the tests: the session `docs` has it."""
    return " ".join(re.findall(r"^% needs: (.+)$", page.read_text(), re.MULTILINE)).split()


def name_of(page: Path) -> str:
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).with_suffix("").as_posix()


@pytest.mark.dealt
@pytest.mark.parametrize("page", pages_with("python"))
async def test_the_python_of_a_page_runs(page: Path, empty_database_url: str, tmp_path: Path) -> None:
    for name in packages_for(page):
        pytest.importorskip(name)
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks(page, "python")))
    with trio.fail_after(60):
        run = await trio.run_process(
            [sys.executable, str(program)],
            check=False,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env=os.environ | {"DATABASE_URL": empty_database_url, "PYTHONPATH": plugin_path(tmp_path)},
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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_headings_that_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*\.md)?#([^)]+)\)", page.read_text())
    targets = [(page.parent / file if file else page, heading) for file, heading in links]
    assert [(file.name, heading) for file, heading in targets if heading not in anchors(file)] == []


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


def test_the_commands_and_flags_that_pages_show_exist() -> None:
    """Of any `trio-graphile COMMAND --flag`, in a line of code or in a file beside the pages."""
    program = (DOCS / "cli.md").read_text()
    known_commands = set(re.findall(r"^Usage: trio-graphile ([a-z-]+)", program, re.MULTILINE))
    known_flags = set(re.findall(r"--[a-z][a-z.-]+", program)) | {"--version"}
    shown = re.compile(r"trio-graphile((?: +[^\s`|]+)+)")
    wrong = []
    for page in [*PAGES, *(path for path in (DOCS / "operations").iterdir() if path.suffix != ".md")]:
        for line in shown.findall(page.read_text()):
            words = line.split()
            if re.fullmatch("[a-z][a-z-]+", words[0]) and words[0] not in known_commands:
                wrong.append((page.name, words[0]))
            flags = {re.sub("[=).,:;\"'].*", "", word) for word in words if word.startswith("--")}
            wrong += [(page.name, flag) for flag in flags - known_flags]
    assert wrong == []


def test_the_times_of_the_files_for_deployments_fit_the_defaults() -> None:
    defaults = ShutdownOptions()
    needed = defaults.grace_period + defaults.flush_timeout
    folder = DOCS / "operations"
    for file, pattern in {
        "trio-graphile.service": r"^TimeoutStopSec=(\d+)$",
        "compose.yaml": r"^ +stop_grace_period: (\d+)s$",
        "kubernetes.yaml": r"^ +terminationGracePeriodSeconds: (\d+)$",
    }.items():
        [granted] = re.findall(pattern, (folder / file).read_text(), re.MULTILINE)
        assert needed < int(granted), file
