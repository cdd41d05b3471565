"""Workers for which a lock stands: one that is killed is noticed within seconds, one that sleeps lives."""

from __future__ import annotations

import signal
import statistics
from pathlib import Path

import pytest
import trio

from tests.faults.conftest import Figures
from tests.faults.fleet import Fleet, Member
from tests.support.tables import Table
from trio_graphile import Client, Database, JobSpec, TaskRegistry
from trio_graphile._model.options import PresenceOptions

PROGRAM = Path(__file__).with_name("present.py")
LASTING = ("lasting", 3600.0, JobSpec())
"""Runs until somebody ends it."""


@pytest.fixture
def table(database: Database) -> Table:
    return Table(database)


async def wait_locked(table: Table, member: Member) -> None:
    await table.wait_until(
        """
        select exists (
          select from graphile_worker._private_workers as workers
          where workers.id = $1::text and workers.metadata ? 'presence'
        )
        """,
        member.worker_id,
    )


async def seconds_of_absence(database: Database, url: str, table: Table) -> float:
    """Kill a worker that runs a job; return how long it takes until the job runs elsewhere."""
    client, fleet = Client(database, TaskRegistry()), Fleet(url, PROGRAM)
    async with trio.open_nursery() as nursery:
        victim = await fleet.start(nursery)
        [job] = await client.add_raw_jobs([LASTING])
        await fleet.wait_until(lambda: bool(victim.runs))
        other = await fleet.start(nursery)
        for member in (victim, other):
            await wait_locked(table, member)
        fleet.kill(victim)
        await fleet.wait_until(lambda: bool(other.runs))
        assert (other.runs[0].job_id, other.runs[0].attempt) == (job.id, 1)
        await fleet.stop(other)
        await database.execute("delete from graphile_worker._private_jobs")
        nursery.cancel_scope.cancel()
    [seconds] = fleet.recoveries()
    return seconds


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.exhaustive)])
async def test_the_job_of_a_killed_worker_runs_elsewhere_within_seconds(
    database: Database, database_url: str, table: Table, figures: Figures, kills: int
) -> None:
    waits = [await seconds_of_absence(database, database_url, table) for _ in range(kills)]
    figures.note("s until the job of a killed worker ran elsewhere (median)", statistics.median(waits))
    figures.note("s until the job of a killed worker ran elsewhere (longest)", max(waits))


@pytest.mark.timeout(600)
async def test_a_suspended_worker_keeps_its_jobs(database: Database, database_url: str, table: Table) -> None:
    """Its session is there, and its handlers do not run. So nobody takes its jobs before its lease ends."""
    client, fleet = Client(database, TaskRegistry()), Fleet(database_url, PROGRAM)
    async with trio.open_nursery() as nursery:
        sleeper = await fleet.start(nursery)
        await client.add_raw_jobs([LASTING])
        await fleet.wait_until(lambda: bool(sleeper.runs))
        await wait_locked(table, sleeper)
        other = await fleet.start(nursery)
        await wait_locked(table, other)
        sleeper.process.send_signal(signal.SIGSTOP)
        await trio.sleep(PresenceOptions().grace * 1.5)  # nothing is to happen
        sleeper.process.send_signal(signal.SIGCONT)
        assert not other.runs
        await fleet.stop(sleeper)  # which gives the job back
        await fleet.wait_until(lambda: bool(other.runs))
        assert [run.ending for run in sleeper.runs] == ["cancelled"]
        nursery.cancel_scope.cancel()
