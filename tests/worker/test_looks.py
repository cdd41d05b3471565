"""Looks at all locks: the longer one takes, and the larger the fleet, the later is the next one."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import pytest
import trio

from tests.support.tables import Table
from trio_graphile import Client, Database, JobSpec, RecoveryOptions, SweepReport
from trio_graphile._database import worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._interceptors.chains import NO_CHAINS, Chains
from trio_graphile._model.recovery import ResetReport
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.looks import SECONDS_PER_BYTE, Looks, pause_after
from trio_graphile._worker.maintenance import Maintenance
from trio_graphile.hooks import Hooks, JobToRecover

T = TypeVar("T")

ME = "trio_graphile_me"
RULES = RecoveryOptions(recovery_delay=0.0)
SHORTEST_INTERVAL = 48.0
"""How soon after the start of a sweep a worker begins another one at the soonest, in seconds."""


@pytest.mark.parametrize(
    ("seconds", "workers", "pause"),
    [(0.0, 20, 0.0), (0.001, 20, 2.0), (7.5, 1, 750.0), (7.5, 20, 15_000.0), (7.5, 0, 750.0)],
)
def test_a_fleet_of_any_size_looks_for_a_hundredth_of_the_time(
    seconds: float, workers: int, pause: float
) -> None:
    assert pause_after(seconds, workers) == pytest.approx(pause)


# --- by a clock that is set by hand -----------------------------------------------------------------


@attrs.define
class HandClock:
    now: float = 5.0

    def __call__(self) -> float:
        return self.now


def look(looks: Looks, clock: HandClock, *, workers: int = 1, takes: float = 0.0) -> bool:
    """Look if that is due; return whether it was."""
    with looks.look_if_due(workers, size=0) as is_due:
        clock.now += takes
    return is_due


def test_the_first_look_is_due_at_once_and_the_next_one_when_the_pause_is_over() -> None:
    clock = HandClock()
    looks = Looks(clock)
    assert look(looks, clock, takes=2.0)
    clock.now += 199
    assert not look(looks, clock)
    clock.now += 1
    assert look(looks, clock, takes=3.0)
    clock.now += 299
    assert not look(looks, clock)
    clock.now += 1
    assert look(looks, clock)
    assert look(looks, clock)  # the last one took no time


@pytest.mark.parametrize(("at_random", "due_after"), [(0.0, 20_000.0), (0.25, 15_000.0), (1.0, 0.0)])
def test_the_first_look_at_a_large_table_comes_as_if_the_worker_had_always_been_there(
    at_random: float, due_after: float
) -> None:
    clock = HandClock()
    looks = Looks(clock, lambda: at_random)
    size = int(10 / SECONDS_PER_BYTE)

    def look_of_twenty() -> bool:
        with looks.look_if_due(20, size) as is_due:
            return is_due

    if due_after:
        assert not look_of_twenty()
        clock.now += due_after - 1
        assert not look_of_twenty()
        clock.now += 1
    assert look_of_twenty()


def test_it_is_the_fleet_of_today_that_counts() -> None:
    clock = HandClock()
    looks = Looks(clock)
    assert look(looks, clock, takes=2.0)
    clock.now += 200
    assert not look(looks, clock, workers=20)
    assert look(looks, clock, workers=1)


def test_what_is_not_a_look_changes_nothing() -> None:
    clock = HandClock()
    looks = Looks(clock)
    assert look(looks, clock, takes=2.0)
    assert not look(looks, clock, takes=50.0)
    clock.now += 150
    assert look(looks, clock)


def test_a_look_that_fails_has_taken_time_too() -> None:
    clock = HandClock()
    looks = Looks(clock)

    def fail() -> None:
        with looks.look_if_due(1, size=0):
            clock.now += 60
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fail()
    clock.now += 5_999
    assert not look(looks, clock)
    clock.now += 1
    assert look(looks, clock)


# --- on real tables ---------------------------------------------------------------------------------


@attrs.define
class MovedClock:
    """Trio's clock, which a test can set forward."""

    offset: float = 0.0

    def __call__(self) -> float:
        return trio.current_time() + self.offset


WAITS = """
    select exists (
      select
      from pg_stat_activity
      where datname = current_database()
        and application_name = 'trio_graphile recovery'
        and wait_event_type = 'Lock'
    )
"""


