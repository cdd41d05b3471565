"""Failovers of a primary and its standby: what workers do meanwhile, what is lost, and what is not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
import trio

from tests.environments.fleets import IMPATIENT, check_nothing_lost, fleet
from tests.environments.replicas import (
    Pair,
    alone,
    become_standby_of,
    configure,
    make_cluster,
    open_pair,
)
from tests.faults.load import EXPECTED
from tests.support.waiting import wait_for_ring, wait_until_true
from tests.support.workers import running
from trio_graphile import (
    Client,
    JobContext,
    JobSpec,
    ShutdownIncomplete,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile._model.bell import Bell


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cluster")
    trio.run(make_cluster, place)
    return place


@pytest.fixture
async def synchronous(cluster: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    async with open_pair(cluster, tmp_path, synchronous=True) as pair:
        yield pair


@pytest.fixture
async def asynchronous(cluster: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    async with open_pair(cluster, tmp_path, synchronous=False) as pair:
        yield pair


async def test_a_killed_primary_with_a_synchronous_standby_costs_nothing(synchronous: Pair) -> None:
    async with fleet(synchronous.url) as run:
        await synchronous.primary.kill()
        await synchronous.promote()
        await run.wait_resumed()
    await check_nothing_lost(synchronous.url, run)


async def test_a_planned_switchover_costs_nothing(asynchronous: Pair) -> None:
    """The primary says all to its standby before it ends; then both are standbys until one is promoted."""
    async with fleet(asynchronous.url) as run:
        await asynchronous.primary.stop()
        await become_standby_of(asynchronous.primary, asynchronous.standby)
        await trio.sleep(0.5)  # how long nobody takes writes, not a wait for anything
        await asynchronous.promote()
        await run.wait_resumed()
    await check_nothing_lost(asynchronous.url, run)
    async with alone(asynchronous.primary) as database:
        assert await database.fetch_value("select pg_is_in_recovery()")


# --- with an asynchronous standby that lags -----------------------------------------------------

NOW = datetime(2000, 1, 1, tzinfo=UTC)
LATER = JobSpec(run_at=datetime(2200, 1, 1, tzinfo=UTC))
LOGGED_AHEAD = 40
"""More ids than a standby passes over, for safety, when it is promoted."""


@attrs.define(eq=False)
class Timelines:
    """Handlers of jobs that one server knows, or the other, and what they did."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    started: list[str] = attrs.field(factory=list)
    ended: list[str] = attrs.field(factory=list)
    release: dict[str, trio.Event] = attrs.field(factory=lambda: {"old": trio.Event(), "new": trio.Event()})
    _progress: Bell = attrs.field(factory=Bell)

    def __attrs_post_init__(self) -> None:
        @self.tasks.task("brief")
        async def brief(payload: str) -> None:
            with self.running(payload):
                pass

        @self.tasks.task("completed")
        async def completed(payload: str) -> None:
            with self.running(payload):
                await self.release[payload].wait()

        @self.tasks.task("failed")
        async def failed(payload: str) -> None:
            with self.running(payload):
                await self.release[payload].wait()
                if payload == "old":
                    raise ValueError(EXPECTED)

        @self.tasks.task("done once")
        async def done_once(payload: str, context: JobContext) -> None:
            with self.running(payload):
                await self.release[payload].wait()
                async with context.complete_in_transaction() as connection:
                    await connection.execute("insert into public.done (what) values ($1::text)", payload)

    @contextlib.contextmanager
    def running(self, what: str) -> Iterator[None]:
        self.started.append(what)
        self._progress.ring()
        try:
            yield
        finally:
            self.ended.append(what)
            self._progress.ring()

    async def wait_started(self, what: str, times: int = 1) -> None:
        await wait_for_ring(self._progress, lambda: self.started.count(what) >= times)

    async def wait_ended(self, what: str) -> None:
        await wait_for_ring(self._progress, lambda: what in self.ended)


async def add_until(client: Client, last: int) -> None:
    """Use up the ids of jobs until this one is the last."""
    while (await client.add_raw_job("brief", "later", LATER)).id < last:
        pass


@pytest.mark.parametrize("ending", ["completed", "failed", "done once"])
async def test_a_run_of_a_job_that_is_gone_ends_no_job_that_got_its_id(
    asynchronous: Pair, ending: str
) -> None:
    """The new primary hands out the ids of jobs that it never saw, of which one still runs."""
    timelines = Timelines()
    options = WorkerOptions(concurrency=2, poll_interval=0.1)
    async with open_database(asynchronous.url, IMPATIENT) as database:
        client = Client(database, timelines.tasks)
        await database.execute("create table public.done (what text)")
        first = await client.add_raw_job("brief", "later", LATER)
        await asynchronous.wait_caught_up()
        await asynchronous.cut_replication()
        await add_until(client, first.id + LOGGED_AHEAD)
        old = await client.add_raw_job(ending, "old")
        async with running(Worker(database, timelines.tasks, options)) as run:
            await timelines.wait_started("old")
            await asynchronous.primary.kill()
            await asynchronous.promote()
            await add_until(client, old.id - 1)
            new = await client.add_raw_job(ending, "new")
            assert new.id == old.id
            await timelines.wait_started("new")
            timelines.release["old"].set()
            await timelines.wait_ended("old")
            await client.add_raw_job("brief", "behind")  # its outcome is written after that of the old one
            await timelines.wait_ended("behind")
            row = await database.fetch_row(ROW, new.id)
            assert row is not None, "the new job was ended by the run of the old one"
            assert (row["attempts"], row["locked_by"]) == (1, run.worker.worker_id)
            timelines.release["new"].set()
            await timelines.wait_ended("new")
        assert timelines.started.count("new") == 1
        assert await database.fetch_row(ROW, new.id) is None
        done = [row["what"] for row in await database.fetch("select what from public.done")]
        assert done == (["new"] if ending == "done once" else [])


