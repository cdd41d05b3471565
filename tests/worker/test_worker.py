"""`run`: wakes up, retries what passes, and ends as it promises."""

from __future__ import annotations

import logging
import os
import re
import signal

import attrs
import pytest
import trio

from tests.database.sessions import purposes
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.tempers import FailingRegistry
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import NEVER, make_worker, running
from trio_graphile import (
    Client,
    Database,
    DatabaseOptions,
    DatabaseUnavailable,
    JobContext,
    JobSpec,
    LeaseOptions,
    ListenState,
    OptionInvalid,
    RecoveryOptions,
    SchemaTooNew,
    ShutdownIncomplete,
    ShutdownOptions,
    ShutdownReport,
    StopCause,
    Worker,
    WorkerBusy,
    WorkerCrashed,
    WorkerOptions,
    WorkerPhase,
    open_database,
    stop_on_signals,
)
from trio_graphile.embedded import embedded_postgres


async def test_jobs_that_are_added_start_at_once_and_run_once(
    database: Database, client: Client, handlers: Handlers
) -> None:
    async with running(make_worker(database, handlers.tasks)) as run:
        for count in range(1, 6):
            await client.add_raw_job("quick")
            await handlers.wait_ended(count)
        report = await run.stop()
    assert report.completed == 5
    assert len({job.id for job in handlers.ended}) == len(handlers.ended) == 5


async def test_more_jobs_than_slots_are_drained_without_a_poll(
    database: Database, client: Client, handlers: Handlers
) -> None:
    await client.add_raw_jobs([("quick", None)] * 100)
    async with running(make_worker(database, handlers.tasks)):
        await handlers.wait_ended(100)
    assert handlers.most_at_once <= 4


async def test_the_next_job_of_a_queue_does_not_wait_for_a_poll(
    database: Database, client: Client, handlers: Handlers
) -> None:
    await client.add_raw_jobs([("quick", None, JobSpec(queue_name="q"))] * 10)
    async with running(make_worker(database, handlers.tasks)):
        await handlers.wait_ended(10)
    assert handlers.most_at_once == 1


async def test_the_next_job_of_a_queue_that_a_stopping_worker_frees_is_for_others_at_once(
    database: Database, client: Client, handlers: Handlers
) -> None:
    await client.add_raw_jobs([("held", None, JobSpec(queue_name="q"))] * 2)
    async with running(make_worker(database, handlers.tasks, concurrency=1)) as stopping:
        await handlers.wait_started(1)
        async with running(make_worker(database, handlers.tasks)):
            await client.add_raw_job("quick")
            await handlers.wait_ended(1)  # by the other worker, which has found nothing else
            stopping.worker.stop()
            handlers.release.set()
            await handlers.wait_ended(3)


async def test_without_notifications_nothing_listens_and_polling_finds_the_jobs(
    database: Database, client: Client, handlers: Handlers
) -> None:
    worker = make_worker(database, handlers.tasks, notifications=False, poll_interval=0.05)
    async with running(worker):
        await client.add_raw_job("quick")
        await handlers.wait_ended(1)
        assert worker.statistics().listen_state is ListenState.OFF


async def test_a_worker_has_three_sessions_that_last(database: Database, handlers: Handlers) -> None:
    expected = ["claim", "outcomes", "presence"]
    async with running(make_worker(database, handlers.tasks)):
        with trio.fail_after(PATIENCE):
            # That of the start is still being closed, maybe.
            while await purposes(database) != expected:  # noqa: ASYNC110  # the database tells nobody when
                await trio.lowlevel.checkpoint()


async def sessions(database: Database, name: str = "trio_graphile %") -> list[int]:
    rows = await database.fetch(
        """
        select pid
        from pg_stat_activity
        where datname = current_database() and application_name like $1::text
        """,
        name,
    )
    return [row["pid"] for row in rows]


async def wait_for_listener(database: Database, *, but: int = 0) -> int:
    """Wait until there is a session that claims and listens, and is not this one; return its process."""
    with trio.fail_after(PATIENCE):
        while True:
            found = [pid for pid in await sessions(database, "trio_graphile claim") if pid != but]
            if len(found) == 1:
                return found[0]


LEASE_HAS_LOOKED = """
    select exists (
      select
      from pg_stat_activity
      where datname = current_database()
        and application_name = 'trio_graphile lease'
        and state = 'idle'
        and query like '%insert into%_private_tasks%'
    )
"""  # what follows a renewal: a look at the revision of the schema, and then this


