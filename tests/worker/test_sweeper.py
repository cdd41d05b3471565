"""The sweeper: when it looks, what it makes of failures, what it says; and jobs of the dead run again."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import attrs
import pytest
import trio
import trio.testing

from tests.support.handlers import Handlers
from tests.support.intake import unobserved
from tests.support.tables import Table
from tests.support.workers import NEVER
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    ObserverOptions,
    RecoveryOptions,
    StatementFailed,
    SweepReport,
    Worker,
    WorkerOptions,
)
from trio_graphile._database import worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._interceptors.chains import NO_CHAINS, Chains
from trio_graphile._interceptors.recoveries import Sweep
from trio_graphile._model.recovery import ResetReport
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.maintenance import Maintenance
from trio_graphile._worker.sweeper import Sweeper
from trio_graphile.hooks import Hooks, LocksReset

HOUR = 3600.0


@attrs.define(eq=False)
class Chores:
    """Both chores, done by nobody: notes when, and answers what the test says."""

    swept_at: list[float] = attrs.field(factory=list)
    reset_at: list[float] = attrs.field(factory=list)
    sampled_at: list[float] = attrs.field(factory=list)
    returned_at: list[float] = attrs.field(factory=list)
    sampling_fails: Iterator[bool] = attrs.field(factory=lambda: itertools.repeat(False))  # noqa: FBT003
    found: Iterator[SweepReport | Exception] = attrs.field(factory=lambda: itertools.repeat(SweepReport()))
    released: ResetReport | None = attrs.field(factory=ResetReport)
    began_at: float = attrs.field(factory=trio.current_time)
    at_once: int = 0
    most_at_once: int = 0

    async def sweep(self) -> Sweep:
        self.swept_at.append(trio.current_time() - self.began_at)
        await self._take_time()
        found = next(self.found)
        if isinstance(found, Exception):
            raise found
        return Sweep(found)

    async def reset(self) -> ResetReport | None:
        self.reset_at.append(trio.current_time() - self.began_at)
        await self._take_time()
        return self.released

    async def sample(self) -> None:
        self.sampled_at.append(trio.current_time() - self.began_at)
        await self._take_time()
        if next(self.sampling_fails):
            raise StatementFailed("no such table", sqlstate="42P01")

    async def return_unknown(self) -> None:
        self.returned_at.append(trio.current_time() - self.began_at)
        await self._take_time()

    async def _take_time(self) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.lowlevel.checkpoint()
        self.at_once -= 1

    def sweeper(self, options: RecoveryOptions | None, emitter: Emitter | None = None) -> Sweeper:
        return Sweeper(
            options=options,
            lease_length=NEVER,
            maintenance=ByScript(self),
            emitter=emitter or unobserved(),
        )


class ByScript(Maintenance):
    """Does nothing but what the test says."""

    def __init__(self, chores: Chores) -> None:
        self.chores = chores

    async def sweep(self) -> Sweep:
        return await self.chores.sweep()

    async def release_old_locks(self) -> ResetReport | None:
        return await self.chores.reset()

    async def take_sample(self) -> None:
        await self.chores.sample()

    async def return_unknown(self) -> None:
        await self.chores.return_unknown()


async def run_for(sweeper: Sweeper, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await sweeper.run()


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_it_sweeps_soon_and_every_minute_or_so_and_resets_within_a_minute_and_every_nine(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chores = Chores()
    await run_for(chores.sweeper(RecoveryOptions()), 24 * HOUR)
    assert chores.swept_at[0] <= 5
    assert all(48 <= gap <= 72 for gap in gaps(chores.swept_at))
    assert max(gaps(chores.swept_at)) - min(gaps(chores.swept_at)) > 10  # a fleet does not sweep in step
    assert chores.reset_at[0] <= 60
    assert all(480 <= gap <= 600 for gap in gaps(chores.reset_at))
    assert len(chores.swept_at) > 1200
    assert len(chores.reset_at) > 144
    assert chores.returned_at[0] == NEVER
    assert all(0.9 * NEVER <= gap <= 1.1 * NEVER for gap in gaps(chores.returned_at))
    assert chores.most_at_once == 1


@pytest.mark.parametrize("options", [RecoveryOptions(), None])
async def test_it_takes_a_sample_in_each_minute(
    autojump_clock: trio.testing.MockClock, options: RecoveryOptions | None
) -> None:
    chores = Chores()
    await run_for(chores.sweeper(options), HOUR)
    assert chores.sampled_at[0] <= 10
    assert gaps(chores.sampled_at) == pytest.approx([60.0] * 59)


async def test_that_no_sample_can_be_taken_is_said_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    chores = Chores(sampling_fails=itertools.chain([True] * 3, [False], [True] * 60))
    await run_for(chores.sweeper(None), HOUR)
    assert len(chores.sampled_at) == 60
    assert [record.getMessage() for record in caplog.records] == [
        "taking a sample failed and is tried again later: no such table"
    ] * 2


async def test_intervals_that_are_shorter_begin_sooner(autojump_clock: trio.testing.MockClock) -> None:
    chores = Chores()
    options = RecoveryOptions(sweep_interval=0.5, reset_interval=2.0)
    await run_for(chores.sweeper(options), 60)
    assert chores.swept_at[0] <= 0.5
    assert chores.reset_at[0] <= 2.0
    assert len(chores.swept_at) >= 90
    assert len(chores.reset_at) >= 20


async def test_without_recovery_old_locks_are_released_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chores = Chores()
    await run_for(chores.sweeper(None), HOUR)
    assert chores.swept_at == []
    assert len(chores.reset_at) >= 6


async def test_once_stopped_it_does_nothing_more(autojump_clock: trio.testing.MockClock) -> None:
    chores = Chores()
    sweeper = chores.sweeper(RecoveryOptions())
    async with trio.open_nursery() as nursery:
        await nursery.start(sweeper.run)
        await trio.sleep(HOUR)
        sweeper.stop()
        before = len(chores.swept_at)
    assert before == len(chores.swept_at) > 40


async def test_a_failure_that_will_pass_is_said_and_left_for_next_time(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    failure = StatementFailed("deadlock detected", sqlstate="40P01")
    chores = Chores(found=itertools.chain([failure, failure], itertools.repeat(SweepReport())))
    await run_for(chores.sweeper(RecoveryOptions()), HOUR)
    assert len(chores.swept_at) >= 50
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "deadlock detected" in caplog.text


async def test_a_failure_that_will_not_pass_does_not_end_it(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker has jobs of its own, and whoever cannot claim or record ends it."""
    failure = StatementFailed("permission denied", sqlstate="42501")
    chores = Chores(found=itertools.chain([failure], itertools.repeat(SweepReport())))
    await run_for(chores.sweeper(RecoveryOptions()), HOUR)
    assert len(chores.swept_at) >= 50
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "permission denied" in caplog.text


