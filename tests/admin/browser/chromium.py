"""Chromium, driven in a thread of its own beside the server, and what it complains about."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import attrs
import trio
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

ARGUMENTS = [
    "--no-sandbox",  # which nobody can have who is root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 15_000
"""How long a step waits for what it wants, in milliseconds."""
P = ParamSpec("P")
T = TypeVar("T")


def reason_to_skip() -> str | None:
    """Say why there is no browser here; None if there is one."""
    return "chromium is not installed" if shutil.which("chromium") is None else None


@attrs.frozen
class Chromium:
    """A browser. Only its own thread may talk to it."""

    thread: ThreadPoolExecutor
    browser: Browser

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have the browser's thread do something; the server goes on meanwhile."""
        return await trio.to_thread.run_sync(
            lambda: self.thread.submit(work, *args, **kwargs).result(),
        )


@contextmanager
def running_chromium() -> Iterator[Chromium]:
    """Lend a browser."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="chromium") as thread:
        playwright = thread.submit(lambda: sync_playwright().start()).result()
        try:
            path = shutil.which("chromium")
            browser = thread.submit(
                lambda: playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
            ).result()
            try:
                yield Chromium(thread, browser)
            finally:
                thread.submit(browser.close).result()
        finally:
            thread.submit(playwright.stop).result()


@attrs.define(eq=False)
class Visit:
    """A browser with cookies of its own that looks at one site."""

    chromium: Chromium
    context: BrowserContext
    page: Page
    base: str
    problems: list[str]
    """What was complained about, and whatever else was asked for than this site."""

    async def do(self, script: Callable[Concatenate[Page, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a script on the page."""
        return await self.chromium.call(script, self.page, *args, **kwargs)

    async def open(self, path: str, until: str = "") -> None:
        """Open a page of the site, and wait until its script has begun and `until` is there."""
        await self.do(self._open, path, until)

    def _open(self, page: Page, path: str, until: str) -> None:
        answer = page.goto(f"{self.base}{path}")
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        page.locator("html[data-ready]").wait_for(state="attached")
        if until:
            page.locator(until).first.wait_for()

    async def arrive(self, path: str) -> None:
        """Wait until the page that something led to is there."""
        await self.do(self._arrive, path)

    def _arrive(self, page: Page, path: str) -> None:
        # Not "load": a page that changes its own entry in the history meanwhile would never have loaded.
        page.wait_for_url(f"{self.base}{path}", wait_until="commit")
        page.locator("html[data-ready]").wait_for(state="attached")

    def forgive(self, *texts: str) -> None:
        """Take away complaints that the test has asked for. Each has to be there."""
        for text in texts:
            found = [problem for problem in self.problems if text in problem]
            assert found, f"nothing says {text!r}: {self.problems}"
            self.problems[:] = [problem for problem in self.problems if text not in problem]


@asynccontextmanager
async def visiting(chromium: Chromium, base: str, **options: Any) -> AsyncIterator[Visit]:
    """Lend a fresh browser for one site; at the end nothing may have been complained about."""
    visit = await chromium.call(_new_visit, chromium, base, options)
    try:
        yield visit
        if visit.problems:
            raise AssertionError("\n".join(visit.problems))
    finally:
        with trio.move_on_after(20, shield=True):
            await chromium.call(visit.context.close)


def _new_visit(chromium: Chromium, base: str, options: dict[str, Any]) -> Visit:
    context = chromium.browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    problems: list[str] = []

    def refuse(route: Route, request: Request) -> None:
        problems.append(f"asked for {request.url}")
        route.abort()

    def hear(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            problems.append(f"{said.text} ({said.location.get('url')})")

    def dismiss(dialog: Dialog) -> None:
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.route(lambda url: not url.startswith(f"{base}/"), refuse)
    context.on("console", hear)
    context.on("dialog", dismiss)
    context.on("weberror", lambda error: problems.append(str(error.error)))
    return Visit(chromium, context, context.new_page(), base, problems)
