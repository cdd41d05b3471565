"""Finds jobs: one page of a list, at a cost that does not depend on the number of jobs."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._database.connection import Executor
from trio_graphile._database.search.conditions import Conditions, check_search, look_up
from trio_graphile._database.search.cursor import Cursor, Place, decode
from trio_graphile._database.search.read import read_jobs
from trio_graphile._database.search.windows import (
    Reach,
    Seen,
    Window,
    look_at_failures,
    look_at_next,
    look_by_id,
)
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.estimates import (
    FAILED_INDEX,
    QUEUE_INDEX,
    QUEUED_INDEX,
    TASK_INDEX,
    usable_indexes,
)
from trio_graphile._database.summaries.failures import FIND_FAILED_TASKS
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import BIGINT
from trio_graphile._model.listing import FoundJob, FoundJobs, JobOrder, JobSearch

WINDOW_ROWS = 20_000  # rows that one statement reads
MOST_SOURCES = 1000  # tasks or queues that are searched one by one

_FIRST, _LAST = BIGINT.start, BIGINT.stop - 1
_LEAST = Place(id=_FIRST, run_at=_FIRST, priority=-(2**15))
_GREATEST = Place(id=_LAST, run_at=_LAST, priority=2**15 - 1)


async def find_jobs(
    executor: Executor, search: JobSearch, after: str | None = None, *, window: int = WINDOW_ROWS
) -> FoundJobs:
    """Return a page of the jobs that are searched: at most `search.limit`, of about `window` rows read.

    `after` is `next` or `previous` of a page of the same search. A job that exists from the first page to the
    last, and meets the conditions all the time, appears exactly once, unless its place in the order changes.
    Raises `OptionInvalid`.
    """
    check_search(search)
    cursor = None if after is None else decode(after, search.order)
    conditions = await look_up(executor, search)
    if conditions.are_impossible:
        return FoundJobs(jobs=())
    sources = None if cursor is not None and cursor.by_id else await _find_sources(executor, conditions)
    if cursor is None:
        cursor = _beginning(conditions, by_id=sources is None)
    elif sources is None and not cursor.by_id:
        raise OptionInvalid("after", f"the order {search.order} is no longer possible here: begin anew")
    if not cursor.is_backward:
        cursor = attrs.evolve(cursor, skip=cursor.skip + search.offset)
    seen = await _look(executor, conditions, cursor, sources, window)
    page = _turn(seen, cursor, search.limit)
    jobs = await read_jobs(executor, [one.place.id for one in page.shown])
    return _answer(page, jobs, search, is_first=after is None and not search.offset, by_id=cursor.by_id)


async def _find_sources(executor: Executor, conditions: Conditions) -> list[int] | None:
    """Return the tasks or queues whose jobs are merged; None if the jobs have to be sorted by id."""
    order = conditions.search.order
    if order in {JobOrder.OLDEST, JobOrder.NEWEST} or conditions.ids is not None:
        return None
    indexes = await usable_indexes(executor)
    if order is JobOrder.LATEST_FAILURE:
        needed, given, find = {FAILED_INDEX}, conditions.task_ids, FIND_FAILED_TASKS
    elif conditions.queue_ids is not None:
        needed, given, find = {QUEUE_INDEX}, conditions.queue_ids, FIND_AVAILABLE_TASKS
    else:
        needed, given, find = {TASK_INDEX, QUEUED_INDEX}, conditions.task_ids, FIND_AVAILABLE_TASKS
    if not needed <= indexes.keys():
        return None
    sources = await _find_tasks(executor, find) if given is None else given
    return None if len(sources) > MOST_SOURCES else sources


FIND_AVAILABLE_TASKS = Statement("""
    with recursive available as (
      (
        select jobs.task_id, 1 as place
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
        order by jobs.task_id, jobs.priority, jobs.run_at, jobs.id
        limit 1
      )
      union all
      select next.task_id, available.place + 1
      from available
      cross join lateral (
        select jobs.task_id
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id > available.task_id
        order by jobs.task_id, jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as next
      where available.place < $1::integer
    )
    select available.task_id
    from available
    order by available.task_id
""")  # $1 how many. From one task to the next by the index, whatever number of jobs stands between.


async def _find_tasks(executor: Executor, find: Statement) -> list[int]:
    return [row["task_id"] for row in await executor.fetch(find, MOST_SOURCES + 1)]


def _is_descending(cursor: Cursor) -> bool:
    """Whether the rows are read in descending order."""
    return (cursor.order in {JobOrder.NEWEST, JobOrder.LATEST_FAILURE}) is not cursor.is_backward


def _beginning(conditions: Conditions, *, by_id: bool) -> Cursor:
    """Return the place before all jobs."""
    cursor = Cursor(order=conditions.search.order, by_id=by_id, place=_LEAST)
    return attrs.evolve(cursor, place=_GREATEST) if _is_descending(cursor) else cursor


async def _look(
    executor: Executor, conditions: Conditions, cursor: Cursor, sources: Sequence[int] | None, window: int
) -> Window:
    descending = _is_descending(cursor)
    wanted = cursor.skip + conditions.search.limit + 1  # the one more shows whether there are others
    if sources is None:
        start, until = cursor.place.id, conditions.until_id
        if descending and until is not None:
            start = min(start, min(until, _LAST - 1) + 1)
        reach = Reach(start=Place(id=start), most=window, wanted=wanted, descending=descending)
        seen = await look_by_id(executor, conditions, reach)
        if not descending and until is not None and seen.end is not None and seen.end.place.id >= until:
            return attrs.evolve(seen, is_partial=False)
        return seen
    look = look_at_failures if cursor.order is JobOrder.LATEST_FAILURE else look_at_next
    share = max(1, window // (len(sources) + 1))
    if _all_match(conditions):
        share = min(share, wanted)
    reach = Reach(start=cursor.place, most=share, wanted=wanted, descending=descending)
    return await look(executor, conditions, sources, reach)


def _all_match(conditions: Conditions) -> bool:
    """Whether nearly all jobs of the sources match: then we read no more than are wanted."""
    search = conditions.search
    is_conditional = (search.locked_by, search.error, search.text or None, search.until_id) != (None,) * 4
    by_task = conditions.task_ids is not None and search.order is not JobOrder.LATEST_FAILURE
    by_queue = conditions.queue_ids is not None and search.order is not JobOrder.NEXT_RUN
    return not (is_conditional or search.states or search.flags or by_task or by_queue)


@attrs.frozen(kw_only=True)
class _Page:
    """The jobs of a window that are shown, in the order of the list, and what lies beyond on either side."""

    shown: Sequence[Seen]
    stop: Seen | None
    """The last row that was read."""
    onward: Cursor | None
    back: Cursor
    is_backward: bool


def _turn(window: Window, cursor: Cursor, limit: int) -> _Page:
    shown = window.found[cursor.skip : cursor.skip + limit]
    stop: Seen | None
    if len(window.found) > cursor.skip + limit:
        stop, left, is_partial = shown[-1], 0, True
    else:
        stop, left, is_partial = window.end, max(0, cursor.skip - len(window.found)), window.is_partial
    onward = attrs.evolve(cursor, place=stop.place, skip=left) if stop is not None and is_partial else None
    back_place = shown[0].place if shown else _including(cursor)
    back = attrs.evolve(cursor, place=back_place, skip=0, is_backward=not cursor.is_backward)
    return _Page(
        shown=shown[::-1] if cursor.is_backward else shown,
        stop=stop,
        onward=onward,
        back=back,
        is_backward=cursor.is_backward,
    )


def _including(cursor: Cursor) -> Place:
    """Return the place from which the other direction begins, including the cursor's own."""
    step = -1 if _is_descending(cursor) else 1
    return attrs.evolve(cursor.place, id=max(_FIRST, min(cursor.place.id + step, _LAST)))


def _answer(
    page: _Page, jobs: dict[int, FoundJob], search: JobSearch, *, is_first: bool, by_id: bool
) -> FoundJobs:
    onward = None if page.onward is None else page.onward.encode()
    back = None if is_first else page.back.encode()
    return FoundJobs(
        jobs=tuple(jobs[one.place.id] for one in page.shown if one.place.id in jobs),
        next=back if page.is_backward else onward,
        previous=onward if page.is_backward else back,
        scanned=0 if page.stop is None else page.stop.scanned,
        unsearched=0 if page.stop is None else page.stop.unsearched,
        fell_back=by_id and search.order in {JobOrder.NEXT_RUN, JobOrder.LATEST_FAILURE},
    )
