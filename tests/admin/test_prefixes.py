"""Below a prefix, mounted or behind a proxy: every link, cookie and redirect leads back to the admin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from tests.admin.guarded import SECRET, browser, options_of
from trio_graphile import Client, Database
from trio_graphile.admin import Admin

PAGES = ("", "jobs", "jobs/add", "failures", "tasks", "queues", "workers", "recurring", "maintenance")
WAYS: Mapping[str, tuple[str, bool, bool]] = {
    # The prefix that browsers see, whether we are mounted, whether a proxy takes the prefix away.
    "mounted": ("/ops/queue", True, False),
    "mounted below a name that is no ASCII": ("/очередь und so", True, False),
    "behind a proxy that leaves the prefix": ("/ops/queue", False, False),
    "behind a proxy that takes it away": ("/ops/queue", False, True),
    "behind a proxy, below a name that is no ASCII": ("/очередь", False, True),
}


@pytest.mark.parametrize("way", WAYS)
async def test_everything_leads_back(database: Database, way: str) -> None:
    prefix, is_mounted, is_stripped = WAYS[way]
    base = quote(prefix)
    changes: dict[str, Any] = {} if is_mounted else {"public_url": f"http://127.0.0.1:5678{base}"}
    admin = Admin(Client(database), options_of(**changes))
    app: ASGIApp = Starlette(routes=[Mount(prefix, admin)]) if is_mounted else admin
    sent = "" if is_stripped else base
    job = await Client(database).add_raw_job("a")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, browser(app) as visitor:
            await nursery.start(admin.run)
            away = await visitor.get(f"{sent}/jobs?state=failed")
            assert away.headers["location"].startswith(f"{base}/login?next={quote(base, safe='')}%2Fjobs")
            form = await visitor.get(f"{sent}/login?next={quote(f'{base}/jobs', safe='')}")
            [token] = re.findall(r'name="token" value="([^"]+)"', form.text)
            assert f'action="{base}/login"' in form.text
            assert form.headers["set-cookie"].split("; ")[1] == f"Path={base}"
            cookies = {"cookie": form.headers["set-cookie"].split(";")[0]}
            filled = {"username": "admin", "secret": SECRET, "token": token, "next": f"{base}/jobs"}
            visitor.cookies.clear()
            entered = await visitor.post(f"{sent}/login", data=filled, headers=cookies)
            assert (entered.status_code, entered.headers["location"]) == (303, f"{base}/jobs")
            cookies = {"cookie": entered.headers["set-cookie"].split(";")[0]}
            visitor.cookies.clear()
            for page in (*PAGES, f"jobs/{job.id}"):
                shown = await visitor.get(f"{sent}/{page}", headers=cookies)
                assert shown.status_code == 200
                links = re.findall(r'(?:href|src|action)="(/[^"]*)"', shown.text)
                assert len(links) > 8
                assert [link for link in links if not link.startswith(f"{base}/")] == []
            session = (await visitor.get(f"{sent}/api/session", headers=cookies)).json()
            headers = {**cookies, session["csrf_header"]: session["csrf_token"]}
            answer = await visitor.post(
                f"{sent}/api/jobs/action", json={"action": "complete", "ids": [job.id]}, headers=headers
            )
            assert answer.status_code == 200
            missing = await visitor.get(f"{sent}/api/nothing", headers=cookies)
            assert (missing.status_code, missing.json()) == (404, {"error": "not found"})
            document = (await visitor.get(f"{sent}/api/openapi.json", headers=cookies)).json()
            assert [server["url"] for server in document["servers"]] == [base]
            nursery.cancel_scope.cancel()
