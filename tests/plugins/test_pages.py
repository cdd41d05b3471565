"""Pages over HTTP: what an orchestrator is told, and that the server is small and strict."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.support.asking import get, send, serving
from tests.support.handlers import Handlers
from tests.support.waiting import wait_until
from tests.support.workers import running
from trio_graphile import (
    Client,
    Database,
    LeaseOptions,
    ListenState,
    OptionInvalid,
    RecoveryOptions,
    ShutdownOptions,
    Worker,
    WorkerOptions,
    WorkerPhase,
    WorkerStatistics,
)
from trio_graphile.plugins.pages import Page, Pages, health_pages, serve_pages


async def fine() -> Page:
    return Page(body=b'{"ok":true}')


async def broken() -> Page:
    raise LookupError("no page")


PAGES: Pages = {"/fine": fine, "/broken": broken}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /fine HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /fine?verbose HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /broken HTTP/1.1\r\n\r\n", b"500 Internal Server Error"),
        (b"POST /fine HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /fine HTTP/2\r\n\r\n", b"400 Bad Request"),
        (b"GET fine HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request"),
        (b"GET /" + b"x" * 20_000, b"431 Request Header Fields Too Large"),
    ],
)
async def test_what_is_asked_and_what_is_answered(request_: bytes, status: bytes) -> None:
    async with serving(PAGES) as address:
        answer = await send(address, request_)
        assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert b"Connection: close" in answer
        assert (await get(address, "/fine")) == (200, {"ok": True}), "it goes on"


async def test_a_head_has_no_body() -> None:
    async with serving(PAGES) as address:
        answer = await send(address, b"HEAD /fine HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 11" in answer


async def test_the_log_says_what_went_wrong_with_a_page(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(PAGES) as address:
        _, answer = await get(address, "/broken")
    assert "no page" not in json.dumps(answer)
    assert "LookupError: no page" in caplog.text


async def test_whoever_connects_and_says_nothing_is_not_in_the_way() -> None:
    async with serving(PAGES) as address, AsyncExitStack() as stack:
        host, _, port = address.rpartition(":")
        for _ in range(3):
            stream = await stack.enter_async_context(await trio.open_tcp_stream(host, int(port)))
            await stream.send_all(b"GET")
        assert await get(address, "/fine") == (200, {"ok": True})


@pytest.mark.parametrize("listen", ["9000", "localhost", "localhost:http", ":-1", ":65536", ""])
async def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(OptionInvalid, match=r"^listen: an address such as 127\.0\.0\.1:9000 is needed"):
        await serve_pages(listen, PAGES)


NO_PAGES: list[tuple[Any, str]] = [
    (9000, 'listen: a str is needed, such as ":9000", not a value of the type int'),
    ([PAGES], "pages: a Mapping is needed, not a value of the type list"),
    ({"/fine": Page(body=b"")}, "pages: a function that makes the page /fine is needed, not a value of"),
]


@pytest.mark.parametrize(("given", "message"), NO_PAGES)
async def test_what_are_no_pages_is_refused_at_the_start(given: Any, message: str) -> None:
    arguments: tuple[Any, Any] = (given, PAGES) if isinstance(given, int) else (":0", given)
    with trio.fail_after(20), pytest.raises(OptionInvalid) as raised:
        await serve_pages(*arguments)
    assert str(raised.value).startswith(message)


def test_what_is_no_worker_has_no_health() -> None:
    worker: Any = "worker"
    options: Any = {"wedged_after": 5}
    with pytest.raises(OptionInvalid, match=r"^worker: a Worker is needed, not a value of the type str$"):
        health_pages(worker)
    with pytest.raises(OptionInvalid, match=r"^options: a HealthOptions is needed, not a value of"):
        health_pages(worker, options)


async def test_a_port_that_is_taken_is_said_at_the_start() -> None:
    async with serving(PAGES) as address:
        with pytest.raises(OSError, match="in use"):
            await serve_pages(address, PAGES)


# --- health -------------------------------------------------------------------------------------


class Doll:
    """A worker that says what the test wants."""

    worker_id = "doll"

    def __init__(self, **statistics: Any) -> None:
        self.said = WorkerStatistics(**statistics)

    def statistics(self) -> WorkerStatistics:
        return self.said

    async def backlog(self) -> Any:
        raise NotImplementedError


async def test_each_page_says_why() -> None:
    doll = Doll(phase=WorkerPhase.RUNNING, claim_pending=30, listen_state=ListenState.LOST)
    async with serving(health_pages(doll)) as address:
        assert await get(address, "/livez") == (
            200,
            {
                "ok": True,
                "worker_id": "doll",
                "reasons": ["it has failed to claim jobs for 30 s"],
                "remarks": ["it does not hear of new jobs, and polls"],
            },
        )
        status, answer = await get(address, "/readyz")
        assert (status, answer["ok"]) == (503, False)


async def test_the_health_of_a_worker_through_its_life(
    database: Database, client: Client, handlers: Handlers
) -> None:
    worker = Worker(
        database, handlers.tasks, WorkerOptions(shutdown=ShutdownOptions(grace_period=600)), plugins=[]
    )
    async with serving(health_pages(worker)) as address:
        assert await get(address, "/readyz") == (
            503,
            {"ok": False, "worker_id": worker.worker_id, "reasons": ["it does not run"], "remarks": []},
        )
        async with running(worker) as run:
            assert (await get(address, "/livez"))[0] == 200
            assert (await get(address, "/readyz"))[0] == 200
            await client.add_raw_job("held")
            await handlers.wait_started(1)
            worker.stop()
            status, answer = await get(address, "/readyz")
            assert (status, answer["reasons"]) == (503, ["it stops"])
            assert (await get(address, "/livez"))[0] == 200, "it may finish what it does"
            handlers.release.set()
            await run.wait()
        assert (await get(address, "/livez"))[0] == 503


async def test_a_worker_that_is_cut_off_is_not_green(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """As after a failover that it does not notice: it cannot renew its lease, and says so."""
    options = WorkerOptions(
        concurrency=1,
        lease=LeaseOptions(length=0.5, renew_interval=0.1, margin=0.1),
        recovery=RecoveryOptions(sweep_threshold=10),
    )
    worker = Worker(database, handlers.tasks, options)
    async with serving(health_pages(worker)) as address, running(worker):
        assert (await get(address, "/readyz"))[0] == 200
        async with database.transaction() as connection:
            await connection.execute("lock graphile_worker._private_workers in access exclusive mode")
            await wait_until(lambda: not worker.statistics().lease_holds)
            status, answer = await get(address, "/readyz")
            assert status == 503
            assert answer["reasons"] == ["its lease has ended: others may take its jobs, and it runs none"]
        await wait_until(lambda: worker.statistics().lease_holds)
        assert (await get(address, "/readyz"))[0] == 200