async def test_it_says_what_it_gave_back_once_and_nothing_when_nobody_died(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_graphile")
    dead = SweepReport(worker_ids=("trio_graphile_a", "pool-b"), recovered_jobs=3)
    chores = Chores(found=itertools.chain([dead], itertools.repeat(SweepReport())))
    await run_for(chores.sweeper(RecoveryOptions()), HOUR)
    [line] = caplog.messages
    assert line == "gave back 3 jobs of workers that are gone: trio_graphile_a, pool-b"
    caplog.clear()
    one = SweepReport(worker_ids=("trio_graphile_a",), recovered_jobs=1)
    chores = Chores(found=itertools.chain([one], itertools.repeat(SweepReport())))
    await run_for(chores.sweeper(RecoveryOptions()), HOUR)
    assert caplog.messages == ["gave back 1 job of workers that are gone: trio_graphile_a"]
    chores = Chores(released=ResetReport(queues=1))
    await run_for(chores.sweeper(None), 61)
    assert caplog.messages[1:] == ["released 0 jobs and 1 queue that were locked for over four hours"]


async def test_it_says_nothing_of_old_locks_for_which_it_did_not_look(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()
    hooks.on(LocksReset, lambda _: None)
    emitter = Emitter(worker_id="sweeper", chains=Chains.of(hooks), options=ObserverOptions())
    chores = Chores(released=None)
    await run_for(chores.sweeper(None, emitter), HOUR)
    assert len(chores.reset_at) >= 6
    assert (emitter.waiting, caplog.messages) == (0, [])
    await run_for(Chores().sweeper(None, emitter), 61)
    assert emitter.waiting == 1


# --- on a real table ------------------------------------------------------------------------------


@pytest.fixture
def sweeper(database: Database) -> Sweeper:
    return make_sweeper(database)


def make_sweeper(database: Database, *, orphan_threshold: float = 14_400.0) -> Sweeper:
    """Make one whose intervals a test need not wait for."""
    options = RecoveryOptions(
        sweep_interval=0.05, reset_interval=0.05, recovery_delay=0.0, orphan_threshold=orphan_threshold
    )
    maintenance = Maintenance(
        database=database,
        options=options,
        worker_id="sweeper",
        ledger=Ledger(),
        chains=NO_CHAINS,
        server_clock=ServerClock(options.sweep_threshold),
        cancel_timeout=1.0,
    )
    return Sweeper(options=options, lease_length=NEVER, maintenance=maintenance, emitter=unobserved())


async def test_the_job_of_a_worker_that_died_runs_again_as_if_for_the_first_time(
    database: Database, client: Client, handlers: Handlers, table: Table, sweeper: Sweeper
) -> None:
    await client.add_raw_job("quick", None, JobSpec(queue_name="q", max_attempts=1))
    await claims.get_jobs(database, "trio_graphile_dead", ["quick"], 1)
    await worker_registry.heartbeat(database, "trio_graphile_dead")
    async with trio.open_nursery() as nursery:
        await nursery.start(sweeper.run)
        await database.execute("""
            update graphile_worker._private_workers
            set last_heartbeat_at = now() - interval '301 seconds'
        """)
        await table.wait_until("select count(*) = 0 from graphile_worker._private_workers")
        nursery.cancel_scope.cancel()
    await Worker(database, handlers.tasks).run_once()
    assert [(job.attempts, job.last_error) for job in handlers.ended] == [
        (1, "Job recovered after worker interruption")
    ]
    assert await table.jobs() == []
    assert await table.locked_queues() == {}


async def test_locks_older_than_four_hours_are_released(
    database: Database, client: Client, table: Table
) -> None:
    await client.add_raw_job("quick", None, JobSpec(queue_name="q"))
    await claims.get_jobs(database, "pool-of-node", ["quick"], 1)
    for name in ("jobs", "job_queues"):
        await database.execute(
            f"update graphile_worker._private_{name} set locked_at = now() - interval '4 hours 1 minute'"
        )
    async with trio.open_nursery() as nursery:
        await nursery.start(make_sweeper(database, orphan_threshold=86_400.0).run)
        await table.wait_until("select locked_at is null from graphile_worker._private_jobs")
        nursery.cancel_scope.cancel()
    [job] = await table.jobs()
    assert (job["locked_by"], job["attempts"]) == (None, 1)  # by age alone: nobody knows what became of it
    assert await table.locked_queues() == {}


END_WAITING_SWEEP = """
    with sweeps as materialized (
      select pid
      from pg_stat_activity
      where datname = current_database()
        and application_name = 'trio_graphile recovery'
        and wait_event_type = 'Lock'
    )
    select exists (select from sweeps where pg_terminate_backend(pid))
"""


async def test_a_sweeper_survives_the_loss_of_its_session(
    database: Database, table: Table, sweeper: Sweeper
) -> None:
    await worker_registry.heartbeat(database, "trio_graphile_dead")
    async with trio.open_nursery() as nursery:
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_workers")
            await nursery.start(sweeper.run)
            await table.wait_until(END_WAITING_SWEEP)
        await database.execute("""
            update graphile_worker._private_workers
            set last_heartbeat_at = now() - interval '301 seconds'
        """)
        await table.wait_until("select count(*) = 0 from graphile_worker._private_workers")
        nursery.cancel_scope.cancel()


async def test_a_worker_gives_back_and_runs_the_jobs_of_one_that_died(
    client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("quick", None, JobSpec(queue_name="q"))
    await claims.get_jobs(client.database, "trio_graphile_dead", ["quick"], 1)
    await table.database.execute("""
        update graphile_worker._private_jobs set locked_at = now() - interval '6 minutes';
        update graphile_worker._private_job_queues set locked_at = now() - interval '6 minutes'
    """)
    recovery = RecoveryOptions(sweep_interval=0.1, recovery_delay=0)
    options = WorkerOptions(concurrency=1, poll_interval=0.05, recovery=recovery)
    async with trio.open_nursery() as nursery:
        worker = Worker(client.database, handlers.tasks, options)
        await nursery.start(worker.run)
        await handlers.wait_ended(1)
        worker.stop()
    [job] = handlers.ended
    assert (job.attempts, job.last_error) == (1, "Job recovered after worker interruption")
    assert await table.jobs() == []


async def test_run_once_releases_locks_that_nobody_can_still_want_before_it_begins(
    client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("quick", None)] * 2)
    for number, age in enumerate(("4 hours 1 minute", "3 hours 59 minutes")):
        [job] = await claims.get_jobs(client.database, f"pool-{number}", ["quick"], 1)
        await table.database.execute(
            """
            update graphile_worker._private_jobs
            set locked_at = now() - $1::text::interval
            where id = $2::bigint
            """,
            age,
            job.id,
        )
    assert (await Worker(client.database, handlers.tasks).run_once()).completed == 1
    assert [job["locked_by"] for job in await table.jobs()] == ["pool-1"]
