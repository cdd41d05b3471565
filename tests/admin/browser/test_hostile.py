"""Whatever stands in the rows, pages show it and do nothing with it."""

from __future__ import annotations

import secrets
from urllib.parse import quote

import trio
from playwright.sync_api import Page, expect

from tests.admin.browser.chromium import Visit
from tests.admin.browser.looking import paths_of
from tests.admin.browser.rows import HOSTILE, fill
from trio_graphile import Client, Database

OPEN_ALL = """
    () => {
      for (const details of document.querySelectorAll("details")) details.open = true;
      for (const opener of document.querySelectorAll("button[data-opens]:not(:disabled)")) {
        opener.click();
        document.getElementById(opener.dataset.opens).close();
      }
    }
"""
LINKS = """
    [...document.querySelectorAll("a[href]")].map((link) => link.href)
      .filter((href) => !href.includes("/export") && !href.includes("/api/"))
"""


async def test_hostile_texts_in_every_column_stay_texts(visit: Visit, database: Database) -> None:
    rows = await fill(database, HOSTILE)

    def look(page: Page) -> list[str]:
        page.evaluate(OPEN_ALL)
        assert page.evaluate("window.pwned") is None
        assert page.locator("main img, main script, iframe").count() == 0
        assert "\u202e" not in page.locator("main").inner_text()
        links: list[str] = page.evaluate(LINKS)
        return links

    links: set[str] = set()
    with trio.fail_after(90):
        for path in paths_of(rows):
            await visit.open(path)
            links.update(await visit.do(look))
        assert all(link.startswith(f"{visit.base}/") for link in links), links
        hostile = sorted(link for link in links if "%3Cimg" in link)
        assert len(hostile) > 10
        for link in hostile[::3]:
            await visit.open(link.removeprefix(visit.base))
            await visit.do(look)


async def test_hostile_texts_are_filters_copied_and_what_actions_are_about(
    visit: Visit, database: Database
) -> None:
    rows = await fill(database, HOSTILE)

    def act(page: Page) -> None:
        page.locator(f"input[data-id='{rows.ready}']").check()
        page.locator("[data-copy=csv]").click()
        page.locator("[data-copy=csv], #copy-dialog").filter(visible=True).first.wait_for()
        page.evaluate("document.querySelector('#copy-dialog').close()")
        page.locator("button[data-opens=fail]").click()
        page.locator("dialog#fail [name=reason]").fill(HOSTILE)
        page.locator("dialog#fail [type=submit]").click()
        expect(page.locator("dialog#fail [data-result]")).to_contain_text("1 changed")
        page.locator("dialog#fail [data-closes]").click()
        expect(page.locator("#jobs")).to_contain_text("<img src=x")
        assert page.evaluate("window.pwned") is None

    with trio.fail_after(60):
        await visit.open(f"/jobs?identifier={quote(f'resize{HOSTILE}')}")
        await visit.do(act)


async def test_a_payload_of_a_megabyte_can_be_looked_at(visit: Visit, database: Database) -> None:
    # Not as small as repetitions would be where it is stored.
    payload = {"text": HOSTILE, "more": secrets.token_hex(500_000)}
    id_ = (await Client(database).add_raw_job("large", payload)).id

    def look(page: Page) -> None:
        expect(page.locator("#texts")).to_contain_text("characters; the address above has them all")
        assert 200_000 < len(page.locator("#payload-text").inner_text()) < 2_000_000
        assert page.evaluate("window.pwned") is None

    with trio.fail_after(60):
        await visit.open("/jobs")
        await visit.do(lambda page: expect(page.locator("#jobs")).to_contain_text("not shown here"))
        await visit.open(f"/jobs/{id_}")
        await visit.do(look)


async def test_it_would_be_noticed(visit: Visit) -> None:
    """What other tests rely on: markup that comes to life, and requests elsewhere, are complained about."""

    def break_in(page: Page) -> None:
        page.evaluate("(() => { try { document.body.innerHTML = '<img src=x>'; } catch {} })()")
        page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://localhost:9/x'}))")
        page.evaluate("fetch('http://localhost:9/y').catch(() => {})")

    with trio.fail_after(30):
        await visit.open("/jobs")
        await visit.do(break_in)
        await visit.do(lambda page: page.locator("h1").count())
    visit.forgive("TrustedHTML")
    assert len(visit.problems) >= 2
    visit.forgive("Content Security Policy")
