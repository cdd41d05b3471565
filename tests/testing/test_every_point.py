"""Ending a worker at every scheduling point: what is broken only there is found, and said where."""

from __future__ import annotations

import pytest
import trio

from trio_graphile import (
    Client,
    Database,
    JobContext,
    OptionInvalid,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile.testing import EndedRun, end_at_every_point
from trio_graphile.testing._points import try_points

GAP = 120
"""In how many points a careless handler is broken: enough for a sample to find one of them."""
SAMPLE = 20
AT_ONCE = WorkerOptions(concurrency=1, shutdown=ShutdownOptions(grace_period=0))
PATIENT = WorkerOptions(concurrency=1, shutdown=ShutdownOptions(grace_period=3600))


class Purse:
    """Coins that a handler moves from one pocket to the other, in two steps."""

    def __init__(self, database: Database, *, careful: bool) -> None:
        self.database = database
        self.tasks = TaskRegistry()
        self.left = self.right = 0
        self.ended: list[EndedRun] = []

        @self.tasks.task("move")
        async def move() -> None:
            self.left -= 1
            try:
                for _ in range(GAP):
                    await trio.lowlevel.checkpoint()
            except BaseException:
                if careful:
                    self.left += 1
                raise
            self.right += 1

    async def scenario(self) -> Worker:
        self.left, self.right = 1, 0
        await self.database.execute("delete from graphile_worker._private_jobs")
        await Client(self.database).add_raw_job("move")
        return Worker(self.database, self.tasks, AT_ONCE)

    async def check(self, run: EndedRun) -> None:
        self.ended.append(run)
        await trio.lowlevel.checkpoint()
        assert self.left + self.right == 1


async def test_a_careful_handler_passes_wherever_it_is_ended(database: Database) -> None:
    purse = Purse(database, careful=True)
    found = await end_at_every_point(purse.scenario, purse.check, endings=["cancel"], sample=SAMPLE)
    assert SAMPLE // 2 < found.tried < found.points
    assert purse.ended[0].point is None
    assert {run.point for run in purse.ended if run.point is not None} >= {1}
    assert 1 + found.tried <= len(purse.ended) <= 2 + found.tried  # the last was over before its turn, maybe
    assert {run.report is None for run in purse.ended} == {False}


@pytest.mark.parametrize("ending", ["stop", "cancel", "cancel_scope"])
async def test_a_handler_that_is_broken_somewhere_is_found_there(database: Database, ending: str) -> None:
    purse = Purse(database, careful=False)
    with pytest.raises(AssertionError) as raised:
        await end_at_every_point(purse.scenario, purse.check, endings=[ending], sample=SAMPLE)  # type: ignore[list-item]
    [note] = raised.value.__notes__
    point = purse.ended[-1].point
    assert note.startswith(f"the run was ended by '{ending}' at point {point} of ")
    assert point is not None
    inside = point + GAP // 3  # however much the runs differ
    with pytest.raises(AssertionError) as again:
        await end_at_every_point(purse.scenario, purse.check, endings=[ending], points=[1, inside])  # type: ignore[list-item]
    assert again.value.__notes__ == [f"the run was ended by '{ending}' at point {inside}"]


async def test_points_are_tried_that_the_test_gives(database: Database) -> None:
    purse = Purse(database, careful=True)
    found = await end_at_every_point(
        purse.scenario, purse.check, endings=["stop", "cancel"], points=iter([1, 50, 1_000_000])
    )
    assert found.tried == 4
    assert [run.point for run in purse.ended] == [1, 50, 1_000_000] * 2


async def test_a_run_that_hangs_is_ended_and_says_where(database: Database) -> None:
    purse = Purse(database, careful=True)

    @purse.tasks.task("stubborn")
    async def stubborn(context: JobContext) -> None:
        for _ in range(GAP):
            await trio.lowlevel.checkpoint()
        if context.stopping.is_set():
            await trio.sleep_forever()

    async def scenario() -> Worker:
        await purse.scenario()
        await Client(database).add_raw_job("stubborn")
        return Worker(database, purse.tasks, PATIENT)

    with pytest.raises(trio.TooSlowError) as raised:
        await end_at_every_point(scenario, purse.check, endings=["stop"], sample=SAMPLE, run_timeout=2)
    assert raised.value.__notes__[0].startswith("the run was ended by 'stop' at point ")


async def test_an_ending_that_does_not_exist_is_refused(database: Database) -> None:
    purse = Purse(database, careful=True)
    with pytest.raises(OptionInvalid, match="'kill' is not one of stop, cancel"):
        await end_at_every_point(purse.scenario, purse.check, endings=["kill"])  # type: ignore[list-item]


async def test_every_point_is_tried_until_a_run_is_over_before_its_turn() -> None:
    tried: list[int | None] = []

    async def run(point: int | None) -> int:
        await trio.lowlevel.checkpoint()
        tried.append(point)
        return 10 if point is None else 12

    found = await try_points(run, what="it happened")
    assert tried == [None, *range(1, 13)]
    assert (found.tried, found.points) == (12, 12)


@pytest.mark.parametrize(("number", "points"), [(1, [1, 7, 13, 19]), (2, [3, 9, 15]), (3, [5, 11, 17])])
async def test_shares_of_a_sample_are_disjoint(number: int, points: list[int]) -> None:
    tried: list[int | None] = []

    async def run(point: int | None) -> int:
        await trio.lowlevel.checkpoint()
        tried.append(point)
        return 20

    await try_points(run, what="it happened", sample=10, share=(number, 3))
    assert tried == [None, *points]


async def test_a_run_that_goes_in_circles_fails() -> None:
    async def run(point: int | None) -> int:
        await trio.lowlevel.checkpoint()
        return 10 if point is None else 50

    with pytest.raises(AssertionError, match="runs in circles after it happened at point 1"):
        await try_points(run, what="it happened")
