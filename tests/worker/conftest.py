"""What tests of a whole worker share."""

from __future__ import annotations

import attrs
import pytest
import trio

from trio_graphile import Client, Database, Job, JobContext, TaskRegistry
from trio_graphile._worker.bell import Bell


@attrs.define(eq=False)
class Handlers:
    """Handlers that a test can watch and hold: each run is noted, and waits where the test says so."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    started: list[Job] = attrs.field(factory=list)
    ended: list[Job] = attrs.field(factory=list)
    cancelled: list[Job] = attrs.field(factory=list)
    most_at_once: int = 0
    release: trio.Event = attrs.field(factory=trio.Event)
    _changed: Bell = attrs.field(factory=Bell)

    def __attrs_post_init__(self) -> None:
        @self.tasks.task("quick")
        async def quick(context: JobContext) -> None:
            self._start(context)
            self._end(context)

        @self.tasks.task("held")
        async def held(context: JobContext) -> None:
            self._start(context)
            try:
                await self.release.wait()
            except trio.Cancelled:
                self.cancelled.append(context.job)
                self._note()
                raise
            self._end(context)

        @self.tasks.task("failing")
        async def failing(context: JobContext) -> None:
            self._start(context)
            raise ValueError("no such luck")

    def _start(self, context: JobContext) -> None:
        self.started.append(context.job)
        self.most_at_once = max(self.most_at_once, len(self.started) - len(self.ended))
        self._note()

    def _end(self, context: JobContext) -> None:
        self.ended.append(context.job)
        self._note()

    def _note(self) -> None:
        self._changed.ring()

    async def wait_started(self, count: int) -> None:
        with trio.fail_after(20):
            while len(self.started) < count:
                await self._changed.wait()

    async def wait_cancelled(self, count: int) -> None:
        with trio.fail_after(20):
            while len(self.cancelled) < count:
                await self._changed.wait()

    async def wait_ended(self, count: int) -> None:
        with trio.fail_after(20):
            while len(self.ended) < count:
                await self._changed.wait()


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def client(database: Database, handlers: Handlers) -> Client:
    return Client(database, handlers.tasks)


@attrs.define(eq=False)
class Table:
    """The tables as a test sees them."""

    database: Database

    async def jobs(self) -> list[dict[str, object]]:
        rows = await self.database.fetch("""
            select id, attempts, max_attempts, last_error, locked_by, locked_at, key, run_at,
              extract(epoch from run_at - now())::float8 as delay
            from graphile_worker._private_jobs
            order by id
        """)
        return [dict(row) for row in rows]

    async def locked_queues(self) -> dict[str, str]:
        rows = await self.database.fetch("""
            select queue_name, locked_by
            from graphile_worker._private_job_queues
            where locked_at is not null
        """)
        return {row["queue_name"]: row["locked_by"] for row in rows}

    async def wait_until(self, sql: str, *arguments: object) -> None:
        """Wait until a query says true: a table tells nobody when it changes."""
        with trio.fail_after(20):
            while True:
                if await self.database.fetch_value(sql, *arguments):
                    return
                await trio.lowlevel.checkpoint()

    async def make_due(self) -> None:
        await self.database.execute("update graphile_worker._private_jobs set run_at = now()")


@pytest.fixture
def table(database: Database) -> Table:
    return Table(database)
