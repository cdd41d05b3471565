"""Recurring jobs: read from a text and made in code. A day takes a few seconds here.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs
import trio
from example_database import database_url

from trio_graphile import (
    Client,
    Cron,
    CrontabInvalid,
    Database,
    JobContext,
    JobKeyMode,
    JobSpec,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    parse_crontab,
)

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Report:
    to: str


@tasks.task("send_report")
def send_report(report: Report, context: JobContext) -> None:
    say(context, f"a report for {report.to}")


@tasks.task("clean_up")
def clean_up(context: JobContext) -> None:
    say(context, "clean up")


CRONTAB = """
# minute hour day month weekday  task  ?options  {payload}
0 */6 * * *                  clean_up     ?fill=1d
CRON_TZ=Europe/Paris
0 8,17 * * mon-fri           send_report  ?id=workdays {to: 'ada'}
"""
MISTAKEN = """
0 8 * * mun-fri send_report {to: 'ada'}
0 25 * * * clean_up ?fil=1d
"""


def say(context: JobContext, what: str) -> None:
    late = " (made up for)" if context.job.payload["_cron"]["backfilled"] else ""
    print(f"  {context.job.run_at:%a %H:%M} UTC: {what}{late}")


@attrs.frozen
class FastClock:
    """Shows a day of the year 2024 in two seconds; without it, a worker goes by the clock of its machine."""

    starts_at: datetime
    began: float = attrs.field(factory=trio.current_time)
    pace: float = 43_200.0

    def now(self) -> datetime:
        return self.starts_at + timedelta(seconds=(trio.current_time() - self.began) * self.pace)

    async def wait_until(self, at: datetime) -> None:
        await trio.sleep(max((at - self.now()).total_seconds(), 0) / self.pace)


async def main() -> None:
    logging.getLogger("trio_graphile").setLevel(logging.ERROR)  # a minute lasts a millisecond: cron is late

    try:
        parse_crontab(MISTAKEN, source="mistaken")
    except CrontabInvalid as error:
        print(f"A crontab with mistakes says all of them:\n{error}")

    # With a key, a report that still waits for a worker at the next noon is replaced, not doubled.
    once = JobSpec(job_key="report at noon", job_key_mode=JobKeyMode.PRESERVE_RUN_AT)
    noon = Cron.daily_at(send_report, hour=12, payload=Report(to="grace"), spec=once)
    items = [*parse_crontab(CRONTAB), noon]
    async with database_url() as url, open_database(url) as database:
        await Client(database).migrate()
        await forget(database, [item.identifier for item in items])
        for weekday, day in (("Monday", 1), ("Wednesday", 3)):
            print(f"A worker that runs all {weekday}:")
            clock = FastClock(datetime(2024, 1, day, tzinfo=UTC))
            worker = Worker(database, tasks, WorkerOptions(), crontab=items, clock=clock)
            with trio.move_on_after(2):
                await worker.run()


async def forget(database: Database, identifiers: Sequence[str]) -> None:
    """An earlier run of this program has added the jobs of these two days already."""
    sql = f'delete from "{database.schema}"._private_known_crontabs where identifier = any($1::text[])'
    await database.execute(sql, identifiers)


if __name__ == "__main__":
    trio.run(main)
