"""Without a script, with a theme, and from other sites."""

from __future__ import annotations

from functools import partial

import trio
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.admin.browser.chromium import Chromium, Visit, visiting
from tests.admin.browser.looking import paths_of
from tests.admin.browser.rows import Rows
from tests.admin.browser.site import serving
from trio_graphile import Client, Database
from trio_graphile.admin import AdminOptions, LoginOptions, serve_admin

SECRET = "swordfish-1"


async def test_without_a_script_pages_are_read_filtered_and_turned(
    chromium: Chromium, site: str, rows: Rows, database: Database
) -> None:
    await Client(database).add_raw_jobs([("many", number) for number in range(60)])

    def read(page: Page) -> None:
        for path in paths_of(rows):
            page.goto(f"{site}{path}")
            assert page.locator("h1").inner_text()
            assert page.locator(".needs-script:visible").count() == 0
        page.goto(f"{site}/jobs")
        page.get_by_role("checkbox", name="Failed").check()
        page.get_by_role("combobox", name="Task").fill("resize")
        page.get_by_role("button", name="Show").click()
        assert page.locator("tr[data-job]").count() == 3
        assert "state=failed" in page.url
        page.goto(f"{site}/jobs?limit=25")
        first = page.locator("a[data-row]").first.inner_text()
        page.get_by_role("link", name="Next page").click()
        assert page.locator("a[data-row]").first.inner_text() != first
        page.get_by_role("link", name="Previous page").click()
        assert page.locator("a[data-row]").first.inner_text() == first

    with trio.fail_after(60):
        async with visiting(chromium, site, java_script_enabled=False) as visit:
            await visit.do(read)


async def test_a_theme_comes_with_the_page(visit: Visit, rows: Rows) -> None:
    async def theme_sent(path: str) -> bool:
        def sent(page: Page) -> bool:
            answer = page.goto(f"{visit.base}{path}")
            assert answer is not None
            return '<html lang="en" data-theme="dark">' in answer.text()

        return await visit.do(sent)

    with trio.fail_after(30):
        await visit.open("/jobs")
        await visit.do(lambda page: page.locator("#theme").select_option("dark"))
        assert await theme_sent("/")
        assert await theme_sent(f"/jobs/{rows.ready}")
        await visit.do(lambda page: expect(page.locator("#theme")).to_have_value("dark"))
        assert (
            await visit.do(
                lambda page: page.evaluate("getComputedStyle(document.documentElement).colorScheme")
            )
            == "dark"
        )


def other_site(admin: str) -> Starlette:
    """A site of somebody else's with a link to the admin, that also asks the admin by itself."""

    async def page(request: Request) -> Response:
        return HTMLResponse(
            f'<link rel="icon" href="data:,"><a href="{admin}/jobs?state=failed">a link</a>'
            '<script src="/script"></script>'
        )

    async def script(request: Request) -> Response:
        text = f"""
            window.got = [];
            const stream = new EventSource("{admin}/api/events", {{ withCredentials: true }});
            stream.onmessage = stream.onopen = () => got.push("stream");
            stream.addEventListener("overview", () => got.push("overview"));
            window.refused = Promise.all([
              new Promise((resolve) => {{ stream.onerror = resolve; }}),
              ...["include", "omit"].map((credentials) =>
                fetch("{admin}/api/overview", {{ credentials }}).then(() => got.push("fetch"), () => null)),
              fetch("{admin}/api/overview", {{ mode: "no-cors", credentials: "include" }})
                .then((answer) => answer.text()).then((text) => text && got.push(text), () => null),
              fetch("{admin}/api/jobs", {{ method: "POST", mode: "no-cors", credentials: "include",
                body: '{{"identifier": "evil"}}' }}).catch(() => null),
            ]);
        """
        return Response(text, media_type="text/javascript")

    return Starlette(routes=[Route("/", page), Route("/script", script)])


async def test_another_site_links_here_and_reads_and_does_nothing(
    chromium: Chromium, database: Database, rows: Rows
) -> None:
    options = AdminOptions(login=LoginOptions(secret=SECRET))

    def log_in(page: Page, base: str) -> None:
        page.goto(f"{base}/")
        page.get_by_label("User").fill("admin")
        page.get_by_label("Password").fill(SECRET)
        page.get_by_role("button", name="Log in").click()
        page.locator(".counters").wait_for()

    def steal(page: Page, other: str) -> None:
        page.goto(f"{other}/")
        page.evaluate("refused")
        assert page.evaluate("got") == []

    def follow(page: Page) -> None:
        page.get_by_role("link", name="a link").click()
        page.locator("tr[data-job]").first.wait_for()

    with trio.fail_after(60):
        async with serving(Client(database), options=options) as base, trio.open_nursery() as nursery:
            (other,) = await nursery.start(partial(serve_admin, other_site(base), "127.0.0.1:0"))
            other = other.replace("127.0.0.1", "localhost")  # the same address would be the same site
            async with visiting(chromium, base) as visit:
                await visit.chromium.call(visit.context.unroute_all)
                await visit.do(log_in, base)
                await visit.do(steal, other)
                visit.problems.clear()  # the browser complains of what was refused
                await visit.do(follow)
                # The page that leads from the other site to the one asked for has no icon: one is looked for.
                visit.problems[:] = [problem for problem in visit.problems if "/favicon.ico" not in problem]
            nursery.cancel_scope.cancel()
    assert await database.fetch_value("select count(*) as count from graphile_worker._private_jobs") == 8
