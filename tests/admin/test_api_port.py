"""The requests of the port, against the whole application: its keys, and its order of checks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import httpx2
import pytest
import trio

from tests.admin.api import JOB, LISTED
from tests.admin.guarded import BASIC, BEARER, HOST, browser, options_of
from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile.admin import Admin

CSRF = "x-graphile-worker-admin-csrf"


@attrs.frozen
class Script:
    """A script for the port: it shows its secret, and the CSRF token with whatever changes something."""

    http: httpx2.AsyncClient
    headers: Mapping[str, str]

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any) -> Any:
        answer = await self.http.post(path, headers=self.headers, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextlib.asynccontextmanager
async def _admin(database: Database, mode: Any, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    admin = Admin(Client(database), options_of(mode, **options))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, browser(admin) as http:
            await nursery.start(admin.run)
            yield http
            nursery.cancel_scope.cancel()


@pytest.fixture(params=["basic", "bearer"])
async def script(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Script]:
    credentials = BASIC if request.param == "basic" else BEARER
    async with _admin(database, request.param) as http:
        session = (await http.get("/api/session", headers=credentials)).json()
        yield Script(http, {**credentials, session["csrf_header"]: session["csrf_token"]})


async def test_the_ports_requests_get_its_keys(script: Script) -> None:
    session = await script.get("/api/session")
    assert session.keys() >= {"schema", "read_only", "csrf_header", "auth"}
    assert session["auth"].keys() == {"mode", "username", "header_name", "generated_secret"}
    body = {
        "identifier": "print", "payload": {"a": 1}, "queue": "q", "run_at": "2030-01-01T00:00:00Z",
        "max_attempts": 3, "key": "k", "job_key_mode": "preserve-run-at", "priority": 2, "flags": ["f"],
    }  # fmt: skip
    added = await script.post("/api/jobs", body)
    assert added.keys() >= {"message", "jobs"}
    [job] = added["jobs"]
    assert job.keys() >= JOB
    overview = await script.get("/api/overview")
    assert overview.keys() >= {"stats", "queues", "workers", "active_workers"}
    assert overview["stats"].keys() == {"total", "ready", "scheduled", "locked", "failed"}
    keys = {"id", "queue_name", "locked_at", "locked_by", "job_count", "ready_count"}
    assert overview["queues"][0].keys() >= keys
    query = "state=scheduled&identifier=print&queue=q&search=prin&limit=100&offset=0"
    [listed] = (await script.get(f"/api/jobs?{query}"))["jobs"]
    assert listed.keys() >= LISTED
    assert (await script.get(f"/api/jobs/{job['id']}")).keys() >= LISTED
    for state in ("all", "ready", "scheduled", "locked", "failed"):
        await script.get(f"/api/jobs?state={state}")


async def test_the_ports_actions_get_its_keys(script: Script) -> None:
    for action, more in (
        ("complete", {}),
        ("fail", {"reason": "why"}),
        ("run-now", {"priority": 1}),
        ("reschedule", {"run_at": "2030-01-01T00:00:00+01:00", "attempts": 0}),
    ):
        [job] = (await script.post("/api/jobs", {"identifier": "print"}))["jobs"]
        answer = await script.post("/api/jobs/action", {"action": action, "ids": [job["id"]], **more})
        assert answer.keys() >= {"message", "jobs"}
        assert answer["jobs"][0].keys() >= JOB
    assert "message" in await script.post("/api/jobs/remove-by-key", {"key": "k"})
    for body in (
        {"action": "migrate"},
        {"action": "cleanup", "cleanup_tasks": ["gc-job-queues"]},
        {"action": "force-unlock", "worker_ids": ["w"]},
        {"action": "sweep-stale-workers", "dry_run": True, "sweep_threshold_secs": 300},
        {"action": "sweep-stale-workers", "recovery_delay_secs": 30},
    ):
        assert "message" in await script.post("/api/maintenance", body)


async def test_checks_come_in_the_ports_order(database: Database) -> None:
    """Each request has all that is wrong with it but what was named before."""
    async with _admin(database, "basic", read_only=True) as http:
        json_type = {"content-type": "application/json"}

        async def status_of(headers: Mapping[str, str]) -> int:
            answer = await http.post("/api/jobs/action", headers={**json_type, **headers}, content="{")
            assert answer.json().keys() == {"error"}
            return answer.status_code

        assert await status_of({}) == 401
        forged = await http.post("/api/jobs", headers={**json_type, **BASIC}, content="{")
        assert (forged.status_code, CSRF in forged.json()["error"]) == (403, True)
        token = (await http.get("/api/session", headers=BASIC)).json()["csrf_token"]
        refused = await http.post("/api/jobs", headers={**json_type, **BASIC, CSRF: token}, content="{")
        assert (refused.status_code, "read-only" in refused.json()["error"]) == (403, True)
    async with _admin(database, "basic") as http:
        token = (await http.get("/api/session", headers=BASIC)).json()["csrf_token"]
        assert await status_of({**BASIC, CSRF: token}) == 400


async def test_whatever_is_wrong_the_answer_is_json_with_the_headers_of_all(script: Script) -> None:
    for path in ("/api/jobs/abc", "/api/jobs?limit=x", "/api/nothing", "/api/jobs/1/payload", "/api/%FF"):
        answer = await script.http.get(path, headers=script.headers)
        assert answer.status_code in {400, 404}
        assert answer.json().keys() == {"error"}
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    wrong = await script.http.put("/api/jobs", headers=script.headers, json={})
    assert (wrong.status_code, wrong.json()) == (405, {"error": "use GET, HEAD, POST"})


async def test_changes_by_the_api_are_in_the_audit_log(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trio_graphile.admin.audit")
    [job] = (await script.post("/api/jobs", {"identifier": "print", "payload": {"pin": "1234"}}))["jobs"]
    await script.post("/api/jobs/action", {"action": "complete", "ids": [job["id"], 10**6]})
    await script.http.post("/api/jobs/action", headers=script.headers, json={"action": "fail"})
    await script.post("/api/maintenance", {"action": "force-unlock", "worker_ids": ["gone"]})
    lines = [line for line in caplog.messages if line.startswith("user=")]
    unlocked = '{"message": "unlocked 1 worker", "dry_run": false, "worker_ids": ["gone"]}'
    assert lines == [
        f'user="admin" action="add" ids=[{job["id"]}] outcome={{}}',
        f'user="admin" action="complete" ids=[{job["id"]}, 1000000] outcome={{"changed": 1, "unchanged": 1}}',
        f'user="admin" action="force-unlock" ids=[] outcome={unlocked}',
    ]
    assert "1234" not in caplog.text
    assert str(script.http.base_url) == HOST
