"""Reads a window of jobs in one order, from a place on: which match, and how far it got.

Each statement stops as soon as it has found as many as are wanted. It fetches the rows of payloads and errors
only if a condition asks for their content.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.search.conditions import IS_UNSEARCHED, MATCHES, Conditions
from trio_graphile._database.search.cursor import Place
from trio_graphile._database.statement import Statement


@attrs.frozen(kw_only=True)
class Reach:
    """The limits of a window."""

    start: Place
    """The place after which the window begins."""
    most: int
    """How many jobs of each source are read."""
    wanted: int
    """How many matching jobs are enough."""
    descending: bool


@attrs.frozen(kw_only=True)
class Seen:
    """A job that was read."""

    place: Place
    scanned: int
    """Its number among the rows that were read."""
    unsearched: int
    """How many payloads up to here were too large to be searched."""


@attrs.frozen(kw_only=True)
class Window:
    """The result of reading a window."""

    found: tuple[Seen, ...]
    end: Seen | None = None
    """The last job that was read; None if there was none, or if enough were found before the end."""
    is_partial: bool = False
    """Whether there may be more jobs behind the end."""


_PAGE = """
    select page.id, page.priority, encode(timestamptz_send(page.run_at), 'hex') as run_at, page.scanned,
      page.unsearched, page.is_end, page.is_partial
    from (
      select looked_at.id, looked_at.priority, looked_at.run_at, looked_at.scanned, looked_at.unsearched,
        false as is_end, false as is_partial
      from looked_at
      where looked_at.is_match
      union all
      select looked_at.id, looked_at.priority, looked_at.run_at, looked_at.scanned, looked_at.unsearched,
        true, {is partial}
      from (
        select looked_at.id, looked_at.priority, looked_at.run_at, looked_at.scanned, looked_at.unsearched
        from looked_at
        order by looked_at.scanned desc
        limit 1
      ) as looked_at
    ) as page
    limit {wanted}
"""
# The end comes last: if the jobs before are enough, the rest of the window is not read.

_BY_ID = f"""
    with looked_at as materialized (
      select seen.id, 0 as priority, null::timestamptz as run_at, seen.is_match,
        row_number() over () as scanned,
        count(*) filter (where seen.is_unsearched) over (rows unbounded preceding) as unsearched
      from (
        select jobs.id, {MATCHES} as is_match, {IS_UNSEARCHED} as is_unsearched
        from {{schema}}._private_jobs as jobs
        where jobs.id {{beyond}} $9::bigint{{among}}
        order by jobs.id {{direction}}
        limit $10::bigint
      ) as seen
    )
    """ + _PAGE.replace("{wanted}", "$11::bigint").replace("{is partial}", "looked_at.scanned >= $10::bigint")


def _directed(text: str, *, descending: bool) -> str:
    return text.replace("{beyond}", "<" if descending else ">").replace(
        "{direction}", "desc" if descending else "asc"
    )


_AMONG = "\n          and jobs.id = any($12::bigint[])"
ASCENDING = Statement(_directed(_BY_ID, descending=False).replace("{among}", ""))
DESCENDING = Statement(_directed(_BY_ID, descending=True).replace("{among}", ""))
ASCENDING_AMONG = Statement(_directed(_BY_ID, descending=False).replace("{among}", _AMONG))
DESCENDING_AMONG = Statement(_directed(_BY_ID, descending=True).replace("{among}", _AMONG))
# $1 to $8 as in MATCHES, $9 beyond which id, $10 at how many to look, $11 how many are wanted, $12 which ids


async def look_by_id(executor: Executor, conditions: Conditions, reach: Reach) -> Window:
    """Read jobs by id."""
    descending = reach.descending
    arguments = (*conditions.parameters, reach.start.id, reach.most, reach.wanted)
    if conditions.ids is None:
        rows = await executor.fetch(DESCENDING if descending else ASCENDING, *arguments)
    else:
        among = DESCENDING_AMONG if descending else ASCENDING_AMONG
        rows = await executor.fetch(among, *arguments, conditions.ids)
    return _window(rows)


_PLACE_TIME = """case $11::bigint
            when 9223372036854775807 then timestamptz 'infinity'
            when -9223372036854775808 then timestamptz '-infinity'
            else timestamptz '2000-01-01 00:00:00+00'
              + make_interval(hours => ($11::bigint / 7200000000)::integer)
              + make_interval(
                hours => ($11::bigint / 7200000000)::integer,
                secs => ($11::bigint % 7200000000)::float8 / 1000000
              )
          end"""
# Seconds are a number with a fraction, which becomes less exact the larger it is; and there can be more hours
# than an integer holds.

_HEADS = """
        select heads.id, heads.priority, heads.run_at,
          row_number() over (order by {of heads}) as nth
        from (
          select jobs.id, jobs.priority, jobs.run_at
          from {schema}._private_jobs as jobs
          where {those}
            and ({of jobs}) {beyond} ({start})
          order by {of jobs in direction}
          limit $13::bigint
        ) as heads
"""
_OF_EACH = f"""
        select next.id, next.priority, next.run_at, next.nth
        from unnest($9::integer[]) as wanted(id)
        cross join lateral ({_HEADS}        ) as next
