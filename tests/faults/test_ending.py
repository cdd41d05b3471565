"""A worker that must end while the network is broken: in time, and without a lie."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio

from tests.faults.conftest import Stage
from tests.faults.load import PATIENCE, Load, check_nothing_locked
from tests.faults.network import Proxy
from trio_graphile import (
    Client,
    JobContext,
    ShutdownIncomplete,
    ShutdownOptions,
    ShutdownReport,
    Worker,
    WorkerOptions,
)

GRACE_PERIOD = 0.3
FLUSH_TIMEOUT = 2.0
SLACK = 2.0
"""For a slow machine: the bound itself is what is tested, not the machine."""

# A claim every 50 ms, so that one is under way whenever the fault comes.
OPTIONS = WorkerOptions(
    concurrency=4,
    poll_interval=0.05,
    shutdown=ShutdownOptions(grace_period=GRACE_PERIOD, flush_timeout=FLUSH_TIMEOUT),
)


def cut(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.reset()


FAULTS: dict[str, Callable[[Proxy], None]] = {"cut": cut, "swallow": Proxy.swallow}
ENDINGS: dict[str, tuple[Callable[[Worker], None], float]] = {
    "stop": (Worker.stop, GRACE_PERIOD + FLUSH_TIMEOUT),
    "cancel": (Worker.cancel, FLUSH_TIMEOUT),
}


@attrs.define(eq=False)
class Course:
    """A worker with two jobs that wait and one that ends during the fault."""

    load: Load
    worker: Worker
    report: ShutdownReport | None = None
    error: ShutdownIncomplete | None = None
    seconds: float = 0.0
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        try:
            self.report = await self.worker.run()
        except ShutdownIncomplete as error:
            self.error = error
        self.ended.set()

    async def begin(self, client: Client, nursery: trio.Nursery) -> None:
        await client.add_raw_jobs([("held", None), ("held", None), ("let_go", None)])
        nursery.start_soon(self.run)
        await self.load.wait_started(3)

    async def end(self, how: Callable[[Worker], None]) -> None:
        began = trio.current_time()
        how(self.worker)
        with trio.fail_after(PATIENCE):
            await self.ended.wait()
        self.seconds = trio.current_time() - began


@pytest.fixture
def course(stage: Stage) -> Course:
    load = Load()
    return Course(load, Worker(stage.through, load.tasks, OPTIONS))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_worker_that_cannot_write_what_became_of_its_jobs_says_which_in_time(
    fault: str, ending: str, course: Course, stage: Stage
) -> None:
    load, client = course.load, Client(stage.database, course.load.tasks)
    how, promised = ENDINGS[ending]
    async with trio.open_nursery() as nursery:
        await course.begin(client, nursery)
        FAULTS[fault](stage.proxy)
        load.release_some.set()
        await load.wait_returned(1)
        await course.end(how)
    stage.figures.note(f"s to end, of {promised:.1f} s that are promised", course.seconds)
    assert course.error is not None, "it said that all was well"
    assert course.seconds < promised + SLACK
    locked = await stage.database.fetch(
        "select id from graphile_worker._private_jobs where locked_by = $1::text", course.worker.worker_id
    )
    assert set(course.error.job_ids) == {row["id"] for row in locked} == load.runs.keys()
    assert all(run.ending is not None for runs in load.runs.values() for run in runs), "a handler still runs"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_ends_in_time_leaves_no_trace(
    fault: str, ending: str, course: Course, stage: Stage
) -> None:
    load, client = course.load, Client(stage.database, course.load.tasks)
    how, _ = ENDINGS[ending]
    async with trio.open_nursery() as nursery:
        await course.begin(client, nursery)
        FAULTS[fault](stage.proxy)
        load.release_some.set()
        await load.wait_returned(1)
        nursery.start_soon(course.end, how)
        await load.wait_until(lambda: all(run.ending for runs in load.runs.values() for run in runs))
        if fault == "cut":
            await stage.notices.wait_for_new("recording outcomes failed")
        await stage.proxy.heal()
    stage.figures.note("s to end, the fault included", course.seconds)
    assert course.error is None, str(course.error)
    await check_nothing_locked(stage.database)
    rows = await stage.database.fetch("select attempts, last_error from graphile_worker._private_jobs")
    assert [tuple(row.values()) for row in rows] == [(0, None), (0, None)]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_broken_connections_do_not_keep_a_worker_from_ending_well(
    ending: str, course: Course, stage: Stage
) -> None:
    client = Client(stage.database, course.load.tasks)
    how, promised = ENDINGS[ending]
    async with trio.open_nursery() as nursery:
        await course.begin(client, nursery)
        stage.proxy.reset()
        course.load.release_some.set()
        await course.load.wait_returned(1)
        await course.end(how)
    assert course.error is None, str(course.error)
    assert course.seconds < promised + SLACK
    await check_nothing_locked(stage.database)
    rows = await stage.database.fetch("select attempts, last_error from graphile_worker._private_jobs")
    assert [tuple(row.values()) for row in rows] == [(0, None), (0, None)]


@pytest.mark.parametrize("fault", FAULTS)
async def test_ctrl_c_is_heard_beside_what_could_not_be_written(
    fault: str, course: Course, stage: Stage
) -> None:
    @course.load.tasks.task("interrupted")
    async def interrupted(context: JobContext) -> None:
        with course.load.running(context.job):
            await course.load.release_some.wait()
            raise KeyboardInterrupt

    job = await Client(stage.database, course.load.tasks).add_raw_job("interrupted")

    async def break_it() -> None:
        await course.load.wait_started(1)
        FAULTS[fault](stage.proxy)
        course.load.release_some.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_it)
        with pytest.RaisesGroup(KeyboardInterrupt, ShutdownIncomplete) as raised:
            await course.worker.run()
    [incomplete] = [error for error in raised.value.exceptions if isinstance(error, ShutdownIncomplete)]
    assert incomplete.job_ids == (job.id,)


async def test_a_crash_is_named_beside_what_could_not_be_written(stage: Stage) -> None:
    load, broken = Load(), False

    def flags() -> list[str]:
        if broken:
            raise SystemExit("the flags are broken")
        return []

    options = attrs.evolve(OPTIONS, forbidden_flags=flags)
    worker = Worker(stage.through, load.tasks, options)
    job = await Client(stage.database, load.tasks).add_raw_job("held")

    async def break_it() -> None:
        nonlocal broken
        await load.wait_started(1)
        stage.proxy.swallow()
        broken = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_it)
        with pytest.raises(ShutdownIncomplete, match="forbidden_flags: the function raised") as raised:
            await worker.run()
    assert raised.value.job_ids == (job.id,)