async def test_a_lagging_standby_forgets_what_was_added_and_repeats_what_was_done(asynchronous: Pair) -> None:
    """What is lost then is what only the old primary had; the page on high availability says so."""
    timelines = Timelines()
    options = WorkerOptions(concurrency=2, poll_interval=0.1)
    async with open_database(asynchronous.url, IMPATIENT) as database:
        client = Client(database, timelines.tasks)
        await database.execute("create table public.done (what text)")
        waiting = await client.add_raw_job("done once", "new", LATER)
        await asynchronous.wait_caught_up()
        await asynchronous.cut_replication()
        vanishing = await client.add_raw_job("brief", "vanishing", LATER)
        timelines.release["new"].set()
        async with running(Worker(database, timelines.tasks, options)):
            await client.reschedule_jobs([waiting.id], run_at=NOW)
            await timelines.wait_ended("new")
            assert await database.fetch_value("select count(*) from public.done") == 1
            await asynchronous.primary.kill()
            await asynchronous.promote()
            assert await database.fetch_row(ROW, vanishing.id) is None
            assert await database.fetch_value("select count(*) from public.done") == 0
            await client.reschedule_jobs([waiting.id], run_at=NOW)
            await timelines.wait_started("new", times=2)
        assert await database.fetch_value("select count(*) from public.done") == 1


ROW = """
    select attempts, locked_by
    from graphile_worker._private_jobs
    where id = $1::bigint
"""


# --- with a synchronous standby that is gone ----------------------------------------------------


HANGS = """
    select exists (
      select from pg_stat_activity where wait_event = 'SyncRep' and application_name like $1::text
    )
"""
SLACK = 2.0
"""For a slow machine, in seconds."""


async def test_a_stop_is_bounded_while_commits_wait_for_a_standby_that_is_gone(synchronous: Pair) -> None:
    """What hangs is known to the primary alone. It counts as soon as the standby is there again."""
    timelines = Timelines()
    limits = ShutdownOptions(grace_period=0.2, flush_timeout=2.0)
    async with open_database(synchronous.url, IMPATIENT) as database, alone(synchronous.primary) as observer:
        client = Client(database, timelines.tasks)
        jobs = [(await client.add_raw_job("completed", name)).id for name in ("old", "new")]
        worker = Worker(database, timelines.tasks, WorkerOptions(shutdown=limits))
        with pytest.RaisesGroup(ShutdownIncomplete) as caught:
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                await timelines.wait_started("old")
                await timelines.wait_started("new")
                await synchronous.standby.stop()
                timelines.release["old"].set()
                await wait_until_true(observer, HANGS, "%outcomes")
                began = trio.current_time()
                worker.stop()
        assert trio.current_time() - began < limits.grace_period + limits.flush_timeout + SLACK
        incomplete = caught.value.exceptions[0]
        assert isinstance(incomplete, ShutdownIncomplete)
        assert jobs[1] in incomplete.job_ids
        await synchronous.standby.start()
        await wait_until_true(observer, "select count(*) < 2 from graphile_worker._private_jobs")
        assert await database.fetch_row(ROW, jobs[0]) is None


async def test_a_worker_goes_on_when_the_standby_is_there_again(synchronous: Pair) -> None:
    async with fleet(synchronous.url) as run, alone(synchronous.primary) as observer:
        await synchronous.standby.stop()
        # Claims may hang first, and then there is no outcome to write.
        await wait_until_true(observer, HANGS, "%")
        await synchronous.standby.start()
        await run.wait_resumed()
    await check_nothing_lost(synchronous.url, run)


# --- with two servers that take writes ----------------------------------------------------------


async def test_a_worker_stays_with_the_new_primary_when_the_old_one_takes_writes_too(
    synchronous: Pair,
) -> None:
    """The old one, which is the first in the URL, comes back as if nothing had happened."""
    async with fleet(synchronous.url) as run:
        await synchronous.primary.kill()
        await synchronous.promote()
        await run.wait_resumed()
        await synchronous.primary.start()
        await configure(synchronous.primary, "synchronous_standby_names", "")
        async with alone(synchronous.primary) as old, alone(synchronous.standby) as new:
            assert not await old.fetch_value("select pg_is_in_recovery()")
            await new.execute(END_SESSIONS)
            await run.wait_resumed()
            await new.execute(END_SESSIONS)
            await run.wait_resumed()
            assert not await old.fetch_value(SESSIONS)
        await synchronous.primary.stop()  # who comes anew would go there
    await check_nothing_lost(synchronous.url, run)


SESSIONS = """
    select count(*)
    from pg_stat_activity
    where application_name like 'trio_graphile%'
      and pid <> pg_backend_pid()
"""
END_SESSIONS = SESSIONS.replace("count(*)", "count(pg_terminate_backend(pid))")
