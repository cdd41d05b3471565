"""Everything without a mouse."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from playwright.sync_api import Page, expect

from tests.admin.browser.chromium import Visit
from tests.admin.browser.rows import Rows
from trio_graphile import Client, Database

REACHABLE = """
    [...document.querySelectorAll(
      "a[href], button:not(:disabled), input:not([type=hidden]):not(:disabled), select, textarea, " +
      "summary, [tabindex='0']"
    )].filter((node) => node.checkVisibility({visibilityProperty: true}) && !node.closest("dialog"))
"""
LOOK = """
    () => {
      const node = document.activeElement;
      wanted.delete(node);
      const { outlineStyle, outlineWidth } = getComputedStyle(node);
      const isShown = outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
      return node === document.body || isShown ? null : node.outerHTML.slice(0, 120);
    }
"""
"""Returns what has the focus and does not show it."""


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    with trio.fail_after(60):
        yield


async def test_keys_go_through_a_list(visit: Visit, rows: Rows) -> None:
    def walk(page: Page) -> str:
        keys = page.keyboard
        for key in ("j", "j", "k", "x"):
            keys.press(key)
        expect(page.locator("#selected-count")).to_have_text("1 selected")
        keys.press("j")
        keys.press("x")
        expect(page.locator("#selected-count")).to_have_text("2 selected")
        keys.press("x")
        expect(page.locator("#selected-count")).to_have_text("1 selected")
        keys.press("/")
        expect(page.locator("[data-search]")).to_be_focused()
        keys.type("jxg?")  # is text there
        expect(page.locator("[data-search]")).to_have_value("jxg?")
        keys.press("Shift+Tab")
        keys.press("?")
        expect(page.locator("#keys-dialog")).to_be_visible()
        keys.press("Escape")
        expect(page.locator("#keys-dialog")).to_be_hidden()
        keys.press("j")
        focused: str = page.evaluate("document.activeElement.getAttribute('href')")
        keys.press("Enter")
        return focused

    await visit.open("/jobs")
    opened = await visit.do(walk)
    await visit.arrive(opened)
    await visit.do(lambda page: page.keyboard.press("g"))
    await visit.do(lambda page: page.keyboard.press("w"))
    await visit.arrive("/workers")


async def test_keys_can_be_switched_off(visit: Visit, rows: Rows) -> None:
    def switch_off(page: Page) -> None:
        page.get_by_role("button", name="Keys").click()
        page.locator("#keys-switch").uncheck()
        page.keyboard.press("Escape")
        page.locator("h1").click()
        page.keyboard.press("j")
        page.keyboard.press("?")
        expect(page.locator("#keys-dialog")).to_be_hidden()
        assert page.evaluate(
            "document.activeElement === document.body || document.activeElement.id === 'main'"
        )

    await visit.open("/jobs")
    await visit.do(switch_off)


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/1", "/jobs/add"])
async def test_tab_reaches_everything_and_shows_where_it_is(visit: Visit, rows: Rows, path: str) -> None:
    def go_round(page: Page) -> tuple[list[str], list[str]]:
        page.evaluate(f"window.wanted = new Set({REACHABLE})")
        wanted: int = page.evaluate("wanted.size")
        hidden = []
        for _ in range(wanted + 20):  # a field for a time has several stops
            page.keyboard.press("Tab")
            if unseen := page.evaluate(LOOK):
                hidden.append(unseen)
        missed: list[str] = page.evaluate("[...wanted].map((node) => node.outerHTML.slice(0, 120))")
        return missed, hidden

    await visit.open(path)
    # What is fetched anew meanwhile would be another element.
    await visit.do(lambda page: page.locator("#live-switch").uncheck() if path != "/jobs/add" else None)
    assert await visit.do(go_round) == ([], [])


async def test_a_dialog_keeps_the_focus_and_gives_it_back(
    visit: Visit, rows: Rows, database: Database
) -> None:
    def act(page: Page) -> None:
        opener = page.locator("button[data-opens=fail]")
        opener.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog#fail")
        expect(dialog).to_be_visible()
        for _ in range(8):
            # The browser's own controls come after the last one of the dialog; nothing of the page does.
            assert page.evaluate(
                "document.activeElement === document.body || !!document.activeElement.closest('dialog#fail')"
            )
            page.keyboard.press("Tab")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(opener).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        dialog.locator("[name=reason]").focus()
        page.keyboard.type("too late")
        expect(dialog.locator("[name=reason]")).to_have_value("too late")
        page.keyboard.press("Enter")
        answer = dialog.locator("[data-result], [data-error]").filter(visible=True)
        expect(answer).to_have_text("1 changed.")

    await visit.open(f"/jobs/{rows.ready}")
    await visit.do(act)
    failed = await Client(database).job(rows.ready)
    assert failed is not None
    assert failed.job.last_error == "too late"


async def test_the_first_tab_skips_the_menu(visit: Visit, rows: Rows) -> None:
    def skip(page: Page) -> None:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()

    await visit.open("/jobs")
    await visit.do(skip)