async def test_a_lost_listener_comes_back_and_hears_again(
    database: Database, client: Client, handlers: Handlers
) -> None:
    async with running(make_worker(database, handlers.tasks)):
        old = await wait_for_listener(database)
        await database.execute("select pg_terminate_backend($1::integer)", old)
        await client.add_raw_job("quick")  # heard, or found by the claim that follows the reconnection
        await handlers.wait_ended(1)
        await client.add_raw_job("quick")
        await handlers.wait_ended(2)
        await wait_for_listener(database, but=old)


async def test_a_worker_whose_sessions_are_all_killed_goes_on_and_loses_nothing(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None)] * 6)
    async with running(make_worker(database, handlers.tasks, poll_interval=0.1)) as run:
        await handlers.wait_started(4)
        for process in await sessions(database):
            await database.execute("select pg_terminate_backend($1::integer)", process)
        handlers.release.set()
        await handlers.wait_ended(6)
        report = await run.stop()
    assert (report.completed, report.lost) == (6, 0)
    assert await table.jobs() == []


async def test_a_row_that_is_ours_and_that_nobody_knows_of_is_given_back_while_the_worker_runs(
    database: Database, client: Client, handlers: Handlers
) -> None:
    worker = make_worker(database, handlers.tasks, poll_interval=0.05, lease=LeaseOptions(length=0.5))
    async with running(worker):
        async with database.transaction() as connection:  # as a claim that we do not remember
            job = await client.using(connection).add_raw_job("quick")
            await connection.execute(
                """
                update graphile_worker._private_jobs
                set locked_by = $1::text, locked_at = now() + interval '1 second', attempts = 1
                where id = $2::bigint
                """,
                worker.worker_id,
                job.id,
            )
        await handlers.wait_ended(1)
    assert handlers.ended[0].attempts == 1


async def test_a_job_that_ends_within_the_grace_period_is_completed(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None)] * 6)
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(4)
        run.worker.stop()
        handlers.release.set()
        report = await run.stop()
    assert (report.completed, report.returned) == (4, 0)
    assert [(job["attempts"], job["locked_by"]) for job in await table.jobs()] == [(0, None)] * 2


async def test_a_job_that_outlives_the_grace_period_keeps_its_attempt_and_its_time(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held", None, JobSpec(queue_name="q"))
    [before] = await table.jobs()
    options = ShutdownOptions(grace_period=0.05)
    async with running(make_worker(database, handlers.tasks, shutdown=options)) as run:
        await handlers.wait_started(1)
        report = await run.stop()
    assert (report.completed, report.failed, report.returned) == (0, 0, 1)
    assert len(handlers.cancelled) == 1
    [after] = await table.jobs()
    assert {**after, "delay": None} == {**before, "delay": None}
    assert await table.locked_queues() == {}


async def test_a_handler_is_told_of_the_stop(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("attentive")
    async def attentive(context: JobContext) -> None:
        handlers.started.append(context.job)
        handlers.note()
        await context.stopping.wait()

    await client.add_raw_job("attentive")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        assert (await run.stop()).completed == 1
    assert await table.jobs() == []


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        ('{"migrationNumber": 21, "breaking": true}', StopCause.SUPERSEDED),
        ('{"migrationNumber": 21, "breaking": false}', StopCause.STOPPED),
        ("nonsense", StopCause.STOPPED),
    ],
)
async def test_a_breaking_migration_by_somebody_else_stops_the_worker_gracefully(
    client: Client, handlers: Handlers, payload: str, cause: StopCause
) -> None:
    async with running(make_worker(client.database, handlers.tasks)) as run:
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        await client.database.execute("select pg_notify('worker:migrate', $1::text)", payload)
        await client.add_raw_job("quick")  # its notification comes after the other
        goes_on = cause is StopCause.STOPPED
        if goes_on:
            await handlers.wait_ended(1)
        handlers.release.set()
        report = await run.stop() if goes_on else await run.wait()
    assert report.cause is cause
    assert report.completed == (2 if goes_on else 1)


