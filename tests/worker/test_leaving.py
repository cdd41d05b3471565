"""The last words of a worker: nothing is locked by it, and no table is read where that is known anyway."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.waiting import PATIENCE
from tests.support.workers import NEVER, SOON, make_worker, running
from trio_graphile import (
    Client,
    Database,
    DatabaseOptions,
    JobSpec,
    RecoveryOptions,
    ShutdownIncomplete,
    ShutdownOptions,
    Worker,
    open_database,
)

IS_WAITING = """
    select exists (
      select from pg_stat_activity
      where datname = current_database()
        and application_name = 'trio_graphile ' || $1::text
        and wait_event_type = 'Lock'
    )
"""


async def lock_unasked(database: Database, worker_id: str) -> None:
    """Have a job locked by a worker that knows nothing of it: a server came back without a record, say."""
    await database.execute(
        """
        with task as (
          insert into graphile_worker._private_tasks (identifier)
          values ('of nobody here')
          returning id
        )
        insert into graphile_worker._private_jobs (task_id, locked_by, locked_at, attempts)
        select task.id, $1::text, now(), 1
        from task
        """,
        worker_id,
    )


async def end_session(database: Database, purpose: str) -> None:
    ended = await database.fetch_value(
        """
        select count(pg_terminate_backend(pid, $2::bigint))
        from pg_stat_activity
        where datname = current_database()
          and application_name = 'trio_graphile ' || $1::text
        """,
        purpose,
        PATIENCE * 1000,
    )
    assert ended == 1


async def check_given_back(table: Table) -> None:
    [job] = await table.jobs()
    assert (job["locked_by"], job["locked_at"], job["attempts"]) == (None, None, 0)


async def rest(worker: Worker) -> None:
    """Wait until what ran is recorded, no claim is under way, and none is about to begin."""

    def is_at_rest() -> bool:
        statistics = worker.statistics()
        return (statistics.busy, statistics.unrecorded, statistics.claim_pending) == (0, 0, 0.0)

    with trio.fail_after(PATIENCE):
        while not is_at_rest():
            await trio.testing.wait_all_tasks_blocked()


async def run_one(worker: Worker, client: Client, handlers: Handlers) -> None:
    await client.add_raw_job("quick")
    await handlers.wait_ended(1)
    await rest(worker)


async def test_a_stop_by_the_book_needs_neither_jobs_nor_queues(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """However large the tables are: what is not read takes no time."""
    async with running(make_worker(database, handlers.tasks)) as run:
        await run_one(run.worker, client, handlers)
        async with database.transaction() as connection:
            await connection.execute(
                "lock table graphile_worker._private_jobs, graphile_worker._private_job_queues"
            )
            report = await run.stop()
    assert report.completed == 1


async def test_a_stop_does_not_wait_for_a_look_for_dead_workers(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    """It may have to read a large table; another worker will look."""
    often, patiently = RecoveryOptions(sweep_interval=0.01), ShutdownOptions(flush_timeout=NEVER)
    worker = make_worker(database, handlers.tasks, recovery=often, shutdown=patiently)
    async with running(worker) as run:
        await run_one(worker, client, handlers)
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_job_queues")
            await table.wait_until(IS_WAITING, "recovery")
            await run.stop()


@pytest.mark.parametrize("purpose", ["claim", "outcomes"])
async def test_a_worker_whose_session_was_lost_looks_for_what_it_does_not_know_of(
    database: Database, client: Client, handlers: Handlers, table: Table, purpose: str
) -> None:
    """Also if it has not noticed: the server may be another by now."""
    async with running(make_worker(database, handlers.tasks)) as run:
        await run_one(run.worker, client, handlers)
        await lock_unasked(database, run.worker.worker_id)
        await end_session(database, purpose)
        await run.stop()
    await check_given_back(table)


async def test_a_worker_whose_session_came_back_looks_for_what_it_does_not_know_of(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    async with running(make_worker(database, handlers.tasks)) as run:
        await end_session(database, "outcomes")
        await run_one(run.worker, client, handlers)
        await lock_unasked(database, run.worker.worker_id)
        await run.stop()
    await check_given_back(table)


async def test_a_worker_that_loses_its_server_while_it_leaves_looks_again(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    async with running(make_worker(database, handlers.tasks)) as run:
        await run_one(run.worker, client, handlers)
        await lock_unasked(database, run.worker.worker_id)
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_workers")
            run.worker.stop()
            await table.wait_until(IS_WAITING, "outcomes")
            await end_session(database, "outcomes")
        await run.wait()
    await check_given_back(table)


@pytest.mark.parametrize("has_prepared_statements", [True, False])
async def test_a_worker_that_might_not_notice_another_server_always_looks(
    database_url: str, client: Client, handlers: Handlers, table: Table, *, has_prepared_statements: bool
) -> None:
    """It is behind a pooler, or does not say farewell since it is not registered."""
    options = DatabaseOptions(prepared_statements=has_prepared_statements)
    async with open_database(database_url, options) as database:
        recovery = None if has_prepared_statements else RecoveryOptions()
        async with running(make_worker(database, handlers.tasks, recovery=recovery)) as run:
            await run_one(run.worker, client, handlers)
            await lock_unasked(database, run.worker.worker_id)
            await run.stop()
    await check_given_back(table)


async def test_the_queue_of_a_job_that_somebody_deleted_is_free_in_the_end(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    async with running(make_worker(database, handlers.tasks)) as run:
        await client.add_raw_job("held", None, JobSpec(queue_name="q"))
        await handlers.wait_started(1)
        await database.execute("delete from graphile_worker._private_jobs")
        handlers.release.set()
        await handlers.wait_ended(1)
        await rest(run.worker)
        report = await run.stop()
    assert report.lost == 1
    assert await table.locked_queues() == {}


async def refuse_to_end(database: Database, priority: int) -> None:
    """Have the database refuse that jobs of a priority are completed, failed or given back."""
    await database.execute(f"""
        create function public.refuse() returns trigger language plpgsql as $$
        begin
          if old.locked_by is not null
            and old.priority = {priority}
            and (tg_op = 'DELETE' or new.locked_by is null)
          then
            raise exception 'not this one';
          end if;
          return case when tg_op = 'DELETE' then old else new end;
        end
        $$;
        create trigger refuse before update or delete on graphile_worker._private_jobs
        for each row execute function public.refuse()
    """)


async def test_only_a_job_that_cannot_be_written_stays_and_is_named(
    nursery: trio.Nursery, database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    """The others are recorded, queues freed, and the worker is gone from the registry; nothing crashes."""
    await refuse_to_end(database, 7)
    for number in range(3):
        await client.add_raw_job("held", None, JobSpec(queue_name=f"q{number}"))
    refused = await client.add_raw_job("held", None, JobSpec(priority=7))
    worker = make_worker(database, handlers.tasks)

    async def use() -> None:
        await handlers.wait_started(4)
        handlers.release.set()
        await rest_but_for(worker, 1)
        await client.add_raw_job("quick", None)
        await handlers.wait_ended(5)
        worker.stop()

    nursery.start_soon(use)
    with pytest.raises(ShutdownIncomplete, match="not this one") as raised:
        await worker.run()
    assert raised.value.job_ids == (refused.id,)
    [job] = await table.jobs()
    assert (job["id"], job["locked_by"]) == (refused.id, worker.worker_id)
    assert await table.locked_queues() == {}
    assert await client.list_active_workers() == []


async def test_a_drain_does_not_wait_for_a_job_that_cannot_be_written(
    database: Database, client: Client, handlers: Handlers
) -> None:
    await refuse_to_end(database, 7)
    await client.add_raw_job("quick", None)
    refused = await client.add_raw_job("quick", None, JobSpec(priority=7))
    with trio.fail_after(PATIENCE), pytest.raises(ShutdownIncomplete) as raised:
        await make_worker(database, handlers.tasks).run_once()
    assert raised.value.job_ids == (refused.id,)


async def test_a_locked_row_keeps_no_other_outcome_from_being_written(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    """Whoever adds under the key of a job that runs, in a transaction of their own, holds its row."""
    await client.add_raw_job("held", None, JobSpec(job_key="k"))
    await client.add_raw_job("held", None)
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(2)
        async with database.transaction() as users:
            await users.execute("select from graphile_worker._private_jobs where key = 'k' for update")
            handlers.release.set()
            await table.wait_until("select count(*) = 1 from graphile_worker._private_jobs")
        await table.wait_until("select count(*) = 0 from graphile_worker._private_jobs")
        assert (await run.stop()).completed == 2


async def test_another_worker_runs_at_once_what_a_stopped_one_gives_back(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """Neither polls within this test: the other one has to be told."""
    options = {"concurrency": 1, "shutdown": SOON}
    async with running(make_worker(database, handlers.tasks, **options)) as stopped:
        await client.add_raw_job("held", None)
        await handlers.wait_started(1)
        async with running(make_worker(database, handlers.tasks, **options)) as other:
            await rest(other.worker)
            assert (await stopped.stop()).returned == 1
            await handlers.wait_started(2)
            handlers.release.set()
            await handlers.wait_ended(1)
            assert (await other.stop()).completed == 1


async def rest_but_for(worker: Worker, unrecorded: int) -> None:
    with trio.fail_after(PATIENCE):
        while worker.statistics().unrecorded != unrecorded or worker.statistics().busy:
            await trio.testing.wait_all_tasks_blocked()
