"""An admin beside a worker in one nursery: whatever its clients do, the worker ends as it promises."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from tests.admin.serving import get, read_until
from trio_graphile import (
    Client,
    Database,
    ShutdownOptions,
    ShutdownReport,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile.admin import Admin, AdminOptions, LoginOptions, ServerLimits, serve_admin
from trio_graphile.testing._points import ActAt

BOUND = 30
STREAMS = 20
POINTS = 12
FOREVER = ServerLimits(
    head_timeout=3600,
    body_timeout=3600,
    send_timeout=3600,
    idle_timeout=3600,
    grace_period=3600,
    farewell_period=3600,
)
"""What ends under these does not wait for a client of the admin, or the test does not end in time."""
LARGE = 4_000_000
"""Characters of a payload: more than a connection takes that nobody reads from."""


@attrs.define
class Program:
    """A worker and an admin that share a database and a nursery."""

    database: Database
    socket: str
    worker: Worker = attrs.field(init=False)
    tasks: TaskRegistry = attrs.field(init=False, factory=TaskRegistry)
    started: trio.Event = attrs.field(init=False, factory=trio.Event)
    worker_ended: trio.Event = attrs.field(init=False, factory=trio.Event)
    report: ShutdownReport | None = attrs.field(init=False, default=None)
    quick_runs: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        @self.tasks.task("quick")
        async def quick() -> None:
            self.quick_runs += 1

        @self.tasks.task("endless")
        async def endless() -> None:
            self.started.set()
            await trio.sleep_forever()

        options = WorkerOptions(
            concurrency=4,
            poll_interval=600,
            shutdown=ShutdownOptions(grace_period=0.02, flush_timeout=BOUND),
        )
        self.worker = Worker(self.database, self.tasks, options)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        options = AdminOptions(login=LoginOptions(mode="none"), statement_timeout=3600)
        admin = Admin(Client(self.database, self.tasks), options)
        async with trio.open_nursery() as nursery:
            await nursery.start(admin.run)
            await nursery.start(functools.partial(serve_admin, admin, self.socket, limits=FOREVER))
            await nursery.start(self._run_worker)
            task_status.started()

    async def _run_worker(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.report = await self.worker.run(task_status=task_status)
        self.worker_ended.set()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.socket.removeprefix("unix:"))


@contextlib.asynccontextmanager
async def clients(program: Program, large_id: int) -> AsyncIterator[None]:
    """Open streams, stop in the middle of a head, and read nothing of an answer."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(STREAMS):
            stream = await stack.enter_async_context(await program.connect())
            await stream.send_all(get("/api/events", "A: b"))
            head = await read_until(stream, b"\r\n\r\n")
            # The server knows them by one address, and so lets six of them in.
            assert head.startswith(b"HTTP/1.1 200" if number < 6 else b"HTTP/1.1 503")
        half = await stack.enter_async_context(await program.connect())
        await half.send_all(b"GET /jobs HTTP/1.1\r\nHost:")
        stalled = await stack.enter_async_context(await program.connect())
        await stalled.send_all(get(f"/api/jobs/{large_id}/payload", "A: b"))
        await read_until(stalled, b"\r\n\r\n")
        yield


async def is_locked(database: Database) -> bool:
    return bool(
        await database.fetch_value(
            "select exists (select from graphile_worker._private_jobs where locked_at is not null)"
        )
    )


async def test_a_worker_stops_in_time_though_clients_of_the_admin_do_not(
    database: Database, socket: str
) -> None:
    client, program = Client(database), Program(database, socket)
    large = await client.add_raw_job("nobody's", {"a": "x" * LARGE})
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            await nursery.start(program.run)
            async with clients(program, large.id):
                await client.add_raw_jobs([("endless", None)] + [("quick", None)] * 50)
                await program.started.wait()
                program.worker.stop()
                await program.worker_ended.wait()
                assert program.report is not None
                assert program.report.completed == program.quick_runs
                assert not await is_locked(database)
                # The admin goes on, and ends at once when it is to.
                async with await program.connect() as stream:
                    await stream.send_all(get("/healthz"))
                    await read_until(stream, b'{"status":"ok"}')
                nursery.cancel_scope.cancel()


async def test_a_cancellation_ends_both_though_clients_of_the_admin_do_not(
    database: Database, socket: str
) -> None:
    client, program = Client(database), Program(database, socket)
    large = await client.add_raw_job("nobody's", {"a": "x" * LARGE})
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            await nursery.start(program.run)
            async with clients(program, large.id):
                await client.add_raw_job("endless")
                await program.started.wait()
                nursery.cancel_scope.cancel()
    assert not await is_locked(database)
    assert await database.fetch_value("select count(*) from graphile_worker.jobs where attempts = 0") == 2


async def test_both_end_while_the_database_answers_neither_of_them(database: Database, socket: str) -> None:
    """All sessions of the admin wait for a lock, of those of the worker none is taken."""
    client, program = Client(database), Program(database, socket)
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            await nursery.start(program.run)
            await client.add_raw_job("endless")
            await program.started.wait()
            async with contextlib.AsyncExitStack() as stack:
                locking = await stack.enter_async_context(database.connection())
                async with locking.transaction():
                    await locking.execute(
                        "lock table graphile_worker._private_tasks in access exclusive mode"
                    )
                    for _ in range(8):
                        stream = await stack.enter_async_context(await program.connect())
                        await stream.send_all(get("/jobs", "A: b"))
                    await wait_until_waiting(database, 4)
                    program.worker.stop()
                    await program.worker_ended.wait()
                    nursery.cancel_scope.cancel()
    assert not await is_locked(database)


async def wait_until_waiting(database: Database, count: int) -> None:
    waiting = """
        select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and application_name like '% admin%'
    """
    while await database.fetch_value(waiting) < count:
        pass


async def visit(database: Database, socket: str, *, point: int | None) -> int:
    """Run both while a stream and a page are asked for; cancel at a point; return how many there were."""
    client, program = Client(database), Program(database, socket)
    await client.add_raw_jobs([("endless", None), ("quick", None)])
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            instrument = ActAt(point, nursery.cancel_scope.cancel)
            with instrument.installed():
                await nursery.start(program.run)
                async with await program.connect() as stream, await program.connect() as page:
                    await stream.send_all(get("/api/events", "A: b"))
                    await page.send_all(get("/jobs"))
                    await read_until(stream, b"event: overview")
                    await read_until(page, b"</html>")
                await program.started.wait()
            nursery.cancel_scope.cancel()
    assert not await is_locked(database), f"after point {point}"
    await database.execute("delete from graphile_worker._private_jobs")
    return instrument.count


async def test_a_cancellation_at_any_point_leaves_nothing_locked(
    database: Database, socket: str, caplog: pytest.LogCaptureFixture
) -> None:
    points = await visit(database, socket, point=None)
    for point in range(1, points, max(1, points // POINTS)):
        with contextlib.suppress(OSError, trio.BrokenResourceError, AssertionError):
            await visit(database, socket, point=point)
        assert not await is_locked(database), f"after point {point} of {points}"
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"unix:{tmp_path_factory.mktemp('s') / 'admin'}"
