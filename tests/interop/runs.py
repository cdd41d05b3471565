"""A table in which the workers of both languages write what they ran, and when by the database's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from trio_graphile import Connection, Database, JobContext, TaskRegistry

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Recorded:
    queue_name: str | None
    seconds: float = 0.0


@tasks.task("record")
async def record(payload: Recorded, context: JobContext) -> None:
    """Do what the task of this name in `node/tasks.mjs` does."""
    database, job_id = context.database, context.job.id
    await database.execute(
        """
        insert into runs (job_id, side, queue_name, started_at)
        values ($1::bigint, 'python', $2::text, clock_timestamp())
        """,
        job_id,
        payload.queue_name,
    )
    await database.execute("select pg_sleep($1::double precision)", payload.seconds)
    await database.execute(
        "update runs set finished_at = clock_timestamp() where job_id = $1::bigint and side = 'python'",
        job_id,
    )


@attrs.define
class Runs:
    """What was run so far."""

    _connection: Connection
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def wait_started(self, count: int) -> None:
        """Wait until so many jobs have started."""
        await self._wait("select count(*) from runs", count)

    async def wait_finished(self, count: int) -> None:
        """Wait until so many jobs have finished."""
        await self._wait("select count(finished_at) from runs", count)

    async def _wait(self, counting: str, count: int) -> None:
        while True:
            changed = self._changed  # from before the look, which takes a while
            if await self._connection.fetch_value(counting) >= count:
                return
            await changed.wait()

    async def sides(self) -> dict[int, list[str]]:
        """Return who ran each job."""
        rows = await self._connection.fetch(
            "select job_id, array_agg(side) as sides from runs group by job_id"
        )
        return {row["job_id"]: row["sides"] for row in rows}

    async def overlapping(self) -> int:
        """Return how many pairs of runs of one named queue overlapped."""
        count: int = await self._connection.fetch_value("""
            select count(*)
            from runs as one
            join runs as other
              on other.queue_name = one.queue_name
              and other.ctid > one.ctid
              and other.started_at < one.finished_at
              and other.finished_at > one.started_at
        """)
        return count

    def _note_change(self, _payload: str) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def recorded_runs(database: Database) -> AsyncIterator[Runs]:
    """Make the table; it announces its changes, so that nobody has to look again and again."""
    async with database.connection() as connection:
        await connection.execute("""
            create table runs (
              job_id bigint not null,
              side text not null,
              queue_name text,
              started_at timestamptz not null,
              finished_at timestamptz
            );
            create function announce_runs() returns trigger language plpgsql as
              $$ begin notify runs; return null; end $$;
            create trigger announce_runs after insert or update on runs
              for each statement execute procedure announce_runs();
        """)
        runs = Runs(connection)
        await connection.listen("runs", runs._note_change)
        yield runs