"""
_MERGED = f"""
    with entries as materialized ({{sources}}),
    horizon as materialized (
      select entries.priority, entries.run_at, entries.id
      from entries
      where entries.nth >= $13::bigint
      order by {{of entries in direction}}
      limit 1
    ),
    merged as materialized (
      select entries.id, entries.priority, entries.run_at,
        row_number() over (order by {{of entries in direction}}) as scanned
      from entries
      left join horizon on true
      where horizon.id is null
        or ({{of horizon}}) {{beyond}} ({{of entries}})
        or horizon.id = entries.id
      order by {{of entries in direction}}
    ),
    looked_at as materialized (
      select merged.id, merged.priority, merged.run_at, merged.scanned, job.is_match,
        count(*) filter (where job.is_unsearched) over (rows unbounded preceding) as unsearched
      from merged
      cross join lateral (
        select {MATCHES} as is_match, {IS_UNSEARCHED} as is_unsearched
        from {{schema}}._private_jobs as jobs
        where jobs.id = merged.id
        limit 1
      ) as job
    )
    """ + _PAGE.replace("{wanted}", "$14::bigint").replace("{is partial}", "exists (select from horizon)")
# Reads the first so many of each source. Beyond the end of the source that ends first, others may have jobs
# that were not read, so the merged order is known only up to there.


def _merged(sources: str, columns: Sequence[str], *, descending: bool) -> Statement:
    text = _MERGED.replace("{sources}", sources)
    start = {"priority": "$10::smallint", "run_at": _PLACE_TIME, "id": "$12::bigint"}
    text = text.replace("{start}", ", ".join(start[column] for column in columns))
    for table in ("jobs", "heads", "entries", "horizon"):
        names = [f"{table}.{column}" for column in columns]
        directed = ", ".join(f"{name} {'desc' if descending else 'asc'}" for name in names)
        text = text.replace(f"{{of {table} in direction}}", directed)
        text = text.replace(f"{{of {table}}}", directed if table == "heads" else ", ".join(names))
    return Statement(_directed(text, descending=descending))


_IN_RUN_ORDER = ("priority", "run_at", "id")
_UNQUEUED = "jobs.is_available = true and jobs.job_queue_id is null and jobs.task_id = wanted.id"
_QUEUED = "jobs.is_available = true and jobs.job_queue_id is not null"
_TASKS_AND_QUEUED = (
    _OF_EACH.replace("{those}", _UNQUEUED) + "        union all" + _HEADS.replace("{those}", _QUEUED)
)
_QUEUES = _OF_EACH.replace("{those}", f"{_QUEUED} and jobs.job_queue_id = wanted.id")

NEXT_OF_TASKS = _merged(_TASKS_AND_QUEUED, _IN_RUN_ORDER, descending=False)
NEXT_OF_TASKS_BACKWARD = _merged(_TASKS_AND_QUEUED, _IN_RUN_ORDER, descending=True)
NEXT_OF_QUEUES = _merged(_QUEUES, _IN_RUN_ORDER, descending=False)
NEXT_OF_QUEUES_BACKWARD = _merged(_QUEUES, _IN_RUN_ORDER, descending=True)
# $1 to $8 as in MATCHES, $9 ids of tasks or queues, $10 to $12 beyond which place, $13 at how many to look of
# each, $14 how many are wanted


async def look_at_next(
    executor: Executor, conditions: Conditions, sources: Sequence[int], reach: Reach
) -> Window:
    """Read available jobs in the order in which they run; `sources` are queues if the search names any."""
    if conditions.queue_ids is None:
        statement = NEXT_OF_TASKS_BACKWARD if reach.descending else NEXT_OF_TASKS
    else:
        statement = NEXT_OF_QUEUES_BACKWARD if reach.descending else NEXT_OF_QUEUES
    start = (reach.start.priority, reach.start.run_at, reach.start.id)
    rows = await executor.fetch(statement, *conditions.parameters, sources, *start, reach.most, reach.wanted)
    return _window(rows)


_FAILED = _OF_EACH.replace(
    "{those}", "jobs.attempts >= jobs.max_attempts and jobs.task_id = wanted.id"
).replace("select jobs.id, jobs.priority,", "select jobs.id, $10::smallint as priority,")
LATEST_FAILED = _merged(_FAILED, ("run_at", "id"), descending=True)
EARLIEST_FAILED = _merged(_FAILED, ("run_at", "id"), descending=False)
# As above, but in the order of times alone: the index has no priority, and $10 stands for it.


async def look_at_failures(
    executor: Executor, conditions: Conditions, sources: Sequence[int], reach: Reach
) -> Window:
    """Read jobs of these tasks that have no attempt left, by time."""
    statement = LATEST_FAILED if reach.descending else EARLIEST_FAILED
    start = (0, reach.start.run_at, reach.start.id)
    rows = await executor.fetch(statement, *conditions.parameters, sources, *start, reach.most, reach.wanted)
    return _window(rows)


def _window(rows: Sequence[Row]) -> Window:
    ends = [row for row in rows if row["is_end"]]
    return Window(
        found=tuple(sorted((_seen(row) for row in rows if not row["is_end"]), key=lambda seen: seen.scanned)),
        end=_seen(ends[0]) if ends else None,
        is_partial=bool(ends) and ends[0]["is_partial"],
    )


def _seen(row: Row) -> Seen:
    stored = row["run_at"]
    return Seen(
        place=Place(
            id=row["id"],
            run_at=0 if stored is None else int.from_bytes(bytes.fromhex(stored), "big", signed=True),
            priority=row["priority"],
        ),
        scanned=row["scanned"],
        unsearched=row["unsearched"],
    )
