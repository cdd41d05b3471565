"""Each page opens wherever the admin stands, for everybody, on every screen."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from playwright.sync_api import Page

from tests.admin.browser.chromium import Chromium, Visit, visiting
from tests.admin.browser.looking import axe_script, paths_of, sideways, violations
from tests.admin.browser.rows import HOSTILE, Rows, fill
from tests.admin.browser.site import Place, serving
from trio_graphile import Client, Database

WIDTHS = (380, 660, 830, 1000, 1110, 1280)
"""Of phones, tablets and screens, where the layout changes."""


@pytest.fixture(scope="session", name="axe")
def _axe() -> str:
    return axe_script()


@pytest.mark.parametrize("place", Place)
async def test_each_page_opens_and_leads_to_pages(
    chromium: Chromium, database: Database, rows: Rows, place: Place
) -> None:
    def links(page: Page) -> list[str]:
        found: list[str] = page.evaluate("[...document.querySelectorAll('a[href]')].map((link) => link.href)")
        return found

    with trio.fail_after(60):
        async with serving(Client(database), place=place) as base, visiting(chromium, base) as visit:
            for path in paths_of(rows):
                await visit.open(path, "h1")
                for link in await visit.do(links):
                    assert link.startswith(f"{base}/") or link == base, (path, link)
            await visit.do(lambda page: page.locator("nav a[data-key=j]").click())
            await visit.arrive("/jobs")
            await visit.do(lambda page: page.locator("#live-state[data-state=on]").wait_for())


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_nobody_is_kept_out(
    visit: Visit, rows: Rows, axe: str, theme: Literal["light", "dark"]
) -> None:
    found: list[str] = []
    seen: set[str] = set()
    with trio.fail_after(90):
        await visit.do(lambda page: page.emulate_media(color_scheme=theme))
        for path in paths_of(rows):
            await visit.open(path)
            await visit.do(_open_details)
            found += await visit.do(violations, axe)
            for dialog in await visit.do(_dialogs):
                if dialog not in seen:
                    await visit.do(_show, dialog)
                    found += await visit.do(violations, axe, within=f"#{dialog}")
            seen.update(await visit.do(_dialogs))
    assert {"complete", "sweep", "cleanup", "retry-group", "keys-dialog"} <= seen
    assert found == []


def _open_details(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")


def _dialogs(page: Page) -> list[str]:
    found: list[str] = page.evaluate("[...document.querySelectorAll('dialog')].map((dialog) => dialog.id)")
    return found


def _show(page: Page, dialog: str) -> None:
    page.evaluate(
        """(id) => { for (const open of document.querySelectorAll('dialog[open]')) open.close();
          document.getElementById(id).showModal(); }""",
        dialog,
    )


@pytest.mark.parametrize("text", ["", HOSTILE], ids=["plain", "hostile"])
async def test_no_page_scrolls_sideways(chromium: Chromium, database: Database, site: str, text: str) -> None:
    rows = await fill(database, text)
    found: list[str] = []
    with trio.fail_after(60):
        async with visiting(chromium, site, viewport={"width": 380, "height": 800}) as visit:
            for path in paths_of(rows):
                await visit.open(path)
                await visit.do(_open_details)
                for width in WIDTHS:
                    found += await visit.do(sideways, width)
    assert found == []


async def test_each_chart_has_its_table(visit: Visit, rows: Rows) -> None:
    def tables(page: Page) -> list[tuple[str, int, int]]:
        return [
            (
                chart.locator("h3").inner_text(),
                chart.locator("path[class]:not(.grid-line)").count(),
                chart.locator("tbody tr").count(),
            )
            for chart in page.locator("figure.chart").all()
        ]

    with trio.fail_after(30):
        await visit.open("/")
        found = await visit.do(tables)
    assert len(found) >= 4
    for title, lines, in_table in found:
        assert lines > 0, title
        assert in_table >= 50, title
