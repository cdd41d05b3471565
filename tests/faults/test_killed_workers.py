"""Workers that die without a word: their jobs are found, and run again on the attempt they were on."""

from __future__ import annotations

import statistics

import pytest
import trio

from tests.faults.conftest import Figures
from tests.faults.fleet import Fleet
from tests.faults.load import check_nothing_locked, drain
from trio_graphile import Client, Database, JobSpec, TaskRegistry

FLEET = 3
MOST_UNFINISHED = 80
KINDS = [
    ("brief", None, JobSpec()),
    ("brief", None, JobSpec(queue_name="first")),
    ("brief", None, JobSpec()),
    ("brief", None, JobSpec(queue_name="second")),
    ("failing_once", None, JobSpec()),
]


async def keep_adding(client: Client, fleet: Fleet, added: set[int], enough: trio.Event) -> None:
    while not enough.is_set():
        added.update(job.id for job in await client.add_raw_jobs(KINDS))
        await fleet.wait_until(lambda: len(added) - fleet.returned < MOST_UNFINISHED)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.exhaustive)])
async def test_jobs_of_killed_workers_are_completed_by_others(
    database: Database, database_url: str, figures: Figures, kills: int
) -> None:
    client, fleet = Client(database, TaskRegistry()), Fleet(database_url)
    added: set[int] = set()
    enough = trio.Event()
    async with trio.open_nursery() as nursery:
        alive = [await fleet.start(nursery) for _ in range(FLEET)]
        nursery.start_soon(keep_adding, client, fleet, added, enough)
        for _ in range(kills):
            victim = alive.pop(0)
            await fleet.wait_until(victim.is_busy)
            fleet.kill(victim)
            alive.append(await fleet.start(nursery))
        enough.set()
        await drain(database)
        for member in alive:
            await fleet.stop(member)
    figures.note("workers killed", kills)
    judge(fleet, added, figures)
    await check_nothing_locked(database)


def judge(fleet: Fleet, added: set[int], figures: Figures) -> None:
    fleet.check(added)
    figures.note("jobs completed", len(added))
    figures.note("jobs that were running, and ran again", len(waits := fleet.recoveries()))
    figures.note("of these had ended, unrecorded", fleet.repetitions())
    if waits:
        figures.note("s until such a job ran again (median)", statistics.median(waits))
        figures.note("s until such a job ran again (longest)", max(waits))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
async def test_a_worker_that_was_suspended_keeps_out_of_what_others_have_taken(
    database: Database, database_url: str, figures: Figures, times: int
) -> None:
    """It comes back after its lease, in the middle of its jobs and with more of them in its local queue."""
    client, fleet = Client(database, TaskRegistry()), Fleet(database_url)
    added: set[int] = set()
    enough = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_adding, client, fleet, added, enough)
        for _ in range(times):
            sleeper = await fleet.start(nursery)
            await fleet.wait_until(sleeper.is_busy)
            fleet.freeze(sleeper)
            other, recoveries = await fleet.start(nursery), len(fleet.recoveries())
            await fleet.wait_until(lambda before=recoveries: len(fleet.recoveries()) > before)  # type: ignore[misc]
            fleet.thaw(sleeper)
            count = len(sleeper.runs)
            await fleet.wait_until(lambda s=sleeper, before=count: len(s.runs) > before + 20)  # type: ignore[misc]
            await fleet.stop(other)
            await fleet.stop(sleeper)
        enough.set()
        other = await fleet.start(nursery)
        await drain(database)
        await fleet.stop(other)
    figures.note("workers suspended", times)
    judge(fleet, added, figures)
    await check_nothing_locked(database)
