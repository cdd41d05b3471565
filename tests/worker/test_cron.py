"""Workers with a crontab: by a clock that the test sets, on a real database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.notices import noticing
from tests.support.tables import Table, payloads
from tests.support.workers import NEVER, running
from tests.worker.clocks import NOON, HandClock
from trio_graphile import (
    Client,
    Cron,
    CronItem,
    CronOptions,
    CrontabInvalid,
    Database,
    DatabaseOptions,
    JobContext,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    parse_crontab,
)
from trio_graphile._worker.cron_ticker import SystemClock

HELD_BACK = "held_back"
"""A flag of jobs that no worker here takes: they stay in the table to be looked at."""


def crontab(*lines: str) -> tuple[CronItem, ...]:
    """Entries whose jobs stay in the table."""
    items = parse_crontab("\n".join(lines))
    return tuple(attrs.evolve(item, spec=attrs.evolve(item.spec, flags=[HELD_BACK])) for item in items)


def make_cron_worker(
    database: Database,
    tasks: TaskRegistry,
    clock: HandClock,
    items: Sequence[CronItem],
    options: CronOptions | None = None,
) -> Worker:
    worker_options = WorkerOptions(
        concurrency=4,
        poll_interval=NEVER,
        forbidden_flags=[HELD_BACK],
        cron=CronOptions() if options is None else options,
    )
    return Worker(database, tasks, worker_options, crontab=items, clock=clock)


async def times(database: Database) -> list[str]:
    rows = await database.fetch("""
        select to_char(run_at at time zone 'UTC', 'DD HH24:MI ') || task_identifier as job
        from graphile_worker.jobs
        order by id
    """)
    return [row["job"].removeprefix("01 ") for row in rows]


async def known(database: Database) -> dict[str, tuple[datetime, datetime | None]]:
    rows = await database.fetch("select * from graphile_worker._private_known_crontabs")
    return {row["identifier"]: (row["known_since"], row["last_execution"]) for row in rows}


async def make_known(database: Database, identifier: str, last_execution: datetime) -> None:
    sql = """
        insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
        values ($1::text, $2::timestamptz, $2::timestamptz)
    """
    await database.execute(sql, identifier, last_execution)


# --- ticks --------------------------------------------------------------------------------------


async def test_a_job_is_added_when_it_is_due_and_runs(database: Database) -> None:
    tasks, seen, ran = TaskRegistry(), list[object](), trio.Event()

    @tasks.task("note")
    async def note(payload: dict[str, Any], context: JobContext) -> None:
        seen.append((payload, context.job.run_at))
        ran.set()

    clock = HandClock(NOON - timedelta(seconds=30))
    async with running(
        make_cron_worker(database, tasks, clock, [Cron.hourly_at(note, minute=0, payload={"a": 1})])
    ):
        await clock.wait_idle()
        await clock.set(NOON - timedelta(milliseconds=1))
        assert seen == []
        await clock.set(NOON + timedelta(milliseconds=1))
        with trio.fail_after(20):
            await ran.wait()
    told = {"ts": "2024-05-01T12:00:00.000Z", "backfilled": False}
    assert seen == [({"a": 1, "_cron": told}, NOON)]


async def test_a_new_entry_becomes_known_and_adds_nothing_yet(database: Database, handlers: Handlers) -> None:
    clock = HandClock(NOON + timedelta(seconds=1))
    items = crontab("0 * * * * quick ?id=mine&fill=1d")
    async with running(make_cron_worker(database, handlers.tasks, clock, items)):
        assert await known(database) == {"mine": (clock.time, None)}
    assert await times(database) == []


async def test_each_minute_comes_once_whatever_the_clock_does(database: Database, handlers: Handlers) -> None:
    clock = HandClock(NOON + timedelta(seconds=1))
    items = crontab("* * * * * quick ?id=a", "*/2 * * * * held ?id=b")
    async with running(make_cron_worker(database, handlers.tasks, clock, items)):
        await clock.wait_idle()
        await clock.set(NOON + timedelta(minutes=2))
        assert await times(database) == ["12:01 quick", "12:02 quick", "12:02 held"]
        with noticing() as notices:
            await clock.set(NOON)
            await notices.wait_for("the clock was set back by 120 s")
        await clock.set(NOON + timedelta(minutes=2, seconds=59))
        assert len(await times(database)) == 3
        await clock.set(NOON + timedelta(minutes=5))
    assert await times(database) == [
        *("12:01 quick", "12:02 quick", "12:02 held"),
        *("12:03 quick", "12:04 quick", "12:04 held", "12:05 quick"),
    ]


async def test_a_worker_that_starts_on_the_minute_begins_with_it(
    database: Database, handlers: Handlers
) -> None:
    clock = HandClock(NOON)
    async with running(make_cron_worker(database, handlers.tasks, clock, crontab("* * * * * quick"))):
        await clock.wait_idle()
    assert await times(database) == ["12:00 quick"]


async def test_after_a_sleep_the_window_is_made_up_for_and_the_rest_is_named(
    database: Database, handlers: Handlers
) -> None:
    clock = HandClock(NOON + timedelta(seconds=1))
    items = crontab("*/20 * * * * quick", "5 12 * * * held")
    async with running(make_cron_worker(database, handlers.tasks, clock, items)):
        await clock.wait_idle()
        with noticing() as notices:
            await clock.set(NOON + timedelta(minutes=84))
            await notices.wait_for("cron is late by 2640 s: the machine slept, or its clock was set")
            await notices.wait_for(
                "cron entry held: no jobs are added for its times from 2024-05-01T12:05:00+00:00 "
                "to before 2024-05-01T13:24:00"
            )
    assert await times(database) == ["12:40 quick", "13:00 quick", "13:20 quick"]
    assert all('"backfilled":false' in payload for payload in await payloads(database))


async def test_only_the_latest_if_that_is_wanted(database: Database, handlers: Handlers) -> None:
    clock = HandClock(NOON + timedelta(seconds=1))
    options = CronOptions(missed_limit=1)
    async with running(
        make_cron_worker(database, handlers.tasks, clock, crontab("* * * * * quick"), options)
    ):
        await clock.wait_idle()
        await clock.set(NOON + timedelta(minutes=30))
    assert await times(database) == ["12:30 quick"]


async def test_a_keyed_entry_updates_the_job_that_waits(database: Database, handlers: Handlers) -> None:
    clock = HandClock(NOON)
    items = crontab("* * * * * quick ?jobKey=k")
    async with running(make_cron_worker(database, handlers.tasks, clock, items)):
        await clock.wait_idle()
        [before] = await payloads(database)
        await clock.advance(60)
        [after] = await payloads(database)
    assert '"ts":"2024-05-01T12:00:00.000Z"' in before
    assert '"ts":"2024-05-01T12:01:00.000Z"' in after


async def test_zones_are_those_of_the_entries(database: Database, handlers: Handlers) -> None:
    clock = HandClock(NOON + timedelta(seconds=1))
    items = crontab("CRON_TZ=Asia/Kathmandu", "0 18 * * * quick", "15 14 * * * held ?tz=Europe/Paris")
    async with running(make_cron_worker(database, handlers.tasks, clock, items)):
        await clock.wait_idle()
        await clock.set(NOON + timedelta(minutes=30))
    assert await times(database) == ["12:15 quick", "12:15 held"]


# --- backfill -----------------------------------------------------------------------------------


async def test_what_nobody_was_there_for_is_made_up_for(database: Database, handlers: Handlers) -> None:
    """By the identifier of the entry, not by that of its task; and marked as such."""
    await make_known(database, "mine", NOON - timedelta(hours=3))
    await make_known(database, "held", NOON - timedelta(hours=3))
    clock = HandClock(NOON)
    items = crontab("0 * * * * quick ?id=mine&fill=1d", "0 * * * * held")
    async with running(make_cron_worker(database, handlers.tasks, clock, items)):
        await clock.wait_idle()
    assert await times(database) == ["10:00 quick", "11:00 quick", "12:00 quick", "12:00 held"]
    marks = [payload.partition('"backfilled":')[2] for payload in await payloads(database)]
    assert marks == ["true}}", "true}}", "false}}", "false}}"]


async def test_a_year_of_missed_minutes_is_cut_to_the_limit(database: Database, handlers: Handlers) -> None:
    await make_known(database, "quick", NOON - timedelta(days=365))
    clock = HandClock(NOON + timedelta(seconds=1))
    items = crontab("* * * * * quick ?fill=52w")
    with noticing() as notices:
        worker = make_cron_worker(database, handlers.tasks, clock, items, CronOptions(missed_limit=3))
        async with running(worker):
            await clock.wait_idle()
            await notices.wait_for(
                "cron entry quick: no jobs are added for its times from 2023-05-03T12:00:01"
            )
    assert await times(database) == ["11:58 quick", "11:59 quick", "12:00 quick"]


async def test_a_time_that_somebody_put_in_the_future_is_named(
    database: Database, handlers: Handlers
) -> None:
    await make_known(database, "quick", NOON + timedelta(days=365))
    clock = HandClock(NOON)
    with noticing() as notices:
        async with running(make_cron_worker(database, handlers.tasks, clock, crontab("* * * * * quick"))):
            await notices.wait_for(
                "cron entry quick: its jobs up to 2025-05-01T12:00:00+00:00 were added already"
            )
            await clock.wait_idle()
    assert await times(database) == []


# --- a fleet ------------------------------------------------------------------------------------


async def test_of_a_fleet_with_one_crontab_one_adds_each_job(database: Database, handlers: Handlers) -> None:
    clock, fleet = HandClock(NOON + timedelta(seconds=1)), 8
    items = crontab("* * * * * quick", "*/2 * * * * held")
    async with trio.open_nursery() as nursery:
        workers = [make_cron_worker(database, handlers.tasks, clock, items) for _ in range(fleet)]
        for worker in workers:
            await nursery.start(worker.run)
        await clock.wait_idle(fleet)
        for _ in range(4):
            await clock.advance(60, waiting=fleet)
        for worker in workers:
            worker.stop()
    assert sorted(await times(database)) == [
        *("12:01 quick", "12:02 held", "12:02 quick"),
        *("12:03 quick", "12:04 held", "12:04 quick"),
    ]


async def test_a_clock_that_is_far_ahead_adds_nothing_until_it_is_set(
    database: Database, handlers: Handlers
) -> None:
    now: datetime = await database.fetch_value("select now()")
    clock = HandClock(now + timedelta(days=365))
    with noticing() as notices:
        async with running(make_cron_worker(database, handlers.tasks, clock, crontab("* * * * * quick"))):
            await clock.wait_idle()
            await clock.advance(60, waiting=0)
            await notices.wait_for(
                "ClockAhead: the clock of this machine is ahead of the database's by over 31"
            )
            assert await times(database) == []
            clock.time = now
            await clock.wait_idle()
            await clock.advance(60)
    [(_, last_execution)] = (await known(database)).values()
    assert last_execution == (now + timedelta(minutes=1)).replace(second=0, microsecond=0)
    assert len(await times(database)) == 1


async def test_a_clock_that_was_ahead_at_the_start_is_followed_when_it_is_set(
    database: Database, handlers: Handlers
) -> None:
    clock = HandClock(NOON + timedelta(days=365, seconds=1))
    async with running(make_cron_worker(database, handlers.tasks, clock, crontab("0 * * * * quick"))):
        await clock.wait_idle()
        await clock.set(NOON + timedelta(seconds=1))
        await clock.set(NOON + timedelta(hours=1))
    assert await times(database) == ["13:00 quick"]


# --- what fails ---------------------------------------------------------------------------------


async def test_an_error_is_got_over_and_nothing_is_missed(
    database: Database, handlers: Handlers, client: Client
) -> None:
    clock = HandClock(NOON + timedelta(seconds=1))
    async with running(
        make_cron_worker(database, handlers.tasks, clock, crontab("* * * * * quick ?priority=3"))
    ):
        await clock.wait_idle()
        await database.execute(
            "alter table graphile_worker._private_jobs add constraint no_threes check (priority <> 3)"
        )
        with noticing() as notices:
            await clock.advance(60, waiting=0)
            await notices.wait_for("cron failed, next try in 0.")
        await client.add_raw_job("held")
        await handlers.wait_started(1)  # other jobs go on
        handlers.release.set()
        await handlers.wait_ended(1)
        clock.time += timedelta(minutes=2)
        await database.execute("alter table graphile_worker._private_jobs drop constraint no_threes")
        await clock.wait_idle()
    assert await times(database) == ["12:01 quick", "12:02 quick", "12:03 quick"]


async def test_an_entry_that_is_refused_keeps_no_other_waiting(
    database: Database, handlers: Handlers
) -> None:
    """Neither at the same time nor later, and it is added itself once it can be."""
    clock = HandClock(NOON + timedelta(seconds=1))
    entries = crontab("* * * * * quick ?id=refused&priority=3\n* * * * * held ?id=other")
    async with running(make_cron_worker(database, handlers.tasks, clock, entries)):
        await clock.wait_idle()
        await database.execute(
            "alter table graphile_worker._private_jobs add constraint no_threes check (priority <> 3)"
        )
        with noticing() as notices:
            await clock.advance(60, waiting=0)
            await notices.wait_for("cron failed, next try in 0.")
        clock.time += timedelta(minutes=2)
        with trio.fail_after(20):
            while len(await times(database)) < 3:
                pass
        await database.execute("alter table graphile_worker._private_jobs drop constraint no_threes")
        await clock.wait_idle()
    assert sorted(await times(database)) == [
        f"12:0{minute} {task}" for minute in (1, 2, 3) for task in ("held", "quick")
    ]


async def test_a_database_that_is_away_at_the_start_keeps_no_worker_from_starting(
    database: Database, handlers: Handlers
) -> None:
    clock = HandClock(NOON)
    await database.execute("alter table graphile_worker._private_known_crontabs rename to away")
    async with running(make_cron_worker(database, handlers.tasks, clock, crontab("* * * * * quick"))):
        await clock.advance(60, waiting=0)
        await database.execute("alter table graphile_worker.away rename to _private_known_crontabs")
        await clock.wait_idle()
    assert await times(database) == ["12:00 quick", "12:01 quick"]


async def test_handlers_that_use_up_the_pool_do_not_hold_it_up(database_url: str) -> None:
    tasks, borrowed, release = TaskRegistry(), trio.Event(), trio.Event()

    @tasks.task("greedy")
    async def greedy(context: JobContext) -> None:
        async with context.database.connection():
            borrowed.set()
            await release.wait()

    @tasks.task("quick")
    async def quick() -> None:
        release.set()

    clock = HandClock(NOON + timedelta(seconds=1))
    async with open_database(database_url, DatabaseOptions(pool_size=1)) as database:
        await Client(database).add_raw_job("greedy")
        async with running(make_cron_worker(database, tasks, clock, [Cron.every_minute(quick)])):
            with trio.fail_after(20):
                await borrowed.wait()
                await clock.wait_idle()
                await clock.advance(60)
                await release.wait()


# --- what a crontab is not ----------------------------------------------------------------------


async def test_a_worker_that_runs_once_adds_nothing(database: Database, handlers: Handlers) -> None:
    worker = make_cron_worker(database, handlers.tasks, HandClock(NOON), crontab("* * * * * quick"))
    await worker.run_once()
    assert await known(database) == {}
    assert await times(database) == []


@pytest.mark.parametrize("line", ["* * * * * unknown", "* * * * * text"])
async def test_a_crontab_that_does_not_fit_the_tasks_is_refused_when_the_worker_is_made(
    line: str, database: Database, handlers: Handlers
) -> None:
    @handlers.tasks.task("text")
    async def text(payload: str) -> None: ...

    with pytest.raises(CrontabInvalid, match="crontab:1:11: "):
        make_cron_worker(database, handlers.tasks, HandClock(), parse_crontab(line))


async def test_the_clock_of_the_machine_looks_again_before_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It may be set, or the machine sleep, while somebody waits."""
    clock, began = SystemClock(), trio.current_time()
    assert clock.now().utcoffset() == timedelta(0)
    await clock.wait_until(datetime(2000, 1, 1, tzinfo=UTC))
    assert trio.current_time() == began
    await clock.wait_until(clock.now() + timedelta(days=1))
    assert trio.current_time() - began == pytest.approx(20)


