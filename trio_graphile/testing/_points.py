"""Scheduling points: the steps of all Trio tasks, counted, and a run that is repeated for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

import attrs
import trio


class ActAt(trio.abc.Instrument):
    """Counts the steps of all Trio tasks, and acts before the k-th: `point` is its number, from 1."""

    def __init__(self, point: int | None, act: Callable[[], object]) -> None:
        """Count only, if `point` is None."""
        self.count = 0
        self._point = point
        self._act = act

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  # the interface's name
        """Count a step; called by Trio."""
        self.count += 1
        if self.count == self._point:
            self._act()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Count while the body runs."""
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)


@attrs.frozen(kw_only=True)
class PointsTried:
    """How many scheduling points were tried, and how many there were."""

    tried: int = 0
    points: int = 0
    """The number of points of the longest run, summed over the endings; 0 if the test said which to try."""

    def __add__(self, other: PointsTried) -> PointsTried:
        return PointsTried(tried=self.tried + other.tried, points=self.points + other.points)


MOST_ROUNDS = 5
"""How many times as long as the undisturbed run another may be before it is said to run in circles."""


async def try_points(
    run: Callable[[int | None], Awaitable[int]],
    *,
    what: str,
    sample: int | None = None,
    share: tuple[int, int] = (1, 1),
) -> PointsTried:
    """Call `run` with one point after the other, as long as there are any.

    `run` returns how many points there were; it is called first with None, for a run in which nothing
    happens. `what` says in notes what happens at a point. With `sample`, about so many points are tried,
    evenly spread; with the share `(2, 3)` every third of these, from the second on.
    """
    undisturbed = total = await run(None)
    step = 1 if sample is None else max(1, undisturbed // sample)
    number, of = share
    point, tried = 1 + (number - 1) * step, 0
    while point <= total:
        count = await try_point(run, point, what=f"{what} at point {point} of {total}")
        if point > count:
            break  # this run was over before its turn came: there are no more points
        if count >= MOST_ROUNDS * undisturbed:
            raise AssertionError(f"something runs in circles after {what} at point {point}")
        total = max(total, count)
        point += step * of
        tried += 1
    return PointsTried(tried=tried, points=total)


async def try_point(run: Callable[[int | None], Awaitable[int]], point: int, *, what: str) -> int:
    """Call `run` with a point; whatever it raises gets a note."""
    try:
        return await run(point)
    except BaseException as error:
        error.add_note(what)
        raise
