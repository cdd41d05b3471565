"""Adding so many jobs that they are sent in several statements."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest
import trio

from tests.support.tables import stored
from trio_graphile import (
    Client,
    Database,
    DuplicateJobKey,
    JobKeyMode,
    JobSpec,
    OptionInvalid,
    PayloadInvalid,
    StatementFailed,
)


async def test_ten_thousand_jobs_are_added_and_the_planner_is_told(
    client: Client, database: Database
) -> None:
    jobs = await client.add_raw_jobs([("t", n) for n in range(10_000)])
    assert [job.payload for job in jobs] == list(range(10_000))
    estimate = await database.fetch_value(
        "select reltuples::integer from pg_class where oid = 'graphile_worker._private_jobs'::regclass"
    )
    assert estimate == 10_000


LATE = 12_000
"""After some of the jobs before it have been sent."""


@pytest.mark.parametrize(
    ("late", "error"),
    [
        (("t", float("nan")), PayloadInvalid),
        (("t", None, JobSpec(job_key="first")), DuplicateJobKey),
        (("t", None, JobSpec(job_key_mode=JobKeyMode.UNSAFE_DEDUPE)), OptionInvalid),
        (("t", "refused"), StatementFailed),
    ],
)
async def test_a_late_mistake_keeps_all_from_being_added(
    client: Client, database: Database, late: Any, error: type[Exception]
) -> None:
    await database.execute(
        """
        alter table graphile_worker._private_jobs add constraint none_refused
        check (payload::text <> '"refused"')
        """
    )
    jobs: list[Any] = [("t", None, JobSpec(job_key="first"))] + [("t", None)] * LATE
    jobs[LATE - 1] = late
    with pytest.raises(error):
        await client.add_raw_jobs(jobs)
    async with database.transaction() as connection:
        with pytest.raises(error):
            await client.using(connection).add_raw_jobs(jobs)
        await client.using(connection).add_raw_job("t", "other")
    assert [payload for _, _, payload in await stored(database)] == ['"other"']


@attrs.frozen
class Cancelling:
    """A task whose late payload cancels whoever adds it, when others were sent already."""

    scope: trio.CancelScope  # noqa: TID251  # never a shield
    identifier: str = "t"

    def to_json(self, payload: int) -> str:
        if payload == LATE - 1:
            self.scope.cancel()
        return str(payload)

    def from_json(self, text: str) -> int:
        return int(text)

    def complete_spec(self, spec: JobSpec) -> JobSpec:
        return spec


async def test_many_jobs_that_are_not_wanted_any_more_leave_nothing(
    client: Client, database: Database
) -> None:
    with trio.move_on_after(60) as scope:
        await client.add_jobs([(Cancelling(scope), n) for n in range(LATE)])
    assert scope.cancelled_caught
    assert await stored(database) == []


FAIL_TO_BE_ANALYZED = """
    create function graphile_worker.not_now(id bigint) returns bigint language plpgsql immutable as $$
    begin
      if current_query() like 'analyze%' then
        raise exception 'not now';
      end if;
      return id;
    end
    $$;
    create index on graphile_worker._private_jobs (graphile_worker.not_now(id));
"""


async def test_a_failed_analysis_is_only_logged(
    client: Client, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute(FAIL_TO_BE_ANALYZED)
    with caplog.at_level(logging.WARNING, logger="trio_graphile.client"):
        jobs = await client.add_raw_jobs([("t", None)] * 10_000)
    assert len(jobs) == 10_000
    assert [record.getMessage() for record in caplog.records] == [
        "the jobs table could not be analyzed: not now"
    ]


COUNT_INSERTS = """
    create table inserts (rows bigint);
    create function count_insert() returns trigger language plpgsql as $$
    begin
      insert into inserts select count(*) from added where payload::text like '"%';
      return null;
    end $$;
    create trigger count_inserts after insert on graphile_worker._private_jobs
      referencing new table as added for each statement execute function count_insert();
"""


@pytest.mark.parametrize("queues", [(None, None), ("a", None)], ids=["alike", "unlike"])
async def test_large_payloads_are_sent_in_several_statements(
    client: Client, database: Database, queues: tuple[str | None, str | None]
) -> None:
    """PostgreSQL takes no value of a gigabyte, which all payloads of a statement are together."""
    await database.execute(COUNT_INSERTS)
    text = "x" * 9_000_000
    added = await client.add_raw_jobs([("many", text, JobSpec(queue_name=queues[n % 2])) for n in range(5)])
    assert [row["rows"] for row in await database.fetch("select * from inserts where rows > 0")] == [3, 2]
    assert [job.queue_name for job in added] == [queues[n % 2] for n in range(5)]
    assert [job.id for job in added] == sorted(job.id for job in added)
