"""A crontab that a worker of Node and one of ours share: each of its times is added for once."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import pytest
import trio

from tests.interop.graphile_worker import GraphileWorker
from tests.support.workers import running
from tests.worker.clocks import HandClock
from trio_graphile import Database, TaskRegistry, Worker, WorkerOptions, format_crontab, parse_crontab

pytestmark = pytest.mark.interop

CRONTAB = """
# Understood by both.
* * * * * every ?fill=20m
*/2  *\t* * *  team/even:one ?id=even&fill=20m&jobKey=even%20one&jobKeyMode=preserve_run_at {a: 'b', n: 1,}
0 4 * * 7 weekly ?fill=2w&max=3&queue=slow&priority=-1
"""
MISSED = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)

tasks = TaskRegistry()


@tasks.task("every")
async def every() -> None: ...


@tasks.task("team/even:one")
async def even(payload: dict[str, object]) -> None: ...


@tasks.task("weekly")
async def weekly() -> None: ...


WATCH = """
    create table added (task text not null, payload json not null, run_at timestamptz not null, details text);
    create function note_added() returns trigger language plpgsql as $$
    begin
      if tg_op = 'UPDATE' and old.payload::text = new.payload::text then  -- it ran
        return null;
      end if;
      insert into added
      select identifier, new.payload, new.run_at, concat_ws(' ', new.max_attempts, new.priority, new.key)
      from graphile_worker._private_tasks
      where id = new.task_id;
      return null;
    end
    $$;
    create trigger note_added after insert or update on graphile_worker._private_jobs
      for each row execute function note_added();
    insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
    select identifier, now() - interval '1 year', date_trunc('minute', now()) - missed
    from (
      values ('every', interval '15 minutes'), ('even', interval '15 minutes'), ('weekly', interval '3 weeks')
    ) as known(identifier, missed)
"""


async def watch(database: Database) -> datetime:
    """Note what is added from now on; return when that is: the entries were known until shortly before it."""
    async with (
        database.transaction() as connection
    ):  # in which it is one moment, not two of different minutes
        await connection.execute(WATCH)
        started: datetime = await connection.fetch_value("select now()")
    return started


async def added(database: Database) -> dict[str, list[tuple[datetime, bool]]]:
    """Return for each task the times that were added for, and whether afterwards."""
    rows = await database.fetch("""
        select task, payload -> '_cron' ->> 'ts' as time, payload -> '_cron' ->> 'backfilled' as backfilled
        from added
        order by 1, 2
    """)
    found: dict[str, list[tuple[datetime, bool]]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(
            (datetime.fromisoformat(row["time"]), row["backfilled"] == "true")
        )
    return found


def node_worker(node: GraphileWorker, url: str) -> AbstractAsyncContextManager[trio.Process]:
    return node.worker(url, crontab=CRONTAB)


async def our_worker(database: Database, clock: HandClock) -> Worker:
    clock.time = await database.fetch_value("select clock_timestamp()")
    return Worker(database, tasks, WorkerOptions(), crontab=parse_crontab(CRONTAB), clock=clock)


async def check_each_time_once(database: Database, started: datetime) -> None:
    """From the last time that was executed to the present, without a gap, and none twice."""
    found = await added(database)
    first = started.replace(second=0, microsecond=0) - MISSED + MINUTE
    every = [at for at, _ in found["every"]]
    assert every == [first + number * MINUTE for number in range(len(every))]
    assert len(every) >= MISSED // MINUTE
    assert [at for at, _ in found["team/even:one"]] == [at for at in every if at.minute % 2 == 0]
    assert 1 <= len(found["weekly"]) <= 2
    assert all(backfilled for _, backfilled in found["weekly"])


async def test_at_a_start_of_both_at_once_each_time_is_added_once(
    node: GraphileWorker, database: Database, database_url: str
) -> None:
    started = await watch(database)
    clock = HandClock()
    async with trio.open_nursery() as nursery:
        worker = await our_worker(database, clock)
        nursery.start_soon(worker.run)
        async with node_worker(node, database_url):
            await clock.wait_idle()
            await check_each_time_once(database, started)
        worker.stop()


@pytest.mark.parametrize("first", ["node", "python"])
async def test_what_one_has_added_the_other_does_not(
    first: str, node: GraphileWorker, database: Database, database_url: str
) -> None:
    started = await watch(database)
    clock = HandClock()
    worker = await our_worker(database, clock)
    if first == "node":
        async with node_worker(node, database_url), running(worker):
            await clock.wait_idle()
    else:
        async with running(worker):
            await clock.wait_idle()
            async with node_worker(node, database_url):
                pass
    await check_each_time_once(database, started)
    details = await database.fetch_value("select details from added where task = 'weekly' limit 1")
    assert details == "3 -1"


async def test_both_read_what_we_write(node: GraphileWorker, database: Database, database_url: str) -> None:
    """Node accepts a crontab that we have written, as long as it has none of what only we understand."""
    async with node.worker(database_url, crontab=format_crontab(parse_crontab(CRONTAB))):
        rows = await database.fetch(
            "select identifier from graphile_worker._private_known_crontabs order by 1"
        )
    assert [row["identifier"] for row in rows] == ["even", "every", "weekly"]
