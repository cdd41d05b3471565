"""Crontabs in the database: who is known since when, and that each time is added for once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from trio_graphile import Connection, Database, JobSpec, StatementFailed
from trio_graphile._cron.due import Known
from trio_graphile._database.adding.mixed import add_jobs
from trio_graphile._database.crontabs import CronJob, Scheduled, register_crontabs, schedule_cron_jobs
from trio_graphile._model.jobs import JobKeyMode, NewJob

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def job(entry: str, payload: str = "{}", at: datetime = NOON, **spec: object) -> CronJob:
    return CronJob(entry, NewJob("task", payload, JobSpec(run_at=at, **spec)))  # type: ignore[arg-type]


async def schedule(connection: Connection, at: datetime, *jobs: CronJob) -> Scheduled:
    return await schedule_cron_jobs(connection, at, jobs, tolerance=60)


async def crontabs(connection: Connection) -> dict[str, tuple[datetime, datetime | None]]:
    rows = await connection.fetch("select * from graphile_worker._private_known_crontabs order by identifier")
    return {row["identifier"]: (row["known_since"], row["last_execution"]) for row in rows}


async def jobs(connection: Connection) -> list[dict[str, object]]:
    rows = await connection.fetch("""
        select tasks.identifier as task, jobs.payload::text as payload, queues.queue_name as queue,
          jobs.run_at, jobs.max_attempts, jobs.priority, jobs.key, jobs.flags::text as flags, jobs.revision
        from graphile_worker._private_jobs as jobs
        join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
        left join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
        order by jobs.id
    """)
    return [dict(row) for row in rows]


# --- registration -------------------------------------------------------------------------------


async def test_new_entries_become_known_and_nothing_is_added(connection: Connection) -> None:
    assert await register_crontabs(connection, ["a", "b"], NOON) == {}
    assert await crontabs(connection) == {"a": (NOON, None), "b": (NOON, None)}
    assert await jobs(connection) == []


async def test_what_is_known_is_returned_and_stays_as_it_is(connection: Connection) -> None:
    await register_crontabs(connection, ["a", "of_somebody_else"], NOON)
    await schedule(connection, NOON + MINUTE, job("a"))
    known = await register_crontabs(connection, ["b", "a"], NOON + 5 * MINUTE)
    assert known == {"a": Known(NOON, NOON + MINUTE)}
    assert set(await crontabs(connection)) == {"a", "b", "of_somebody_else"}


async def test_two_workers_may_register_at_once(database: Database) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(register_crontabs, database, ["a", "b", "c"], NOON)
    async with database.connection() as connection:
        assert set(await crontabs(connection)) == {"a", "b", "c"}


# --- scheduling ---------------------------------------------------------------------------------


async def test_a_time_is_added_for_once_and_an_earlier_one_not_at_all(connection: Connection) -> None:
    first = await schedule(connection, NOON, job("a"))
    assert set(first.job_ids) == {"a"}
    for at in (NOON, NOON - MINUTE, NOON):
        assert (await schedule(connection, at, job("a", at=at))).job_ids == {}
    assert len(await jobs(connection)) == 1
    later = await schedule(connection, NOON + MINUTE, job("a", at=NOON + MINUTE))
    assert set(later.job_ids) == {"a"}
    assert [row["run_at"] for row in await jobs(connection)] == [NOON, NOON + MINUTE]
    assert await crontabs(connection) == {"a": (NOON, NOON + MINUTE)}


async def test_two_hundred_workers_add_one_job_a_minute(database: Database) -> None:
    times = [NOON + n * MINUTE for n in range(3)]
    won: list[datetime] = []

    async def work(minute: datetime) -> None:
        scheduled = await schedule_cron_jobs(database, minute, [job("a", at=minute)], tolerance=60)
        won.extend([minute] * len(scheduled.job_ids))

    for minute in times:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(work, minute)
    assert won == times
    async with database.connection() as connection:
        assert [row["run_at"] for row in await jobs(connection)] == times


async def test_entries_that_are_due_at_once_are_added_in_their_order(connection: Connection) -> None:
    await schedule(connection, NOON, job("b"))
    scheduled = await schedule(connection, NOON, *(job(name, f'{{"of":"{name}"}}') for name in "dbca"))
    assert list(scheduled.job_ids) == ["d", "c", "a"]
    assert [row["payload"] for row in await jobs(connection)] == [
        "{}",
        '{"of":"d"}',
        '{"of":"c"}',
        '{"of":"a"}',
    ]


async def test_a_job_is_added_with_all_that_its_entry_says(connection: Connection) -> None:
    flags = ["flag", 'a "b" \\ {c,d}']
    spec = JobSpec(run_at=NOON, queue_name="q", max_attempts=3, priority=-2, job_key="k", flags=flags)
    await schedule(connection, NOON, CronJob("full", NewJob("t", '{"a":1}', spec)), job("plain"))
    full, plain = await jobs(connection)
    assert full.pop("flags") == '{"flag": true, "a \\"b\\" \\\\ {c,d}": true}'
    assert full == {
        "task": "t",
        "payload": '{"a":1}',
        "queue": "q",
        "run_at": NOON,
        "max_attempts": 3,
        "priority": -2,
        "key": "k",
        "revision": 0,
    }
    assert (plain["max_attempts"], plain["priority"], plain["key"], plain["flags"]) == (25, 0, None, None)


@pytest.mark.parametrize(("mode", "run_at"), [("replace", NOON + MINUTE), ("preserve_run_at", NOON)])
async def test_a_keyed_job_is_updated(connection: Connection, mode: str, run_at: datetime) -> None:
    for at in (NOON, NOON + MINUTE):
        await schedule(
            connection,
            at,
            job("a", f'{{"at":"{at:%H:%M}"}}', at=at, job_key="k", job_key_mode=JobKeyMode(mode)),
        )
    [row] = await jobs(connection)
    assert (row["payload"], row["run_at"], row["revision"]) == ('{"at":"12:01"}', run_at, 1)


async def test_two_entries_may_share_a_key_and_a_time(connection: Connection) -> None:
    await schedule(connection, NOON, job("a", '{"of":"a"}', job_key="k"), job("b", '{"of":"b"}', job_key="k"))
    [row] = await jobs(connection)
    assert (row["payload"], row["revision"]) == ('{"of":"b"}', 1)


async def test_a_job_that_is_refused_keeps_no_other_of_its_time_from_being_added(
    connection: Connection,
) -> None:
    await connection.execute("""
        alter table graphile_worker._private_jobs add constraint no_threes check (priority <> 3)
    """)
    with pytest.raises(StatementFailed, match="no_threes"):
        await schedule(connection, NOON, job("a"), job("b", priority=3), job("c"))
    assert len(await jobs(connection)) == 2
    assert set(await crontabs(connection)) == {"a", "c"}


async def test_what_is_not_the_fault_of_a_job_is_raised(connection: Connection) -> None:
    await connection.execute("drop table graphile_worker._private_known_crontabs")
    with pytest.raises(StatementFailed, match="_private_known_crontabs"):
        await schedule(connection, NOON, job("a"), job("b"))


async def test_of_many_workers_one_adds_each_job(database: Database) -> None:
    added: list[str] = []

    async def work(names: str) -> None:
        for number in range(5):
            at = NOON + number * MINUTE
            specs = [job(name, at=at) for name in names]
            scheduled = await schedule_cron_jobs(database, at, specs, tolerance=60)
            added.extend(f"{name}{number}" for name in scheduled.job_ids)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(work, "abc")
    assert sorted(added) == [f"{name}{number}" for name in "abc" for number in range(5)]
    assert await database.fetch_value("select count(*) from graphile_worker.jobs") == 15


async def test_what_is_ahead_of_the_database_is_refused(connection: Connection) -> None:
    now: datetime = await connection.fetch_value("select now()")
    for ahead in (timedelta(minutes=2), timedelta(days=365)):
        refused = await schedule(connection, now + ahead, job("a"))
        assert refused.job_ids == {}
        assert refused.now >= now
    assert await crontabs(connection) == {}
    assert set((await schedule(connection, now + timedelta(seconds=30), job("a"))).job_ids) == {"a"}


async def test_it_wakes_workers(connection: Connection) -> None:
    heard = trio.Event()
    await connection.listen("jobs:insert", lambda _payload: heard.set())
    await schedule(connection, NOON, job("a"))
    with trio.fail_after(20):
        await heard.wait()


async def test_a_waiting_job_of_the_same_task_is_left_alone(connection: Connection) -> None:
    await add_jobs(
        connection, [NewJob("task", "{}", JobSpec()), NewJob("task", "{}", JobSpec())], preserve_run_at=False
    )
    await schedule(connection, NOON, job("a"))
    assert len(await jobs(connection)) == 3
