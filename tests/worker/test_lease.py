"""The lease: what is held stays ours while we live, and is let go before others may take it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.notices import Notices, noticing
from tests.support.tables import Table
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import NEVER, make_worker, running
from trio_graphile import (
    Client,
    ConnectionLost,
    Database,
    DatabaseOptions,
    JobContext,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    OptionInvalid,
    ShutdownOptions,
    StatementFailed,
    StopCause,
    open_database,
)
from trio_graphile._database.connection import Executor
from trio_graphile._database.worker_registry import Renewal
from trio_graphile._worker.ending import Ending
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.lease_signals import LeaseSignals
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.presence import Presence, Renewed
from trio_graphile.embedded import embedded_postgres

EAGER = LeaseOptions(length=300, renew_interval=0.05, blocked_after=0.2)


make_eager_worker = partial(make_worker, lease=EAGER, shutdown=ShutdownOptions(grace_period=5.0))


async def wait_renewed(table: Table, *, but: int = 0) -> None:
    """Wait until every lock that is held now, but that of one job, has been renewed."""
    now = await table.database.fetch_value("select clock_timestamp()")
    await table.wait_until(
        """
        select min(locked_at) > $1::timestamptz
        from graphile_worker._private_jobs
        where locked_at is not null and id <> $2::bigint
        """,
        now,
        but,
    )


async def test_locks_of_jobs_and_queues_are_renewed_and_the_worker_is_known(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None, JobSpec(queue_name="q")), ("held", None)])
    async with trio.open_nursery() as nursery:
        worker = make_eager_worker(database, handlers.tasks)
        await nursery.start(worker.run)
        await handlers.wait_started(2)
        await wait_renewed(table)
        row = await database.fetch_row("""
            select min(queues.locked_at) > min(jobs.created_at) as queue_renewed
            from graphile_worker._private_jobs as jobs, graphile_worker._private_job_queues as queues
        """)
        assert row is not None
        assert row["queue_renewed"]
        beats = await database.fetch("select id, metadata from graphile_worker._private_workers")
        assert [beat["id"] for beat in beats] == [worker.worker_id]
        assert set(beats[0]["metadata"]["tasks"]) == {"quick", "held", "failing"}
        assert {"pid", "host", "version", "concurrency"} <= set(beats[0]["metadata"])
        handlers.release.set()
        await handlers.wait_ended(2)
        worker.stop()
    assert await database.fetch("select id from graphile_worker._private_workers") == []


async def test_workers_that_end_when_they_have_hardly_begun_are_not_known_afterwards(
    database: Database, handlers: Handlers
) -> None:
    """Not even if the first heartbeat of the lease comes at the worst moment."""
    for _ in range(20):
        async with trio.open_nursery() as nursery:
            worker = make_eager_worker(database, handlers.tasks)
            await nursery.start(worker.run)
            worker.stop()
    assert await database.fetch("select id from graphile_worker._private_workers") == []


async def test_a_handler_that_blocks_the_event_loop_loses_nothing_and_is_named(
    database: Database, client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    spans: list[object] = []

    @handlers.tasks.task("blocking")
    async def blocking(context: JobContext) -> None:
        spans.append(context.job.locked_at)
        threading.Event().wait(1.0)
        spans.append(
            await context.database.fetch_value("select locked_at from graphile_worker._private_jobs")
        )
        spans.append(await context.database.fetch_value("select now()"))

    job = await client.add_raw_job("blocking")
    await make_eager_worker(database, handlers.tasks).run_once()
    claimed, renewed, ended = spans
    assert (renewed - claimed).total_seconds() > 0.5  # type: ignore[operator]
    assert (ended - renewed).total_seconds() < 0.5  # type: ignore[operator]
    [record] = [r for r in caplog.records if "is blocked" in r.getMessage()]
    assert f"by job {job.id} (blocking), at {__file__}:" in record.getMessage()
    assert "blocking" in record.getMessage()
    assert "turns again" in caplog.text


async def test_a_job_that_was_taken_from_us_is_cancelled_and_left_to_its_new_owner(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held")
    async with running(make_eager_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        await database.execute("update graphile_worker._private_jobs set locked_by = 'another'")
        await handlers.wait_cancelled(1)
        report = await run.stop()
    assert (report.lost, report.returned, report.completed) == (1, 0, 0)
    assert [(job["locked_by"], job["attempts"]) for job in await table.jobs()] == [("another", 1)]


async def test_a_job_taken_before_it_ran_does_not_run(
    database: Database, client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = await client.add_raw_jobs([("held", None)] * 6)
    async with trio.open_nursery() as nursery:
        worker = make_eager_worker(database, handlers.tasks, local_queue=LocalQueueOptions(size=10))
        await nursery.start(worker.run)
        await handlers.wait_started(4)
        await database.execute(
            "update graphile_worker._private_jobs set locked_by = 'another' where id = $1::bigint", jobs[5].id
        )
        await wait_until(lambda: "was taken from us before it ran" in caplog.text)
        handlers.release.set()
        await handlers.wait_ended(5)
        worker.stop()
    assert jobs[5].id not in {job.id for job in handlers.started}


@pytest.mark.parametrize("how", ["replaced", "removed"])
async def test_a_task_may_want_to_be_cancelled_when_its_job_is_replaced_or_removed(
    table: Table, client: Client, handlers: Handlers, how: str
) -> None:
    cancelled = trio.Event()

    @handlers.tasks.task("eager", on_replaced="cancel")
    async def eager(context: JobContext) -> None:
        if context.job.payload:
            return
        handlers.started.append(context.job)
        handlers.note()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    spec = JobSpec(job_key="k", queue_name="q")
    await client.add_raw_job("eager", None, spec)
    async with running(make_eager_worker(table.database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        if how == "replaced":
            await client.add_raw_job("eager", {"again": True}, spec)
        else:
            await client.remove_job("k")
        with trio.fail_after(20):
            await cancelled.wait()
        await table.wait_until("select count(*) = 0 from graphile_worker._private_jobs")
        report = await run.stop()
    assert report.removed == 1
    assert report.completed == (how == "replaced")


async def test_a_job_that_is_replaced_finishes_unless_its_task_says_otherwise(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held", None, JobSpec(job_key="k"))
    async with trio.open_nursery() as nursery:
        worker = make_eager_worker(database, handlers.tasks)
        await nursery.start(worker.run)
        await handlers.wait_started(1)
        await client.remove_job("k")
        await wait_renewed(table)
        handlers.release.set()
        await handlers.wait_ended(1)
        worker.stop()
    assert handlers.cancelled == []
    assert await table.jobs() == []


async def test_a_lost_lease_session_is_replaced(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held")
    async with trio.open_nursery() as nursery:
        worker = make_eager_worker(database, handlers.tasks)
        await nursery.start(worker.run)
        await handlers.wait_started(1)
        await wait_renewed(table)
        await database.execute("""
            select pg_terminate_backend(pid)
            from pg_stat_activity
            where datname = current_database() and application_name = 'trio_graphile lease'
        """)
        await wait_renewed(table)
        handlers.release.set()
        await handlers.wait_ended(1)
        worker.stop()


@pytest.fixture
async def notices() -> AsyncIterator[Notices]:
    with noticing(logging.WARNING) as notices:
        yield notices


async def test_a_worker_that_cannot_renew_fences_itself_in_time_and_goes_on_afterwards(
    notices: Notices,
) -> None:
    handlers = Handlers()
    lease = LeaseOptions(length=1.5, margin=0.5, renew_interval=0.2)
    async with (
        embedded_postgres() as server,
        open_database(server.url, DatabaseOptions(connect_timeout=0.3)) as database,
    ):
        client = Client(database, handlers.tasks)
        await client.migrate()
        await client.add_raw_job("held")
        async with trio.open_nursery() as nursery:
            worker = make_eager_worker(database, handlers.tasks, lease=lease, poll_interval=0.2)
            await nursery.start(worker.run)
            await handlers.wait_started(1)
            await wait_renewed(Table(database))
            stopped_at = trio.current_time()
            await server.stop()
            await handlers.wait_cancelled(1)
            fenced_after = trio.current_time() - stopped_at
            await notices.wait_for("renewing the lease failed; it ends in ")
            await notices.wait_for("renewing the lease failed; it does not hold: cannot reach PostgreSQL")
            handlers.release.set()
            await server.start()
            await handlers.wait_started(2)
            await handlers.wait_ended(1)
            worker.stop()
        assert fenced_after < lease.length
        assert handlers.started[1].attempts == 1  # the attempt was given back
        assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 0


class Signals(LeaseSignals):
    """Stands for the worker: notes what the lease says, and whether it held then."""

    def __init__(self, term: LeaseTerm) -> None:
        self.term = term
        self.told: list[tuple[str, bool]] = []
        self.renewed_once, self.lapsed_once, self.restored_once = trio.Event(), trio.Event(), trio.Event()

    def renewed(self, renewed: Renewed) -> None:
        assert renewed.asked == ()
        self.told.append(("renewed", self.term.holds()))
        self.renewed_once.set()

    def lapsed(self) -> None:
        self.told.append(("lapsed", self.term.holds()))
        self.lapsed_once.set()

    def expiring(self) -> None:
        self.told.append(("expiring", self.term.holds()))

    def restored(self) -> None:
        self.told.append(("restored", self.term.holds()))
        self.restored_once.set()


class NothingHeld(Presence):
    """Renews nothing; in vain, if so wanted, until the worker was told that the lease ends."""

    def __init__(self, signals: Signals, *, is_cut_off: bool) -> None:
        self.signals, self.is_cut_off = signals, is_cut_off

    async def renew(self, _session: Executor) -> Renewed:
        if self.is_cut_off and "expiring" not in {word for word, _ in self.signals.told}:
            raise ConnectionLost("no answer")
        return Renewed((), Renewal(lost=frozenset(), detached=frozenset()))

    async def register_tasks(self, _session: Executor) -> None:
        pass


def lease_of_nothing(
    database: Database,
    term: LeaseTerm,
    options: LeaseOptions,
    presence: NothingHeld,
    ending: Ending | None = None,
) -> Lease:
    return Lease(
        database=database,
        options=options,
        term=term,
        presence=presence,
        signals=presence.signals,
        ending=Ending() if ending is None else ending,
    )


@asynccontextmanager
async def held(lease: Lease) -> AsyncIterator[None]:
    """Run a lease beside the body, and stop it whatever happens there: no cancellation ends it."""
    async with trio.open_nursery() as nursery:
        await nursery.start(lease.run)
        try:
            with trio.fail_after(PATIENCE):  # noqa: ASYNC100  # what it bounds is the body
                yield
        finally:
            lease.stop()


async def test_a_lease_that_had_ended_holds_again_only_once_the_worker_knows(database: Database) -> None:
    options = LeaseOptions(length=0.6, renew_interval=0.05, margin=0.1)
    term = LeaseTerm(options)
    signals = Signals(term)
    lease = lease_of_nothing(database, term, options, NothingHeld(signals, is_cut_off=True))
    async with held(lease):
        await signals.restored_once.wait()
    expected = [("expiring", False), ("renewed", False), ("lapsed", False), ("restored", True)]
    assert signals.told[: len(expected)] == expected


async def test_a_lease_that_ended_while_the_machine_slept_is_renewed_at_once(database: Database) -> None:
    slept = 0.0
    options = LeaseOptions(length=NEVER)
    term = LeaseTerm(options, lambda: time.monotonic() + slept)
    signals = Signals(term)
    lease = lease_of_nothing(database, term, options, NothingHeld(signals, is_cut_off=False))
    async with held(lease):
        await signals.renewed_once.wait()
        assert term.holds()
        slept = NEVER
        assert not term.holds()
        await signals.lapsed_once.wait()
        assert term.holds()
    assert signals.told[:3] == [("renewed", True), ("renewed", False), ("lapsed", False)]


class Refused(NothingHeld):
    """Cannot renew: the schema is not what it was."""

    async def renew(self, _session: Executor) -> Renewed:
        raise StatementFailed("column jobs.locked_at does not exist", sqlstate="42703")


async def test_a_renewal_that_is_refused_finds_the_revision_that_may_be_the_reason(
    database: Database,
) -> None:
    await database.execute("insert into graphile_worker.migrations (id, breaking) values (999, true)")
    options = LeaseOptions(length=NEVER)
    term = LeaseTerm(options)
    ending = Ending()
    lease = lease_of_nothing(database, term, options, Refused(Signals(term), is_cut_off=False), ending)
    async with held(lease):
        await ending.begun.wait()
    assert ending.cause is StopCause.SUPERSEDED


def test_a_lease_that_leaves_no_second_try_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="renew_interval"):
        LeaseOptions(length=60, renew_interval=30, margin=10)