async def test_the_jobs_of_a_stopped_worker_are_left_to_others(
    database: Database, handlers: Handlers, table: Table
) -> None:
    clock = HandClock(NOON)
    worker = make_cron_worker(database, handlers.tasks, clock, parse_crontab("* * * * * held"))
    async with running(worker) as run:
        await handlers.wait_started(1)
        worker.cancel()
        report = await run.wait()
    assert (report.returned, report.completed) == (1, 0)
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"], row["run_at"]) == (0, None, NOON)


async def test_of_hundreds_of_entries_none_is_missed_by_a_busy_worker_or_a_restless_clock(
    database: Database, handlers: Handlers
) -> None:
    """The only slot has a job all the while. The clock goes back and forth, and each time comes once."""
    items = crontab(*(f"* * * * * quick ?id=entry{number}" for number in range(600)))
    clock = HandClock()
    options = WorkerOptions(concurrency=1, poll_interval=NEVER, forbidden_flags=[HELD_BACK])
    await Client(database).add_raw_job("held")
    async with running(Worker(database, handlers.tasks, options, crontab=items, clock=clock)) as run:
        await handlers.wait_started(1)
        await clock.wait_idle()
        for seconds in (60, 30, -150, 120, 61, -3600, 3600, 0.5, -0.7, 180, -59, 60):
            await clock.advance(seconds)
        handlers.release.set()
        run.worker.stop()
    rows = await database.fetch("""
        select (payload::jsonb #>> '{_cron,ts}')::timestamptz as at, count(*) as jobs
        from graphile_worker._private_jobs
        group by at
        order by at
    """)
    minutes = [
        NOON + timedelta(minutes=minute)
        for minute in range(int((clock.time - NOON).total_seconds() // 60) + 1)
    ]
    assert [(row["at"], row["jobs"]) for row in rows] == [(minute, 600) for minute in minutes]
