"""The admin while its database does not answer, in whole or in part: it says so in a bounded time."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import httpx2
import pytest
import trio

from tests.database.sessions import wait_until_somebody_waits
from trio_graphile import Client, Database, open_database
from trio_graphile._exceptions import SessionsBusy
from trio_graphile.admin import Admin, AdminOptions, LoginOptions, serve_admin
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._safety.checks import CSRF_HEADER
from trio_graphile.embedded import embedded_postgres

BOUND = 30
PAGES = ("/", "/jobs", "/failures", "/tasks", "/queues", "/workers")
LEFT_OUT = "the database did not answer in time"
IN_MEMORY = memory if (memory := Path("/dev/shm")).is_dir() else None


@attrs.frozen
class Serving:
    """An admin that is served, and a client of it."""

    http: httpx2.AsyncClient
    run: trio.CancelScope  # noqa: TID251  # cancelled by tests

    async def until_served(self, path: str) -> None:
        while (await self.http.get(path)).status_code != 200:
            pass


@contextlib.asynccontextmanager
async def serving(database: Database, *, patience: float) -> AsyncIterator[Serving]:
    options = AdminOptions(login=LoginOptions(mode="none"), statement_timeout=patience, pool_size=2)
    admin, scope = Admin(Client(database), options), trio.CancelScope()  # noqa: TID251  # cancelled by tests

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await admin.run(task_status=task_status)

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            [url] = await nursery.start(functools.partial(serve_admin, admin, "127.0.0.1:0"))
            async with httpx2.AsyncClient(base_url=url, timeout=None) as http:
                yield Serving(http, scope)
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def locked(database: Database, table: str = "_private_jobs") -> AsyncIterator[None]:
    async with database.transaction() as connection:
        await connection.execute(f"lock table graphile_worker.{table} in access exclusive mode")
        yield


async def test_what_takes_too_long_is_left_out_and_the_rest_is_shown(database: Database) -> None:
    job = await Client(database).add_raw_job("a")
    async with serving(database, patience=0.1) as admin:
        async with locked(database):
            for path in PAGES:
                answer = await admin.http.get(path)
                assert (answer.status_code, LEFT_OUT in answer.text) == (200, True), path
            answer = await admin.http.get(f"/jobs/{job.id}")
            assert (answer.status_code, "could not be read in time" in answer.text) == (503, True)
            answer = await admin.http.get("/api/jobs")
            assert (answer.status_code, [*answer.json()]) == (503, ["error"])
        for path in PAGES:
            answer = await admin.http.get(path)
            assert (answer.status_code, LEFT_OUT in answer.text) == (200, False), path


async def test_many_who_ask_at_once_are_told_so_when_nothing_answers(database: Database) -> None:
    """They do not wait for one another, one time limit after the other."""
    async with serving(database, patience=0.1) as admin, locked(database):
        statuses = []

        async def look(path: str) -> None:
            answer = await admin.http.get(path)
            statuses.append((answer.status_code, LEFT_OUT in answer.text))

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(look, "/jobs")
            assert (await admin.http.get("/healthz")).status_code == 200
        assert statuses == [(200, True)] * 40


async def test_a_part_for_which_no_session_is_free_is_left_out() -> None:
    async def wait_in_vain() -> None:
        raise SessionsBusy("all are lent")

    async def read() -> int:
        return 1

    parts = await read_parts(one=wait_in_vain, other=read)
    assert (parts.missing, parts.values) == (("one",), {"one": None, "other": 1})


async def test_sessions_that_the_server_ends_are_replaced(database: Database) -> None:
    async with serving(database, patience=5) as admin:
        for path in PAGES:
            await admin.http.get(path)
        await database.execute("""
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and application_name like '% admin%'
        """)
        for path in PAGES:
            await admin.until_served(path)


async def test_a_server_that_comes_back_is_all_that_is_needed(caplog: pytest.LogCaptureFixture) -> None:
    async with embedded_postgres(temporary_in=IN_MEMORY) as server, open_database(server.url) as database:
        await Client(database).migrate()
        async with serving(database, patience=5) as admin:
            await admin.until_served("/jobs")
            await server.stop()
            for path in PAGES:
                answer = await admin.http.get(path)
                assert (answer.status_code, "<title>" in answer.text) == (503, True), path
            answer = await admin.http.get("/api/jobs")
            assert (answer.status_code, answer.json()) == (503, {"error": "the database does not answer"})
            assert (await admin.http.get("/healthz")).status_code == 200
            await server.start()
            for path in PAGES:
                await admin.until_served(path)
    assert [record for record in caplog.records if record.exc_info] == []


async def test_when_it_runs_no_more_what_is_under_way_is_refused_at_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(database, patience=3600) as admin, admin.http.stream("GET", "/api/events") as events:
        token = (await admin.http.get("/api/session")).json()["csrf_token"]
        statuses: list[int] = []

        async def ask(path: str) -> None:
            statuses.append((await admin.http.get(path)).status_code)

        async def change() -> None:
            body = {"action": "complete", "ids": [1]}
            answer = await admin.http.post("/api/jobs/action", json=body, headers={CSRF_HEADER: token})
            statuses.append(answer.status_code)

        async with locked(database), trio.open_nursery() as nursery:
            nursery.start_soon(change)
            for path in ("/", "/jobs", "/api/jobs", "/api/jobs/export"):
                nursery.start_soon(ask, path)
            await wait_until_somebody_waits(database)
            admin.run.cancel()
        assert statuses == [503] * 5
        assert (await events.aread()).endswith(b"event: bye\ndata: {}\n\n")
        assert (await admin.http.get("/jobs")).text == "the admin does not run\n"
    assert [record for record in caplog.records if record.exc_info] == []
    assert [record.levelno for record in caplog.records if record.levelno > logging.WARNING] == []
