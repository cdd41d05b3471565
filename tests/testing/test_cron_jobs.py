"""A crontab, at a time that a test chooses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trio_graphile import Client, Database, JobContext, OptionInvalid, TaskRegistry, parse_crontab
from trio_graphile.testing import add_cron_jobs, run_until_empty

CRONTAB = parse_crontab("""
0 4 * * *      tidy     ?id=nightly&priority=5
0 4 * * mon    tidy     ?id=weekly      {rooms: 3}
CRON_TZ=Europe/Paris
30 8 * * *     report
""")
MONDAY = datetime(2024, 4, 29, 4, tzinfo=UTC)


async def test_the_jobs_are_those_of_the_entries_that_are_due(database: Database) -> None:
    jobs = await add_cron_jobs(database, CRONTAB, at=MONDAY)
    stamp = {"_cron": {"ts": "2024-04-29T04:00:00.000Z", "backfilled": False}}
    assert [(job.payload, job.priority) for job in jobs] == [(stamp, 5), ({"rooms": 3, **stamp}, 0)]
    assert {job.run_at for job in jobs} == {MONDAY}
    assert [
        job.priority for job in await add_cron_jobs(database, CRONTAB, at=MONDAY + timedelta(days=1))
    ] == [5]


async def test_a_time_counts_to_the_minute_and_in_the_zone_of_the_entry(database: Database) -> None:
    client = Client(database)
    at = datetime(2024, 7, 1, 6, 30, 59, tzinfo=UTC)
    assert [job.task_identifier for job in await add_cron_jobs(client, CRONTAB, at=at)] == ["report"]
    assert await add_cron_jobs(client, CRONTAB, at=at + timedelta(minutes=1)) == []


async def test_a_job_of_the_future_runs_at_its_time(database: Database) -> None:
    seen: list[str] = []
    tasks = TaskRegistry()

    @tasks.task("report")
    async def report(context: JobContext) -> None:
        seen.append(context.job.payload["_cron"]["ts"])

    at = datetime(2999, 1, 1, 7, 30, tzinfo=UTC)
    await add_cron_jobs(database, CRONTAB, at=at)
    assert await run_until_empty(database, tasks) == []
    await run_until_empty(database, tasks, until=at)
    assert seen == ["2999-01-01T07:30:00.000Z"]


async def test_a_time_needs_a_zone(database: Database) -> None:
    with pytest.raises(OptionInvalid, match="has no time zone"):
        await add_cron_jobs(database, CRONTAB, at=datetime(2024, 1, 1))  # noqa: DTZ001


async def test_another_kind_of_value_is_refused(database: Database) -> None:
    wrong: Any = "* * * * * tidy"
    with pytest.raises(OptionInvalid, match=r"^crontab: entries are needed, by parse_crontab"):
        await add_cron_jobs(database, wrong, at=MONDAY)
    with pytest.raises(OptionInvalid, match=r"^where: .*, such as Client\(database\), not a value of"):
        await add_cron_jobs(wrong, CRONTAB, at=MONDAY)
    with pytest.raises(OptionInvalid, match=r"^at: a datetime is needed, not a value of the type str$"):
        await add_cron_jobs(database, CRONTAB, at=wrong)
