"""Crontabs in the database: the entries that workers know, and up to when their jobs were added.

The table is shared with the workers of Node and Rust. Rows of entries that we do not have are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from trio_graphile._cron.due import Known
from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.halves import in_halves
from trio_graphile._database.statement import Statement, array_literal
from trio_graphile._model.instants import time_of
from trio_graphile._model.jobs import NewJob

REGISTER_CRONTABS = Statement("""
    with known as (
      select crontabs.identifier, crontabs.known_since, crontabs.last_execution
      from {schema}._private_known_crontabs as crontabs
      where crontabs.identifier = any($1::text[])
    ),
    registered as (
      insert into {schema}._private_known_crontabs (identifier, known_since)
      select wanted.identifier, $2::timestamptz
      from unnest($1::text[]) as wanted(identifier)
      where wanted.identifier <> all(array(select known.identifier from known))
      on conflict (identifier) do nothing
    )
    select known.identifier, date_part('epoch', known.known_since) as known_since,
      date_part('epoch', known.last_execution) as last_execution
    from known
""")  # $1 identifiers of entries, $2 since when they are known if they are new


async def register_crontabs(
    executor: Executor, identifiers: Sequence[str], known_since: datetime
) -> dict[str, Known]:
    """Insert entries that are new; return the rows of the others."""
    return _known(await executor.fetch(REGISTER_CRONTABS, identifiers, known_since))


def _known(rows: Sequence[Row]) -> dict[str, Known]:
    return {
        row["identifier"]: Known(time_of(row["known_since"]), time_of(row["last_execution"])) for row in rows
    }


@attrs.frozen
class CronJob:
    """A job that is about to be added, and the entry that it is added for."""

    entry: str
    new_job: NewJob
    is_wanted: bool = True
    """If False, no job is added for this time of the entry, by us or by anybody else."""


@attrs.frozen
class Scheduled:
    """The result of scheduling one time of a crontab."""

    job_ids: Mapping[str, int]
    """The jobs that we added, by entry. For entries that are missing here, another worker had added the
    job."""
    now: datetime
    """The database's time."""


SCHEDULE_CRON_JOBS = Statement("""
    with specs as (
      select *
      from unnest(
        $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[], $9::text[],
        $10::integer[], $11::text[], $12::boolean[]
      ) with ordinality as specs(
        entry, identifier, payload, queue_name, max_attempts, job_key, job_key_mode, priority, flags,
        is_wanted, number
      )
      where $1::timestamptz <= now() + make_interval(secs => $2::float8)
    ),
    executed as (
      insert into {schema}._private_known_crontabs as crontabs (identifier, known_since, last_execution)
      select specs.entry, $1::timestamptz, $1::timestamptz
      from specs
      order by specs.number
      on conflict (identifier) do update
      set last_execution = excluded.last_execution
      where crontabs.last_execution is null or crontabs.last_execution < excluded.last_execution
      returning crontabs.identifier
    ),
    chosen as materialized (
      select specs.*
      from specs
      join executed on executed.identifier = specs.entry
      where specs.is_wanted
      order by specs.number
    ),
    added as (
      select chosen.entry, job.id
      from chosen
      cross join lateral {schema}.add_job(
        identifier => chosen.identifier,
        payload => chosen.payload::json,
        queue_name => chosen.queue_name,
        run_at => $1::timestamptz,
        max_attempts => chosen.max_attempts,
        job_key => chosen.job_key,
        priority => chosen.priority,
        flags => chosen.flags::text[],
        job_key_mode => chosen.job_key_mode
      ) as job
    )
    select clock.now, added.entry, added.id
    from (select now()) as clock(now)
    left join added on true
""")
# $1 the time, $2 how many seconds it may be ahead of the database's; then of each entry $3 its identifier and
# of its job $4 the task, $5 payload, $6 queue, $7 maximum of attempts, $8 key, $9 mode, $10 priority, $11
# flags as the text of an array, $12 whether it is added at all.
# The first worker wins: others wait for the rows of the entries, and then find that they are too late. The
# rows are taken in the order of the crontab, as other programs take them, so there is no deadlock. We call
# add_job for each job, not add_jobs for all, since entries may differ in their mode, and share a key.


async def schedule_cron_jobs(
    executor: Executor, at: datetime, jobs: Sequence[CronJob], *, tolerance: float
) -> Scheduled:
    """Add the jobs of one time, except for entries whose job for this time or a later one exists already.

    Adds nothing if the time is more than `tolerance` seconds ahead of the database's. If the database refuses
    a job, by a trigger say, raises `StatementFailed` after adding the others.
    """

    async def attempt(part: Sequence[CronJob]) -> list[Row]:
        specs = [job.new_job.spec for job in part]
        return await executor.fetch(
            SCHEDULE_CRON_JOBS,
            at,
            tolerance,
            [job.entry for job in part],
            [job.new_job.identifier for job in part],
            [job.new_job.payload_json for job in part],
            [spec.queue_name for spec in specs],
            [spec.max_attempts for spec in specs],
            [spec.job_key for spec in specs],
            [spec.job_key_mode.value for spec in specs],
            [spec.priority for spec in specs],
            [None if spec.flags is None else array_literal(spec.flags) for spec in specs],
            [job.is_wanted for job in part],
        )

    rows, refused = await in_halves(attempt, jobs)
    if refused:
        raise refused[0][1]
    rows = rows or await attempt([])
    # No id: functions of other programs may add nothing if a worker takes the keyed job at this moment.
    added = {row["entry"]: row["id"] for row in rows if row["id"] is not None}
    return Scheduled(added, rows[0]["now"])


LIST_KNOWN_CRONTABS = Statement("""
    select crontabs.identifier, date_part('epoch', crontabs.known_since) as known_since,
      date_part('epoch', crontabs.last_execution) as last_execution
    from {schema}._private_known_crontabs as crontabs
    order by crontabs.identifier
    limit $1::bigint
""")  # $1 how many


async def list_known_crontabs(executor: Executor, limit: int = 1000) -> dict[str, Known]:
    """Return the rows of all entries, of all programs."""
    return _known(await executor.fetch(LIST_KNOWN_CRONTABS, limit))