@pytest.mark.parametrize("hears", ["polls", "is deaf", "drains"])
async def test_a_breaking_migration_that_was_not_heard_of_is_seen(
    hears: str, client: Client, handlers: Handlers, table: Table
) -> None:
    """By whoever polls, with the next renewal; by whoever was deaf for a while, once it listens again."""
    await client.add_raw_job("held")
    lease = LeaseOptions(length=300 if hears == "is deaf" else 1)
    recovery = RecoveryOptions(presence=None)  # so that the lease's session says what it did last
    worker = make_worker(
        client.database, handlers.tasks, lease=lease, recovery=recovery, notifications=hears == "is deaf"
    )
    reports: list[ShutdownReport] = []

    async def run() -> None:
        reports.append(await (worker.run_once() if hears == "drains" else worker.run()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await handlers.wait_started(1)
        listener: int | None = None
        if hears == "is deaf":
            await table.wait_until(LEASE_HAS_LOOKED)  # the next renewal is far off
            listener = await wait_for_listener(client.database)
        await client.database.execute(
            "insert into graphile_worker.migrations (id, breaking) values (999, true)"
        )
        if listener is not None:
            await client.database.execute("select pg_terminate_backend($1::integer)", listener)
        await wait_until(lambda: worker.statistics().phase is WorkerPhase.STOPPING)
        await client.add_raw_job("quick")
        handlers.release.set()
    assert [(report.cause, report.completed) for report in reports] == [(StopCause.SUPERSEDED, 1)]


async def test_cancelling_the_worker_skips_the_grace_period(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        run.worker.stop()
        run.worker.cancel()
        assert (await run.stop()).returned == 1
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"], job["last_error"]) == (0, None, None)


async def test_a_cancelled_nursery_gets_its_jobs_back_too(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held")
    async with trio.open_nursery() as nursery:
        await nursery.start(make_worker(database, handlers.tasks).run)
        await handlers.wait_started(1)
        nursery.cancel_scope.cancel()
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"], job["last_error"]) == (0, None, None)


async def test_a_worker_runs_once_at_a_time_and_not_after_a_stop(
    database: Database, handlers: Handlers
) -> None:
    worker = make_worker(database, handlers.tasks)
    async with running(worker):
        with pytest.raises(WorkerBusy, match="running already"):
            await worker.run()
    with pytest.raises(WorkerBusy, match="stopped"):
        await worker.run_once()


async def test_a_worker_that_was_stopped_before_it_ran_ends_at_once(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("quick")
    worker = make_worker(database, handlers.tasks)
    worker.stop()
    async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # that start returns is the point
        await nursery.start(worker.run)
    draining = make_worker(database, handlers.tasks)
    draining.stop()
    await draining.run_once()
    assert handlers.started == []
    assert len(await table.jobs()) == 1


async def test_a_worker_needs_a_registry_not_a_list_of_tasks(database: Database, handlers: Handlers) -> None:
    with pytest.raises(OptionInvalid, match=r"^tasks: a TaskRegistry is needed, not .* type list$"):
        Worker(database, list(handlers.tasks))  # type: ignore[arg-type]


async def test_what_keeps_a_worker_from_starting_is_raised_where_it_is_started(
    database: Database, handlers: Handlers
) -> None:
    await database.execute("insert into graphile_worker.migrations (id, breaking) values (999999, true)")
    with pytest.raises(SchemaTooNew):
        await make_worker(database, handlers.tasks).run()


async def test_a_worker_installs_the_schema_if_it_is_missing(
    empty_database_url: str, handlers: Handlers
) -> None:
    options = DatabaseOptions(schema='Mixed "Case"-1')
    async with (
        open_database(empty_database_url, options) as database,
        running(make_worker(database, handlers.tasks)),
    ):
        await Client(database, handlers.tasks).add_raw_job("quick")
        await handlers.wait_ended(1)


async def test_a_crashed_service_gives_the_jobs_back_and_is_one_exception(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    tasks = FailingRegistry()
    tasks.include(handlers.tasks)
    await client.add_raw_jobs([("held", None)] * 2)
    worker = make_worker(database, tasks)

    async def crash() -> None:
        await handlers.wait_started(2)
        tasks.broken = True
        await client.add_raw_job("held")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash)
        with pytest.raises(WorkerCrashed, match="LookupError: the registry is broken"):
            await worker.run()
    assert [(job["attempts"], job["locked_by"]) for job in await table.jobs()] == [(0, None)] * 3


async def test_an_interrupt_of_the_program_gets_through_and_gives_the_job_back(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("interrupted")
    async def interrupted(context: JobContext) -> None:
        raise KeyboardInterrupt

    await client.add_raw_job("interrupted")
    with pytest.raises(KeyboardInterrupt):
        await make_worker(database, handlers.tasks).run()
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"], job["last_error"]) == (0, None, None)


async def test_a_group_that_a_handlers_nursery_raises_is_a_failure(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("family")
    async def family(context: JobContext) -> None:
        async def child(text: str) -> None:
            raise ValueError(text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "first")
            nursery.start_soon(child, "second")

    await client.add_raw_job("family")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [job] = await table.jobs()
    first, second = sorted(str(job["last_error"]).split("; "))
    assert re.fullmatch(r"ValueError: first \(tests\.worker\.test_worker:\d+ in child\)", first)
    assert re.fullmatch(r"ValueError: second \(tests\.worker\.test_worker:\d+ in child\)", second)


async def test_a_payload_that_does_not_fit_fails_with_its_path_and_calls_no_handler(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @attrs.frozen
    class Resize:
        width: int

    @handlers.tasks.task("resize")
    async def resize(payload: Resize) -> None:
        raise AssertionError("called")

    await client.add_raw_job("resize", {"width": "secret"})
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [job] = await table.jobs()
    assert str(job["last_error"]).startswith("JobPayloadInvalid: payload of task 'resize': ")
    assert "$.width" in str(job["last_error"])
    assert "secret" not in str(job["last_error"])


async def test_an_error_text_that_postgresql_cannot_hold_is_recorded_all_the_same(
    database: Database, client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    # A report with a captured surrogate is more than pytest-xdist can carry from one process to another.
    caplog.set_level(logging.CRITICAL + 1, logger="trio_graphile.worker")

    @handlers.tasks.task("odd")
    async def odd(context: JobContext) -> None:
        raise ValueError("nul \0 and surrogate \ud800 and " + "long " * 10_000)

    await client.add_raw_job("odd")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [job] = await table.jobs()
    error = str(job["last_error"])
    assert error.startswith(r"ValueError: nul \0 and surrogate \ud800 and long long")
    assert len(error) <= 10_000


async def test_a_failing_job_is_logged_without_its_payload(
    database: Database, client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    await client.add_raw_job("failing", {"password": "secret"}, JobSpec(max_attempts=1))
    await make_worker(database, handlers.tasks).run_once()
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert record.levelno == logging.ERROR  # it was the last attempt
    assert "attempt 1 of 1" in record.getMessage()
    assert "secret" not in caplog.text


async def test_a_job_taken_from_us_while_it_ran_is_left_to_its_new_owner(
    database: Database, client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    await client.add_raw_job("held")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        await database.execute("update graphile_worker._private_jobs set locked_by = 'another'")
        handlers.release.set()
        report = await run.stop()
    assert (report.completed, report.lost) == (0, 1)
    assert [job["locked_by"] for job in await table.jobs()] == ["another"]
    assert "was taken from us" in caplog.text


async def test_a_database_out_of_reach_at_the_end_is_said_and_the_jobs_are_named() -> None:
    handlers = Handlers()
    options = WorkerOptions(
        concurrency=2, shutdown=ShutdownOptions(grace_period=0.05, flush_timeout=0.5), poll_interval=NEVER
    )
    async with (
        embedded_postgres() as server,
        open_database(server.url, DatabaseOptions(pool_size=1)) as database,
    ):
        client = Client(database, handlers.tasks)
        await client.migrate()
        job = await client.add_raw_job("held")
        worker = Worker(database, handlers.tasks, options)

        async def fail() -> None:
            await handlers.wait_started(1)
            await server.kill()
            worker.stop()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            with trio.fail_after(10), pytest.raises(ShutdownIncomplete) as caught:
                await worker.run()
        assert caught.value.job_ids == (job.id,)
        assert str(job.id) in str(caught.value)
        assert worker.worker_id in str(caught.value)
        with pytest.raises(DatabaseUnavailable):
            await client.add_raw_job("held")


async def test_the_first_signal_stops_and_the_second_cancels(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with trio.open_nursery() as nursery:
        worker = make_worker(database, handlers.tasks)
        await nursery.start(worker.run)
        await nursery.start(stop_on_signals, worker)
        await handlers.wait_started(1)
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(10):
            await worker.wait_stopping()
        assert handlers.cancelled == []
        os.kill(os.getpid(), signal.SIGINT)
    assert len(handlers.cancelled) == 1
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"]) == (0, None)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_signals_are_let_go_when_the_worker_ends_otherwise(
    database: Database, handlers: Handlers
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        worker = make_worker(database, handlers.tasks)
        await nursery.start(stop_on_signals, worker)
        await nursery.start(worker.run)
        worker.stop()
    assert signal.getsignal(signal.SIGTERM) == before
