"""The application as a whole: mounted or not, with its sessions of the database or without."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.admin.guarded import BASIC, browser, options_of
from trio_graphile import Client, Database, StatementFailed
from trio_graphile.admin import Admin, AdminOptions, LoginOptions

OF_ITSELF = """
    select
      current_setting('application_name') as name,
      current_setting('statement_timeout') as statement_timeout,
      current_setting('default_transaction_read_only') as read_only
"""


@contextlib.asynccontextmanager
async def running(admin: Admin) -> AsyncIterator[None]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(admin.run)
            yield
            nursery.cancel_scope.cancel()


async def test_it_says_that_it_serves_to_everybody(database: Database) -> None:
    admin = Admin(Client(database), options_of())
    async with running(admin), browser(admin) as visitor:
        answer = await visitor.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["x-frame-options"] == "DENY"


async def test_what_is_asked_before_and_after_it_runs_is_answered_with_503(database: Database) -> None:
    admin = Admin(Client(database), options_of())
    async with browser(admin) as visitor:
        for _ in range(2):
            answer = await visitor.get("/api/session", headers=BASIC)
            assert (answer.status_code, answer.json()) == (503, {"error": "the admin does not run"})
            assert answer.headers["x-frame-options"] == "DENY"
            async with running(admin):
                assert (await visitor.get("/healthz")).status_code == 200


async def test_what_is_not_there_and_what_cannot_be_done_are_errors_in_json(database: Database) -> None:
    admin = Admin(Client(database), options_of())
    async with running(admin), browser(admin) as visitor:
        missing = await visitor.get("/api/nothing", headers=BASIC)
        assert (missing.status_code, [*missing.json()]) == (404, ["error"])
        wrong = await visitor.options("/healthz")
        assert (wrong.status_code, [*wrong.json()]) == (405, ["error"])
        assert {*wrong.headers["allow"].split(", ")} == {"GET", "HEAD"}
        assert (await visitor.get("/healthz/", headers=BASIC)).status_code == 404
        for answer in (missing, wrong):
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_it_can_be_mounted_below_any_prefix(database: Database) -> None:
    admin = Admin(Client(database), options_of())
    program = Starlette(routes=[Mount("/ops/queue", admin)])
    async with running(admin), browser(program) as visitor:
        assert (await visitor.get("/ops/queue/healthz")).status_code == 200
        answer = await visitor.get("/ops/queue/")
        assert answer.headers["location"] == "/ops/queue/login?next=%2Fops%2Fqueue%2F"
        missing = await visitor.get("/ops/queue/api/nothing", headers=BASIC)
        assert (missing.status_code, missing.json()) == (404, {"error": "not found"})


async def test_a_secret_is_made_up_where_one_is_needed_and_none_was_given(database: Database) -> None:
    client = Client(database)
    one, other = Admin(client), Admin(client)
    assert one.generated_secret is not None
    assert len(one.generated_secret) == 48
    assert one.generated_secret != other.generated_secret
    assert one.generated_secret not in repr(one)
    assert Admin(client, options_of()).generated_secret is None
    assert Admin(client, AdminOptions(login=LoginOptions(mode="none"))).generated_secret is None
    async with running(one), browser(one) as visitor:
        answer = await visitor.get("/api/x", auth=("admin", one.generated_secret))
        assert answer.status_code == 404


async def test_its_sessions_are_its_own(database: Database) -> None:
    async with database.beside("admin", pool_size=1, statement_timeout=5.0, read_only=False) as own:
        assert dict(await own.fetch_row(OF_ITSELF) or {}) == {
            "name": "trio_graphile admin",
            "statement_timeout": "5s",
            "read_only": "off",
        }
        row = await database.fetch_row(OF_ITSELF)
        assert (row or {})["statement_timeout"] == "1min"


async def test_read_only_sessions_refuse_to_write(database: Database) -> None:
    async with database.beside("admin", pool_size=1, statement_timeout=5.0, read_only=True) as own:
        with pytest.raises(StatementFailed) as raised:
            await Client(own).add_raw_job("anything")
        assert raised.value.sqlstate == "25006"
    await Client(database).add_raw_job("anything")


async def test_it_refuses_what_is_no_request(database: Database) -> None:
    admin = Admin(Client(database), options_of())
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await admin({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]
    with pytest.raises(NotImplementedError, match="there is no lifespan here"):
        await admin({"type": "lifespan"}, receive, send)
