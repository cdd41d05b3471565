"""Pages refresh by themselves, except where somebody would be disturbed."""

from __future__ import annotations

import trio
from playwright.sync_api import Page, expect

from tests.admin.browser.chromium import Visit
from tests.admin.browser.rows import Rows
from trio_graphile import Database

ADD = "select id from graphile_worker.add_job($1::text)"


def ready(page: Page, count: int) -> None:
    expect(page.locator(".counters a.ready strong")).to_have_text(str(count))


async def test_a_job_that_sql_adds_is_counted_without_a_reload(visit: Visit, database: Database) -> None:
    with trio.fail_after(45):
        await visit.open("/", "#live-state[data-state=on]")
        await visit.do(lambda page: page.evaluate("window.same = true"))
        await visit.do(ready, 0)
        await database.execute(ADD, "by_sql")
        await visit.do(ready, 1)
        assert await visit.do(lambda page: page.evaluate("window.same"))


async def test_nothing_moves_while_something_is_chosen(visit: Visit, rows: Rows, database: Database) -> None:
    def choose(page: Page) -> None:
        page.locator(f"input[data-id='{rows.ready}']").check()

    def wait(page: Page) -> None:
        expect(page.locator("#live-state")).to_have_text("Paused: 1 selected")
        expect(page.get_by_text("by_sql")).to_have_count(0)
        page.locator(f"input[data-id='{rows.ready}']").uncheck()
        page.locator("#jobs").get_by_text("by_sql").wait_for()

    with trio.fail_after(45):
        await visit.open("/jobs", "#live-state[data-state=on]")
        await visit.do(choose)
        await database.execute(ADD, "by_sql")
        await visit.do(wait)


async def test_it_can_be_switched_off_and_stays_off(visit: Visit, database: Database) -> None:
    def off(page: Page) -> None:
        expect(page.locator("#live-switch")).not_to_be_checked()
        expect(page.locator("#live-state")).not_to_have_attribute("data-state", "on")

    with trio.fail_after(45):
        await visit.open("/", "#live-state[data-state=on]")
        await visit.do(lambda page: page.locator("#live-switch").uncheck())
        await visit.open("/tasks")
        await visit.do(off)
        await database.execute(ADD, "by_sql")
        await visit.do(lambda page: page.locator("#live-switch").check())
        await visit.do(lambda page: page.locator("main").get_by_text("by_sql").wait_for())


async def test_the_focus_and_what_is_open_stay_where_they_were(
    visit: Visit, rows: Rows, database: Database
) -> None:
    def focus(page: Page) -> None:
        page.locator(".counters a.ready").focus()
        page.locator("#chart-1-table summary").click()
        page.locator(".counters a.ready").focus()

    def same(page: Page) -> None:
        ready(page, 3)
        expect(page.locator(".counters a.ready")).to_be_focused()
        expect(page.locator("#chart-1-table")).to_have_attribute("open", "")

    with trio.fail_after(45):
        await visit.open("/", "#live-state[data-state=on]")
        await visit.do(ready, 2)
        await visit.do(focus)
        await database.execute(ADD, "by_sql")
        await visit.do(same)