@attrs.define(eq=False)
class Stage:
    """A worker that is registered, and jobs that others have left behind."""

    client: Client
    clock: MovedClock = attrs.field(factory=MovedClock)
    names: itertools.count[int] = attrs.field(factory=itertools.count)

    @property
    def database(self) -> Database:
        return self.client.database

    def maintenance(self, chains: Chains = NO_CHAINS) -> Maintenance:
        return Maintenance(
            database=self.database,
            options=RULES,
            worker_id=ME,
            ledger=Ledger(),
            chains=chains,
            server_clock=ServerClock(RULES.sweep_threshold),
            cancel_timeout=5.0,
            looks_for_orphans=Looks(self.clock),
            looks_for_old_locks=Looks(self.clock),
        )

    async def add_workers(self, count: int) -> None:
        for number in range(count):
            await worker_registry.heartbeat(self.database, f"trio_graphile_other_{number}")

    async def leave_behind(self, kind: str, age: str = "1 hour") -> str:
        """Have a job locked by a worker that was last heard of so long ago; return the worker's id."""
        worker = f"trio_graphile_{kind}_{next(self.names)}"
        await self.client.add_raw_job(worker, None, JobSpec(queue_name=worker))
        assert await claims.get_jobs(self.database, worker, [worker], 1)
        if kind == "dead":
            await worker_registry.heartbeat(self.database, worker)
        for table, column, name in [
            ("_private_jobs", "locked_at", "locked_by"),
            ("_private_job_queues", "locked_at", "locked_by"),
            ("_private_workers", "last_heartbeat_at", "id"),
        ]:
            await self.database.execute(
                f"""
                update graphile_worker.{table}
                set {column} = now() - $1::text::interval
                where {name} = $2::text
                """,
                age,
                worker,
            )
        return worker

    async def for_long(self, seconds: float, do: Callable[[], Awaitable[T]]) -> T:
        """Do something that reads the table of jobs; have that take so many seconds, and a moment."""
        results = list[T]()

        async def work() -> None:
            results.append(await do())

        async with trio.open_nursery() as nursery, self.database.transaction() as other:
            await other.execute("lock table graphile_worker._private_jobs in access exclusive mode")
            nursery.start_soon(work)
            await Table(self.database).wait_until(WAITS)
            self.clock.offset += seconds
        [result] = results
        return result


@pytest.fixture
async def stage(client: Client) -> Stage:
    await worker_registry.heartbeat(client.database, ME)
    return Stage(client)


async def swept(maintenance: Maintenance) -> tuple[str, ...]:
    return (await maintenance.sweep()).report.worker_ids


@pytest.mark.parametrize("others", [0, 19])
async def test_after_a_long_look_sweeps_leave_orphans_out_for_a_while_but_not_registered_workers(
    stage: Stage, others: int
) -> None:
    await stage.add_workers(others)
    maintenance = stage.maintenance()
    first = await stage.leave_behind("orphan")
    assert (await stage.for_long(8.0, maintenance.sweep)).report.worker_ids == (first,)

    orphan, dead = await stage.leave_behind("orphan"), await stage.leave_behind("dead")
    stage.clock.offset += SHORTEST_INTERVAL
    assert await swept(maintenance) == (dead,)
    assert await Table(stage.database).locked_queues() == {orphan: orphan}
    asked = await stage.client.sweep_stale_workers(dry_run=True)  # whoever is asked to look does
    assert asked.worker_ids == (orphan,)

    stage.clock.offset += 800 * (1 + others) - SHORTEST_INTERVAL - 20
    dead = await stage.leave_behind("dead")
    assert await swept(maintenance) == (dead,)
    stage.clock.offset += 2_000 * (1 + others)
    assert await swept(maintenance) == (orphan,)
    assert await Table(stage.database).locked_queues() == {}


async def test_in_a_small_table_each_sweep_looks_for_orphans(stage: Stage) -> None:
    maintenance = stage.maintenance()
    for _ in range(3):
        orphan = await stage.leave_behind("orphan")
        began_at = stage.clock()
        assert await swept(maintenance) == (orphan,)
        took = stage.clock() - began_at  # far less than half a second, except on a very busy machine
        stage.clock.offset += max(SHORTEST_INTERVAL - took, pause_after(took, 1))


async def test_interceptors_are_not_asked_about_jobs_of_orphans_that_a_sweep_leaves_out(
    stage: Stage,
) -> None:
    hooks, asked = Hooks(), list[str]()

    @hooks.recover_job
    async def note(job: JobToRecover) -> None:
        await trio.lowlevel.checkpoint()
        asked.append(job.previous_worker_id)

    maintenance = stage.maintenance(Chains.of(hooks))
    assert (await stage.for_long(8.0, maintenance.sweep)).report == SweepReport()
    orphan, dead = await stage.leave_behind("orphan"), await stage.leave_behind("dead")
    assert await swept(maintenance) == (dead,)
    assert asked == [dead]
    stage.clock.offset += 2_000
    assert await swept(maintenance) == (orphan,)
    assert asked == [dead, orphan]


@pytest.mark.parametrize("others", [0, 19])
async def test_after_a_long_look_for_old_locks_they_are_released_later(stage: Stage, others: int) -> None:
    await stage.add_workers(others)
    maintenance = stage.maintenance()
    assert await stage.for_long(8.0, maintenance.release_old_locks) == ResetReport()
    await stage.leave_behind("node", age="4 hours 1 minute")
    stage.clock.offset += 800 * (1 + others) - 20
    assert await maintenance.release_old_locks() is None
    assert len(await Table(stage.database).locked_queues()) == 1
    stage.clock.offset += 2_000 * (1 + others)
    assert await maintenance.release_old_locks() == ResetReport(jobs=1, queues=1)


async def test_a_long_look_for_orphans_does_not_put_off_that_for_old_locks(stage: Stage) -> None:
    maintenance = stage.maintenance()
    await stage.for_long(8.0, maintenance.sweep)
    assert await maintenance.release_old_locks() == ResetReport()
