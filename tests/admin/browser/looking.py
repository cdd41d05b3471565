"""What is asked of every page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.admin.browser.rows import Rows
from tests.npm import installed

AXE_VERSION = "4.14.1"
AXE_RUN = "async (within) => (await axe.run(within, {resultTypes: ['violations']})).violations"


def paths_of(rows: Rows) -> list[str]:
    """The paths of all pages, those of jobs that differ in what they show included."""
    jobs = [rows.ready, rows.waiting, rows.running, rows.failed[0]]
    sections = ("failures", "tasks", "queues", "workers", "recurring", "maintenance")
    lists = ["/jobs", "/jobs?state=failed&order=latest-failure", "/jobs?search=nothing", "/jobs/add"]
    return [
        "/",
        *lists,
        f"/jobs/add?like={rows.ready}",
        *(f"/jobs/{id_}" for id_ in jobs),
        *(f"/{name}" for name in sections),
    ]


def axe_script() -> str:
    """The library that looks for what keeps people out."""
    folder: Path = installed("axe-core", AXE_VERSION)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


def violations(page: Page, script: str, within: str = "html") -> list[str]:
    """What axe finds on a page, a line each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(script)
    found: list[dict[str, Any]] = page.evaluate(AXE_RUN, within)
    return [
        f"{page.url} {rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


def sideways(page: Page, width: int) -> list[str]:
    """What makes a page wider than a window of so many pixels."""
    page.set_viewport_size({"width": width, "height": 800})
    found: list[str] = page.evaluate(
        """(width) => document.documentElement.scrollWidth <= width ? [] :
          [...document.querySelectorAll("body *")]
            .filter((node) => node.getBoundingClientRect().right > width + 1)
            .map((node) => node.outerHTML.slice(0, 160)).slice(0, 5)
            .concat([`${location.pathname} is ${document.documentElement.scrollWidth} wide`])""",
        width,
    )
    return found
