"""The cancellation test: a worker is ended at each of its scheduling points, one run for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Literal, TypeAlias, get_args

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.inspection import JobFilter
from trio_graphile._model.outcomes import ShutdownReport
from trio_graphile._worker.worker import Worker
from trio_graphile.testing._points import ActAt, PointsTried, try_point, try_points

Ending: TypeAlias = Literal["stop", "cancel", "cancel_scope"]
"""How a run is ended: by `Worker.stop`, by `Worker.cancel`, or as if the nursery around it was cancelled."""
_ENDINGS: tuple[Ending, ...] = get_args(Ending)


@attrs.frozen(kw_only=True)
class EndedRun:
    """A run of a worker that `end_at_every_point` has ended, for the check after it."""

    ending: Ending
    """How it was ended."""
    point: int | None
    """The scheduling point at which it was ended, from 1; None for a run that nobody ended."""
    report: ShutdownReport | None
    """What became of its jobs; None if the scope around it was cancelled."""


async def end_at_every_point(
    scenario: Callable[[], Awaitable[Worker]],
    check: Callable[[EndedRun], Awaitable[object]],
    *,
    endings: Iterable[Ending] = _ENDINGS,
    sample: int | None = None,
    points: Iterable[int] | None = None,
    run_timeout: float = 30.0,
) -> PointsTried:
    """End a worker at each of its scheduling points, one run for each, and check what is left.

    A scheduling point is a step of any Trio task: a run that was ended before each of them was ended
    everywhere. `scenario` brings tables and whatever else handlers change to the same state each time, adds
    the jobs, and returns a new worker, of which this calls `run_once`. Give it a short grace period: that is
    how long a stop waits for handlers. After each run nothing may be locked by the worker; then `check` is
    called, for what your program promises. It may first have another worker do the rest, with
    `run_until_empty`.

    All of it is done for each of the `endings`. With `sample`, about so many points are tried for each,
    evenly spread. With `points`, these alone are tried: to repeat a failure give some around it, such as
    `range(180, 195)`, since no two runs take quite the same steps. A run that takes longer than `run_timeout`
    seconds raises `trio.TooSlowError`. Whatever is raised has a note with the ending and the point.
    """
    found = PointsTried()
    points = None if points is None else list(points)
    for ending in endings:
        if ending not in _ENDINGS:
            raise OptionInvalid("endings", f"{ending!r} is not one of {', '.join(_ENDINGS)}")
        run = partial(_end_at, scenario, check, ending, run_timeout)
        what = f"the run was ended by {ending!r}"
        if points is None:
            found += await try_points(run, what=what, sample=sample)
            continue
        for point in points:
            count = await try_point(run, point, what=f"{what} at point {point}")
            found += PointsTried(tried=int(point <= count), points=0)
    return found


async def _end_at(
    scenario: Callable[[], Awaitable[Worker]],
    check: Callable[[EndedRun], Awaitable[object]],
    ending: Ending,
    run_timeout: float,
    point: int | None,
) -> int:
    """Run the scenario afresh, end it at a point, and check what is left. Return how many points it had."""
    worker = await scenario()
    # Kept to be cancelled at the point; never a shield.
    scope = trio.CancelScope()  # noqa: TID251
    acts = {"stop": worker.stop, "cancel": worker.cancel, "cancel_scope": scope.cancel}
    instrument = ActAt(point, acts[ending])
    report = None
    with trio.fail_after(run_timeout), scope, instrument.installed():
        report = await worker.run_once()
    await _check_locks(worker)
    await check(EndedRun(ending=ending, point=point, report=report))
    return instrument.count


async def _check_locks(worker: Worker) -> None:
    client = Client(worker.database)
    page = await client.jobs(JobFilter(locked_by=worker.worker_id))
    jobs = [listed.job.id for listed in page.jobs]
    queues = [queue.queue_name for queue in await client.queues() if queue.locked_by == worker.worker_id]
    if jobs or queues:
        raise AssertionError(f"the worker has left locked: jobs {jobs}, queues {queues}")
