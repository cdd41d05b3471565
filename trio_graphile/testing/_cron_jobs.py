"""The jobs of a crontab, added for a time that a test chooses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from trio_graphile._client import Client
from trio_graphile._cron.due import due_from
from trio_graphile._cron.item import CronItem, cron_items, job_of_item
from trio_graphile._database.database import Database
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._job_client import JobClient
from trio_graphile._model.jobs import Job
from trio_graphile._model.json import decode
from trio_graphile._model.validators import check_kind


async def add_cron_jobs(
    where: JobClient | Database, crontab: Iterable[CronItem], *, at: datetime
) -> list[Job]:
    """Add the jobs that a worker with this crontab would add at a time, to the minute; return them.

    None, if no entry is due at that minute. A time in the future is fine: the jobs are due then, and
    `run_until_empty(..., until=at)` runs them. Raises `OptionInvalid` for a time without a zone.
    """
    check_kind("at", at, datetime)
    if at.utcoffset() is None:
        raise OptionInvalid("at", f"{at} has no time zone; use datetime(..., tzinfo=UTC) and the like")
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    client = Client(where) if isinstance(where, Database) else where
    check_kind("where", client, JobClient, "Client(database)")
    jobs = []
    for item in cron_items(crontab):
        if next(due_from(item, minute), None) == minute:
            new_job = job_of_item(item, minute, backfilled=False)
            payload = decode(new_job.payload_json)
            jobs.append(await client.add_raw_job(new_job.identifier, payload, new_job.spec))
    return jobs
