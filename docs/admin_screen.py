"""Opens the admin in Chromium, on a server of its own, and takes the pictures docs/admin-*.png.

python docs/admin_screen.py
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import trio
from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.admin.browser.chromium import Chromium, running_chromium, visiting  # noqa: E402  # found by the line above
from tests.admin.browser.rows import fill  # noqa: E402
from tests.admin.browser.site import serving  # noqa: E402
from trio_graphile import Client, Database, JobSpec, open_database  # noqa: E402
from trio_graphile.embedded import embedded_postgres  # noqa: E402

LARGEST = 150_000
"""Bytes of one picture."""


@attrs.frozen(kw_only=True)
class Picture:
    """One page, as it is shown."""

    name: str
    path: str
    width: int = 1100
    height: int = 760
    theme: str = "light"


PICTURES = (
    Picture(name="overview", path="/"),
    Picture(name="jobs", path="/jobs?limit=25"),
    Picture(name="job", path="/jobs/3", theme="dark"),
    Picture(name="phone", path="/failures", width=380, height=760),
)


async def add_jobs(database: Database) -> None:
    """Beside what tests have, enough to look like a queue."""
    await fill(database)
    client = Client(database)
    now = datetime.now(UTC)
    later = [("send_digest", {"day": day}, JobSpec(run_at=now + timedelta(days=day))) for day in range(1, 40)]
    await client.add_raw_jobs([("resize", {"path": f"{number}.png"}) for number in range(240)] + later)
    failing = [("charge", {"order": number}, JobSpec(max_attempts=5)) for number in range(14)]
    added = await client.add_raw_jobs(failing)
    ids = [job.id for job in added]
    await client.permanently_fail_jobs(ids[:9], "card 4242 was declined")
    await client.permanently_fail_jobs(ids[9:], "TimeoutError: no answer in 30 s")


async def take(chromium: Chromium, base: str, picture: Picture) -> None:
    size: dict[str, Any] = {"width": picture.width, "height": picture.height}
    file = Path(__file__).with_name(f"admin-{picture.name}.png")

    def shoot(page: Page) -> None:
        page.screenshot(path=file, animations="disabled")

    is_phone = picture.width < 600
    options = {"viewport": size, "color_scheme": picture.theme, "is_mobile": is_phone}
    async with visiting(chromium, base, **options) as visit:
        await visit.open(picture.path, "#live-state[data-state=on]")
        await visit.do(shoot)
    if file.stat().st_size > LARGEST:  # noqa: ASYNC240  # nobody else waits
        raise ValueError(f"{file} is too large")


async def main(chromium: Chromium) -> None:
    async with embedded_postgres() as server, open_database(server.url) as database:
        client = Client(database)
        await client.migrate()
        await add_jobs(database)
        async with serving(client) as base:
            for picture in PICTURES:
                await take(chromium, base, picture)


if __name__ == "__main__":
    with running_chromium() as chromium:
        trio.run(main, chromium)
